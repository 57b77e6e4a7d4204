//! The rows of a split or of a file, by the format that the file's name says.

use std::path::Path;
use std::sync::Arc;

use crate::config::DataConfig;
use crate::data_file::DataFile;
use crate::error::{DataError, quoted};
use crate::row::{LabelPolicy, Row};
use crate::split::Split;
use crate::split_files::{SplitFiles, find_split};
use crate::unread_columns::ColumnTally;
use crate::{csv, jsonl, parquet};

/// The rows of a split with a text or two and a label each.
#[derive(Clone, Debug, PartialEq)]
pub struct TextSplit {
    pub rows: Vec<Row>,
    /// The columns that are not read, each with how many rows have something in it.
    pub unread: Vec<(String, usize)>,
}

/// Reads the rows of a split as [`read_text_split`] does, and no more of them.
///
/// # Errors
/// As [`read_text_split`].
pub fn read_split(
    dir: &Path,
    split: Split,
    config: &DataConfig,
    labels: LabelPolicy,
) -> Result<Vec<Row>, DataError> {
    Ok(read_text_split(dir, split, config, labels)?.rows)
}

/// Reads the rows of a split, its shards one after the other.
///
/// `dir` holds `train`, `validation` (or `valid`, `val`, `dev`) and `test` as `.jsonl`, `.csv` or
/// `.parquet`, each whole or in shards named `train-00000-of-00002.parquet`.
///
/// # Errors
/// When the split is missing, ambiguous, incomplete or empty, or a row is not as `config` says.
pub fn read_text_split(
    dir: &Path,
    split: Split,
    config: &DataConfig,
    labels: LabelPolicy,
) -> Result<TextSplit, DataError> {
    let SplitFiles { files, card } = find_split(dir, split, config)?;
    let (mut rows, mut columns) = (Vec::new(), ColumnTally::default());
    for file in &files {
        rows.extend(read_counting(file, config, labels, &mut columns)?);
    }
    if rows.is_empty() {
        let names: Vec<_> = files.iter().map(|file| file.to_string_lossy()).collect();
        return Err(DataError::EmptySplit {
            split,
            files: quoted(&names),
        });
    }
    card.name_classes(&mut rows, config, labels)?;
    Ok(TextSplit {
        rows,
        unread: columns.into_unread(),
    })
}

/// Reads the rows of one file, whose extension says its format; none is not an error here.
///
/// # Errors
/// When the file cannot be read, its extension is unknown, or a row is not as `config` says.
pub fn read_file(
    path: &Path,
    config: &DataConfig,
    labels: LabelPolicy,
) -> Result<Vec<Row>, DataError> {
    read_counting(path, config, labels, &mut ColumnTally::default())
}

