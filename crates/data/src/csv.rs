//! Rows from comma-separated values with a header.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use ::csv::{Position, ReaderBuilder, StringRecord};

use crate::byte_order_mark::without_mark;
use crate::config::DataConfig;
use crate::data_file::Compression;
use crate::error::DataError;
use crate::jsonl::require_utf8;
use crate::label_list::in_a_list;
use crate::row::{LabelPolicy, Place, RawLabel, Row};
use crate::unread_columns::ColumnTally;

/// Reads comma-separated values with a header, quoted as RFC 4180 says.
///
/// Every label is [`RawLabel::Text`], or a list of such; an empty cell is no label, or an empty list.
///
/// # Errors
/// When reading fails, a record has another number of fields than the header, or a column is missing.
pub(crate) fn read_csv(
    reader: impl Read,
    file: &Arc<Path>,
    config: &DataConfig,
    labels: LabelPolicy,
    tally: &mut ColumnTally,
) -> Result<Vec<Row>, DataError> {
    let mut rows = Vec::new();
    let begin = |header: &StringRecord| {
        require_once(header, |name| config.reads(name), file)?;
        let columns = Columns::find(header, file, config, labels)?;
        Ok((columns, header.clone()))
    };
    for_each_record(reader, file, begin, |(columns, header), record, place| {
        rows.push(columns.row(record, place, config, labels)?);
        for (name, cell) in header.iter().zip(record) {
            tally.see(name, config.reads(name), usize::from(!cell.is_empty()));
        }
        Ok(())
    })?;
    Ok(rows)
}

/// Hands over the header, then each record with what `begin` made of the header and its place; of an
/// empty file, nothing.
///
/// # Errors
/// When reading fails, a record has another number of fields than the header, or `begin` or `take`
/// fails.
pub(crate) fn for_each_record<Columns>(
    mut reader: impl Read,
    file: &Arc<Path>,
    begin: impl FnOnce(&StringRecord) -> Result<Columns, DataError>,
    mut take: impl FnMut(&Columns, &StringRecord, Place) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let mut content = Vec::new();
    reader
        .read_to_end(&mut content)
        .map_err(|source| DataError::Io {
            path: file.to_path_buf(),
            source,
        })?;
    require_utf8(&content, 1, file)?;
    let mut lines = Lines::new(&content, file);
    let mut reader = ReaderBuilder::new()
        .delimiter(separator(&content, is_tsv(file)))
        .from_reader(content.as_slice());
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(source) => return Err(lines.malformed(source)),
    };
    if header.is_empty() {
        return Ok(());
    }
    let columns = begin(&header)?;
    for record in reader.records() {
        let record = record.map_err(|source| lines.malformed(source))?;
        let place = lines.place(record.position());
        take(&columns, &record, place)?;
    }
    Ok(())
}

/// Refuses a table of which a column that is read has the name of another.
///
/// # Errors
/// If there is one.
pub(crate) fn require_once(
    header: &StringRecord,
    is_read: impl Fn(&str) -> bool,
    file: &Path,
) -> Result<(), DataError> {
    let is_twice = |name: &&str| header.iter().filter(|other| other == name).count() > 1;
    match header.iter().filter(|name| is_read(name)).find(is_twice) {
        None => Ok(()),
        Some(name) => Err(DataError::ColumnTwice {
            path: file.to_owned(),
            column: name.to_owned(),
        }),
    }
}

/// Whether the name says that tabs separate the cells.
pub(crate) fn is_tsv(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| Compression::split_name(name).0.ends_with(".tsv"))
}

/// What separates the cells: a comma, or where the header has none, a tab or a semicolon that it has;
/// of a `.tsv` a tab first, as its column names may have commas. A header with none of them is one
/// column, and more are put behind it as the name says.
pub(crate) fn separator(content: &[u8], is_tsv: bool) -> u8 {
    // The reader skips blank lines before the header too.
    let mut lines = without_mark(content).split(|byte| b"\r\n".contains(byte));
    let header = lines.find(|line| !line.is_empty()).unwrap_or(content);
    let candidates = match is_tsv {
        true => [b'\t', b',', b';'],
        false => [b',', b'\t', b';'],
    };
    let mut present = candidates
        .into_iter()
        .filter(|separator| header.contains(separator));
    present.next().unwrap_or(candidates[0])
}

