//! A table of rows to predict for, which is written back with the predictions: JSON lines, CSV and
//! parquet come out in the format in which they went in, every column as it was.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use ::csv::StringRecord;
use serde_json::{Map, Number, Value};

use crate::byte_order_mark::without_mark;
use crate::config::DataConfig;
use crate::csv_source::CsvSource;
use crate::data_file::{Compression, DataFile};
use crate::error::{DataError, quoted};
use crate::json_source::JsonSource;
use crate::language_columns::Layout;
use crate::language_row::{LanguageRow, RowReader};
use crate::parquet_file::ParquetFile;
use crate::parquet_records::Bytes;
use crate::prediction_error::PredictionError;
use crate::row::{Place, Row};
use crate::row_images::RowImages;
use crate::split::Format;
use crate::{csv, jsonl, parquet_records, parquet_with_columns};

/// Rows that a file holds, of any columns.
pub struct PredictionTable {
    path: Arc<Path>,
    kind: Kind,
    rows: Vec<(Map<String, Value>, Place)>,
}

/// What has to be known beside the rows to write the file again.
enum Kind {
    JsonLines(JsonSource),
    /// One array of all rows.
    JsonArray(JsonSource),
    Csv(CsvSource),
    Parquet {
        columns: Vec<String>,
    },
}

/// A column of predictions, one of each row.
#[derive(Clone, Debug, PartialEq)]
pub struct PredictedColumn {
    pub name: String,
    pub values: PredictedValues,
}

/// Predictions of one type.
#[derive(Clone, Debug, PartialEq)]
pub enum PredictedValues {
    Texts(Vec<String>),
    Numbers(Vec<f64>),
}

impl PredictionTable {
    /// Whether the name of a file says that it holds a table.
    pub fn is_one(path: &Path) -> bool {
        named(path).is_some()
    }