/// The same, with a count of what the columns hold.
pub(crate) fn read_counting(
    path: &Path,
    config: &DataConfig,
    labels: LabelPolicy,
    columns: &mut ColumnTally,
) -> Result<Vec<Row>, DataError> {
    let file = DataFile::open(path)?;
    let path: Arc<Path> = path.into();
    match file {
        DataFile::Json(reader) => jsonl::read_counting(reader, &path, config, labels, columns),
        DataFile::Csv(reader) => csv::read_csv(reader, &path, config, labels, columns),
        DataFile::Parquet(file) => parquet::read_parquet(file, &path, config, labels, columns),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::RawLabel;

    #[test]
    fn shards_are_read_as_one_split_and_keep_their_places() {
        let dir = tempfile::tempdir().unwrap();
        for (shard, rows) in [(1, "c,z\n"), (0, "a,x\nb,y\n")] {
            let name = format!("train-0000{shard}-of-00002.csv");
            fs::write(dir.path().join(name), format!("text,label\n{rows}")).unwrap();
        }
        let config = DataConfig::new("unused");
        let rows = read_split(dir.path(), Split::Train, &config, LabelPolicy::Required).unwrap();
        let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
        assert_eq!(texts, ["a", "b", "c"]);
        assert_eq!(rows[2].label, Some(RawLabel::Text("z".to_owned())));
        assert!(rows[2].place.to_string().ends_with("00001-of-00002.csv:2"));
    }

    #[test]
    fn numbers_are_the_classes_that_the_card_names() {
        let dir = tempfile::tempdir().unwrap();
        let card = "---\ndataset_info:\n  features:\n  - {name: label, dtype: {class_label: {names: [pos, neg]}}}\n---\n";
        fs::write(dir.path().join("README.md"), card).unwrap();
        let write = |rows: &str| fs::write(dir.path().join("test.csv"), rows).unwrap();
        let config = DataConfig::new("unused");
        let labels = |policy| {
            let rows = read_split(dir.path(), Split::Test, &config, policy)?;
            let labels = rows.iter().map(|row| row.label.as_ref());
            Ok(labels
                .map(|label| label.map(RawLabel::to_string))
                .collect::<Vec<_>>())
        };
        let words = |words: &[&str]| {
            let words = words.iter().map(|word| Some((*word).to_owned()));
            words.collect::<Vec<_>>()
        };
        write("text,label\na,1\nb,0\nc,pos\n");
        let found = labels(LabelPolicy::Required).map_err(|error: DataError| error.to_string());
        assert_eq!(found.unwrap(), words(&["neg", "pos", "pos"]));
        write("text,label\na,-1\nb,-1\n");
        assert_eq!(labels(LabelPolicy::Required).unwrap(), words(&["-1", "-1"]));
        assert_eq!(labels(LabelPolicy::Optional).unwrap(), [None, None]);
        write("text,label\na,1\nb,-1\n");
        let error = labels(LabelPolicy::Required).unwrap_err().to_string();
        assert!(
            error.contains("test.csv:3: the row has no label"),
            "{error}"
        );
        write("text,label\na,2\n");
        let error = labels(LabelPolicy::Required).unwrap_err().to_string();
        assert!(error.contains("found 2 of 2 classes"), "{error}");
    }

    #[test]
    fn numerals_of_a_table_are_names_where_all_are_and_else_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let card = "---\ndataset_info:\n  features:\n  - {name: label, dtype: {class_label: {names: ['1', '2', '3']}}}\n---\n";
        fs::write(dir.path().join("README.md"), card).unwrap();
        let config = DataConfig::new("unused");
        let labels = |rows: &str| {
            fs::write(dir.path().join("train.csv"), rows).unwrap();
            let rows = read_split(dir.path(), Split::Train, &config, LabelPolicy::Required);
            let labels = rows.unwrap().into_iter().map(|row| row.label.unwrap());
            labels.map(|label| label.to_string()).collect::<Vec<_>>()
        };
        let names = "text,label\na,1\nb,2\nc,3\n";
        assert_eq!(labels(names), ["1", "2", "3"]);
        let numbers = "text,label\na,0\nb,1\nc,2\n";
        assert_eq!(labels(numbers), ["1", "2", "3"]);
    }

    #[test]
    fn columns_that_are_not_read_are_counted_by_the_rows_that_fill_them() {
        let files = [
            (
                "train.csv",
                "text,label,pair,id\na,x,,1\nb,y,c,2\n".to_owned(),
            ),
            (
                "train.jsonl",
                "{\"text\": \"a\", \"label\": 1, \"pair\": null, \"id\": 1}\n\
                 {\"text\": \"b\", \"label\": 2, \"pair\": \"c\", \"id\": 2}\n"
                    .to_owned(),
            ),
        ];
        for (name, content) in files {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(name), content).unwrap();
            let unread = |config: &DataConfig| {
                let split =
                    read_text_split(dir.path(), Split::Train, config, LabelPolicy::Required);
                split.unwrap().unread
            };
            let config = DataConfig::new("unused");
            let expected = [("pair", 1), ("id", 2)].map(|(name, rows)| (name.to_owned(), rows));
            let mut found = unread(&config);
            found.sort_by_key(|(_, rows)| *rows);
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn an_empty_split_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("test.jsonl"), "\n\n").unwrap();
        let config = DataConfig::new("unused");
        let error =
            read_split(dir.path(), Split::Test, &config, LabelPolicy::Required).unwrap_err();
        assert!(matches!(error, DataError::EmptySplit { .. }), "{error}");
    }

    #[test]
    fn a_file_of_another_kind_is_refused() {
        let config = DataConfig::new("unused");
        let error = read_file(Path::new("rows.xlsx"), &config, LabelPolicy::Optional).unwrap_err();
        assert!(matches!(error, DataError::UnknownFormat { .. }), "{error}");
    }
}