/// Where the columns wanted stand in the header.
struct Columns {
    text: usize,
    text_pair: Option<usize>,
    label: Option<usize>,
}

impl Columns {
    fn find(
        header: &StringRecord,
        file: &Arc<Path>,
        config: &DataConfig,
        labels: LabelPolicy,
    ) -> Result<Self, DataError> {
        let position = |column: &str| header.iter().position(|name| name == column);
        let required = |setting: &str, column: &str| {
            position(column).ok_or_else(|| {
                let place = Place {
                    file: Arc::clone(file),
                    line: 1,
                };
                DataError::missing_column(place, setting, column, header.iter())
            })
        };
        Ok(Self {
            text: required("data.text", &config.text)?,
            text_pair: config
                .text_pair
                .as_ref()
                .map(|column| required("data.text_pair", column))
                .transpose()?,
            label: match labels {
                LabelPolicy::Required | LabelPolicy::Lists => {
                    Some(required("data.label", &config.label)?)
                }
                LabelPolicy::Optional => position(&config.label),
            },
        })
    }

    /// The reader has checked that every record has as many fields as the header.
    fn row(
        &self,
        record: &StringRecord,
        place: Place,
        config: &DataConfig,
        labels: LabelPolicy,
    ) -> Result<Row, DataError> {
        let label = self
            .label
            .map(|column| &record[column])
            // An empty cell is no label, or a list without any.
            .filter(|cell| !cell.is_empty() || labels == LabelPolicy::Lists)
            .map(|cell| RawLabel::Text(cell.to_owned()));
        if label.is_none() && labels.is_required() {
            return Err(DataError::MissingLabel { place });
        }
        let label = in_a_list(label, config, labels, &place)?;
        Ok(Row {
            text: record[self.text].to_owned(),
            text_pair: self.text_pair.map(|column| record[column].to_owned()),
            label,
            place,
        })
    }
}

/// Counts lines up to a record.
///
/// The reader's own count lags behind after `\r\n` and blank lines, because it takes them for the
/// beginning of the next record.
struct Lines<'a> {
    content: &'a [u8],
    file: &'a Arc<Path>,
    counted: usize,
    line: usize,
}

impl<'a> Lines<'a> {
    fn new(content: &'a [u8], file: &'a Arc<Path>) -> Self {
        Self {
            content,
            file,
            counted: 0,
            line: 1,
        }
    }

    /// Where the record that begins at `position` is; positions must not go backwards.
    fn place(&mut self, position: Option<&Position>) -> Place {
        let start = position.map_or(0, Position::byte);
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        while let Some(byte) = self.content.get(self.counted) {
            if self.counted >= start && !matches!(byte, b'\r' | b'\n') {
                break;
            }
            self.line += usize::from(*byte == b'\n');
            self.counted += 1;
        }
        Place {
            file: Arc::clone(self.file),
            line: self.line,
        }
    }