    /// Reads a table.
    ///
    /// Of a parquet file only the columns that `config` may ask for are read: the others may be of any
    /// type.
    ///
    /// # Errors
    /// When the file cannot be read, is not what its name says, or has no rows.
    pub fn read(path: &Path, config: &DataConfig) -> Result<Self, DataError> {
        let file = DataFile::open(path)?;
        let path: Arc<Path> = path.into();
        let mut rows = Vec::new();
        let mut keep = |columns, place| {
            rows.push((columns, place));
            Ok(())
        };
        let kind = match file {
            DataFile::Json(reader) => {
                let content = whole(reader, &path)?;
                jsonl::for_each_object(content.as_slice(), &path, keep)?;
                let is_array = content.iter().find(|byte| b"[{".contains(byte)) == Some(&b'[');
                let source = JsonSource::new(without_mark(&content).to_vec());
                match is_array {
                    true => Kind::JsonArray(source),
                    false => Kind::JsonLines(source),
                }
            }
            DataFile::Csv(reader) => {
                let content = whole(reader, &path)?;
                let mut source = CsvSource::new(&content, csv::is_tsv(&path));
                let (header, records) = (&mut source.header, &mut source.records);
                let begin = |found: &StringRecord| {
                    header.clone_from(found);
                    let names: Vec<&str> = found.iter().collect();
                    let wanted = wanted_columns(&names, config);
                    csv::require_once(found, |name| wanted.contains(&name), &path)?;
                    Ok(names.into_iter().map(str::to_owned).collect::<Vec<_>>())
                };
                let reader = content.as_slice();
                csv::for_each_record(reader, &path, begin, |names, record, place| {
                    records.push(record.clone());
                    let cells = names.iter().cloned().zip(record.iter().map(Value::from));
                    keep(cells.collect(), place)
                })?;
                Kind::Csv(source)
            }
            DataFile::Parquet(file) => {
                let file = ParquetFile::new(file, &path)?;
                let names = file.column_names();
                let wanted = wanted_columns(&names, config);
                let is_wanted = |name: &str| wanted.contains(&name);
                parquet_records::for_each_record(&file, is_wanted, Bytes::of(config), keep)?;
                Kind::Parquet {
                    columns: names.into_iter().map(str::to_owned).collect(),
                }
            }
        };
        match rows.is_empty() {
            true => Err(PredictionError::NoRows {
                path: path.to_path_buf(),
            }
            .into()),
            false => Ok(Self { path, kind, rows }),
        }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it has no rows, which no table has that was read.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Refuses a stream for a file that is not text.
    ///
    /// # Errors
    /// If the table is parquet.
    pub fn require_text(&self) -> Result<(), DataError> {
        match self.kind {
            Kind::Parquet { .. } => Err(PredictionError::ParquetToStream {
                path: self.path.to_path_buf(),
            }
            .into()),
            _ => Ok(()),
        }
    }

    /// The rows as texts or pairs, by the columns that the configuration names. Labels are not read.
    ///
    /// # Errors
    /// When a column is missing, or is no text.
    pub fn texts(&self, config: &DataConfig) -> Result<Vec<Row>, DataError> {
        let row = |(columns, place): &(Map<String, Value>, Place)| {
            let text = self.string(columns, "data.text", &config.text, place)?;
            let pair = config.text_pair.as_ref();
            let pair = pair.map(|column| self.string(columns, "data.text_pair", column, place));
            Ok(Row {
                text,
                text_pair: pair.transpose()?,
                label: None,
                place: place.clone(),
            })
        };
        self.rows.iter().map(row).collect()
    }

    /// The rows as paths of images, by the column that the configuration names.
    ///
    /// # Errors
    /// When the column is missing, or holds something other than paths.
    pub fn image_paths(&self, config: &DataConfig) -> Result<Vec<(String, Place)>, DataError> {
        let path = |(columns, place): &(Map<String, Value>, Place)| {
            let path = self.string(columns, "data.image", &config.image, place)?;
            Ok((path, place.clone()))
        };
        self.rows.iter().map(path).collect()
    }

    /// The rows as prompts of a language model: in the forms of training, of which the answer may be
    /// missing and is not shown to the model.
    ///
    /// # Errors
    /// When the columns make no known form, or a row is not as `config` says.
    pub fn prompts(&self, config: &DataConfig) -> Result<Vec<LanguageRow>, DataError> {
        let Some((first, place)) = self.rows.first() else {
            return Ok(Vec::new());
        };
        let own: Vec<&str> = match &self.kind {
            Kind::Parquet { columns } => columns.iter().map(String::as_str).collect(),
            _ => first.keys().map(String::as_str).collect(),
        };
        let mut found = own.clone();
        found.extend(Layout::answer_columns(config));
        let layout = Layout::resolve(&found, config, place).or_else(|error| {
            // An error must not name columns that the table does not have.
            Layout::resolve(&own, config, place).and(Err(error))
        });
        let reader = RowReader::new(layout?, config)?;
        let rows = self.rows.iter();
        rows.map(|(columns, place)| reader.prompt(columns, place.clone()))
            .collect()
    }

    /// The text in a column of a row.
    ///
    /// # Errors
    /// When there is no such column, which names those of the file, or it is no text.
    fn string(
        &self,
        row: &Map<String, Value>,
        setting: &str,
        column: &str,
        place: &Place,
    ) -> Result<String, DataError> {
        match &self.kind {
            // Its rows have only the columns that may be asked for.
            Kind::Parquet { columns } if !row.contains_key(column) => {
                let found = columns.iter().map(String::as_str);
                let place = place.clone();
                Err(DataError::missing_column(place, setting, column, found))
            }
            _ => jsonl::string(row, setting, column, place),
        }
    }

    /// Refuses predictions under a name that the table has already.
    ///
    /// # Errors
    /// If there is one.
    pub fn require_free(&self, names: &[&str]) -> Result<(), DataError> {
        let own = self.column_names();
        match names.iter().find(|name| own.iter().any(|own| own == *name)) {
            None => Ok(()),
            Some(name) => Err(PredictionError::ColumnTaken {
                path: self.path.to_path_buf(),
                column: (*name).to_owned(),
                found: quoted(&own),
            }
            .into()),
        }
    }

    fn column_names(&self) -> Vec<String> {
        match &self.kind {
            Kind::Csv(source) => source.header.iter().map(str::to_owned).collect(),
            Kind::Parquet { columns } => columns.clone(),
            Kind::JsonLines(_) | Kind::JsonArray(_) => {
                let mut names: Vec<String> = Vec::new();
                for name in self.rows.iter().flat_map(|(columns, _)| columns.keys()) {
                    if !names.contains(name) {
                        names.push(name.clone());
                    }
                }
                names
            }
        }
    }

    /// The file with `predictions` behind its columns.
    ///
    /// # Errors
    /// When the file of the rows is parquet and cannot be read again.
    pub fn with_predictions(&self, predictions: &[PredictedColumn]) -> Result<Vec<u8>, DataError> {
        let fields = |row: usize| {
            let fields = predictions.iter();
            fields
                .map(|column| (column.name.clone(), column.values.json(row)))
                .collect()
        };
        match &self.kind {
            Kind::JsonLines(source) => Ok(source.lines_with(fields)),
            Kind::JsonArray(source) => Ok(source.whole_with(fields)),
            Kind::Csv(source) => source.with_columns(predictions).map_err(|source| {
                let path = self.path.to_path_buf();
                PredictionError::Write { path, source }.into()
            }),
            Kind::Parquet { .. } => {
                let mut out = Vec::new();
                let written = parquet_with_columns::write(&self.path, predictions, &mut out);
                written.map_err(|source| DataError::MalformedParquet {
                    path: self.path.to_path_buf(),
                    source,
                })?;
                Ok(out)
            }
        }
    }

    /// Such a file as it lies on the disk: compressed, if that of the rows is.
    ///
    /// # Errors
    /// If compressing fails.
    pub fn compressed(&self, content: Vec<u8>) -> Result<Vec<u8>, DataError> {
        let compressed = match named(&self.path).and_then(|(_, compression, _)| compression) {
            None => Ok(content),
            Some(compression) => compression.compress(&content),
        };
        compressed.map_err(|source| {
            PredictionError::Write {
                path: self.path.to_path_buf(),
                source,
            }
            .into()
        })
    }

    /// Refuses a file whose name says another format than that of the table.
    ///
    /// # Errors
    /// If it does.
    pub fn require_same_format(&self, out: &Path) -> Result<(), DataError> {
        match named(out).is_some() && named(out) == named(&self.path) {
            true => Ok(()),
            false => Err(PredictionError::OtherFormat {
                out: out.to_owned(),
                input: self.path.to_path_buf(),
            }
            .into()),
        }
    }
}

impl PredictedValues {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Numbers(numbers) => numbers.len(),
        }
    }

    fn json(&self, row: usize) -> Value {
        match self {
            Self::Texts(texts) => Value::from(texts[row].as_str()),
            Self::Numbers(numbers) => {
                Number::from_f64(numbers[row]).map_or(Value::Null, Value::Number)
            }
        }
    }

    pub(crate) fn text(&self, row: usize) -> String {
        match self {
            Self::Texts(texts) => texts[row].clone(),
            Self::Numbers(numbers) => numbers[row].to_string(),
        }
    }
}