    fn malformed(&mut self, source: ::csv::Error) -> DataError {
        let place = self.place(source.position());
        DataError::MalformedCsv { place, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &str, labels: LabelPolicy) -> Result<Vec<Row>, DataError> {
        let file: Arc<Path> = Path::new("train.csv").into();
        let config = DataConfig::new("unused");
        let mut tally = ColumnTally::default();
        read_csv(content.as_bytes(), &file, &config, labels, &mut tally)
    }

    fn error(content: &str) -> String {
        read(content, LabelPolicy::Required)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn quoted_cells_keep_commas_quotes_and_line_breaks() {
        let content = "\u{feff}label,text\nx,\"one, \"\"two\"\"\nthree\"\n7,plain\n";
        for content in [content.to_owned(), content.replace('\n', "\r\n")] {
            let rows = read(&content, LabelPolicy::Required).unwrap();
            assert_eq!(rows[0].text.replace("\r\n", "\n"), "one, \"two\"\nthree");
            assert_eq!(rows[0].label, Some(RawLabel::Text("x".to_owned())));
            assert_eq!(rows[1].label, Some(RawLabel::Text("7".to_owned())));
            assert_eq!((rows[0].place.line, rows[1].place.line), (2, 4));
        }
    }

    #[test]
    fn semicolons_and_tabs_separate_where_the_header_has_no_comma() {
        for separator in [";", "\t"] {
            let content = format!("text{separator}label\n\"a, b{separator}\"{separator}x\n");
            let rows = read(&content, LabelPolicy::Required).unwrap();
            assert_eq!(rows[0].text, format!("a, b{separator}"));
            assert_eq!(rows[0].label, Some(RawLabel::Text("x".to_owned())));
        }
        let rows = read("\n\r\ntext;label\na;x\n", LabelPolicy::Required).unwrap();
        assert_eq!(rows[0].text, "a");
        let rows = read("text,label;old\na;b,x\n", LabelPolicy::Optional).unwrap();
        assert_eq!(rows[0].text, "a;b");
    }

    #[test]
    fn the_header_of_a_tsv_may_have_commas() {
        let content = "text\tlabel\tyes, or no\na, b\tx\t1\n";
        for name in ["train.tsv", "train.tsv.gz"] {
            let file: Arc<Path> = Path::new(name).into();
            let config = DataConfig::new("unused");
            let (labels, mut tally) = (LabelPolicy::Required, ColumnTally::default());
            let rows = read_csv(content.as_bytes(), &file, &config, labels, &mut tally);
            let rows = rows.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(rows[0].text, "a, b");
            assert_eq!(rows[0].label, Some(RawLabel::Text("x".to_owned())));
        }
    }

    #[test]
    fn a_column_that_is_read_is_there_once() {
        let message = error("text,label,text\na,x,b\n");
        assert!(message.contains("has two columns `text`"), "{message}");
        let rows = read("text,label,,\na,x,,\n", LabelPolicy::Required).unwrap();
        assert_eq!(rows[0].text, "a");
    }

    #[test]
    fn blank_lines_are_skipped_and_count() {
        let rows = read("text,label\n\na,x\n\n\nb,y\n", LabelPolicy::Required).unwrap();
        assert_eq!((rows[0].place.line, rows[1].place.line), (3, 6));
    }

    #[test]
    fn a_record_of_another_length_names_its_line() {
        let message = error("text,label\r\na,x\r\nb,y,z\r\n");
        assert_eq!(message, "train.csv:3: malformed CSV");
    }

    #[test]
    fn a_missing_column_names_the_header() {
        let message = error("sentence,label\na,x\n");
        let expected =
            "train.csv:1: there is no column `text`; found `sentence`, `label`; set `data.text`";
        assert!(message.starts_with(expected), "{message}");
    }

    #[test]
    fn labels_may_be_absent_only_when_allowed() {
        let rows = read("text,label\na,\nb,x\n", LabelPolicy::Optional).unwrap();
        assert_eq!(rows[0].label, None);
        assert_eq!(rows[1].label, Some(RawLabel::Text("x".to_owned())));
        let rows = read("text\na\n", LabelPolicy::Optional).unwrap();
        assert_eq!(rows[0].label, None);

        let message = error("text,label\nb,x\na,\n");
        assert!(message.starts_with("train.csv:3: the row has no label"));
        assert!(error("text\na\n").contains("there is no column `label`"));
    }

    #[test]
    fn cells_of_several_labels_are_lists_which_may_be_empty() {
        let rows = read("text,label\na,x | y\nb,\nc,x\n", LabelPolicy::Lists).unwrap();
        let labels = rows
            .iter()
            .map(|row| row.label.as_ref().unwrap().to_string());
        assert_eq!(labels.collect::<Vec<_>>(), ["[x, y]", "[]", "[x]"]);
    }

    #[test]
    fn an_empty_file_has_no_rows() {
        assert!(read("", LabelPolicy::Required).unwrap().is_empty());
    }
}