/// The columns of a parquet file that a configuration may ask for.
fn wanted_columns<'n>(names: &[&'n str], config: &DataConfig) -> Vec<&'n str> {
    let place = Place {
        file: Path::new("").into(),
        line: 0,
    };
    let mut with_answers = names.to_vec();
    with_answers.extend(Layout::answer_columns(config));
    let layout = Layout::resolve(&with_answers, config, &place).ok();
    let named = [
        Some(&config.text),
        config.text_pair.as_ref(),
        Some(&config.image),
    ];
    let images = RowImages::new(config);
    let is_wanted = |name: &&str| {
        images.as_ref().is_some_and(|images| images.reads(name))
            || layout.as_ref().is_some_and(|layout| layout.reads(name))
            || named.into_iter().flatten().any(|key| key == name)
    };
    names.iter().copied().filter(is_wanted).collect()
}

/// The format, the compression and the separator that the name of a file says.
fn named(path: &Path) -> Option<(Format, Option<Compression>, bool)> {
    let (_, format, compression) = Format::split_name(path.file_name()?.to_str()?)?;
    Some((format, compression, csv::is_tsv(path)))
}

fn whole(mut file: impl Read, path: &Path) -> Result<Vec<u8>, DataError> {
    let mut content = Vec::new();
    file.read_to_end(&mut content)
        .map_err(|source| DataError::Io {
            path: path.to_owned(),
            source,
        })?;
    Ok(content)
}

#[cfg(test)]
#[path = "prediction_table_tests.rs"]
mod tests;
