//! The rows of a split for a language model, in any of the forms and file formats that they come
//! in.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::config::DataConfig;
use crate::data_file::DataFile;
use crate::error::{DataError, quoted};
use crate::language_columns::Layout;
use crate::language_error::LanguageError;
use crate::language_format::LanguageFormat;
use crate::language_row::{LanguageRow, RowReader};
use crate::parquet_file::ParquetFile;
use crate::parquet_records::Bytes;
use crate::row::Place;
use crate::split::Split;
use crate::split_files::find_split;
use crate::unread_columns::{ColumnTally, says_something};
use crate::{csv, jsonl, parquet_records};

/// The rows of a split for a language model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LanguageRows {
    pub rows: Vec<LanguageRow>,
    /// The form that they have; nothing where there are none.
    pub format: Option<LanguageFormat>,
    /// The columns that are not read, each with how many rows have something in it.
    pub unread: Vec<(String, usize)>,
}

/// Reads the rows of a split, as [`read_split`](super::read_split) but for a language model.
///
/// The columns of the first row decide the form of all.
///
/// # Errors
/// When the split is missing, ambiguous, incomplete or empty, or a row is not as `config` says.
pub fn read_language_split(
    dir: &Path,
    split: Split,
    config: &DataConfig,
) -> Result<LanguageRows, DataError> {
    let files = find_split(dir, split, config)?.files;
    let mut reader = LanguageReader::new(config);
    for file in &files {
        reader.read(file)?;
    }
    if reader.read.rows.is_empty() {
        let names: Vec<_> = files.iter().map(|file| file.to_string_lossy()).collect();
        return Err(DataError::EmptySplit {
            split,
            files: quoted(&names),
        });
    }
    reader.finish()
}

/// Reads files one after the other, all in the layout of the first.
struct LanguageReader<'a> {
    config: &'a DataConfig,
    row_reader: Option<RowReader>,
    read: LanguageRows,
    columns: ColumnTally,
}

impl<'a> LanguageReader<'a> {
    fn new(config: &'a DataConfig) -> Self {
        Self {
            config,
            row_reader: None,
            read: LanguageRows::default(),
            columns: ColumnTally::default(),
        }
    }

    /// # Errors
    /// When the configuration names a column that no row has.
    fn finish(self) -> Result<LanguageRows, DataError> {
        if let Some(first) = self.read.rows.first() {
            let found = self.columns.names();
            let usual = DataConfig::new("").image;
            let image = Some(("data.image", self.config.image.as_str()));
            let image = image.filter(|(_, column)| self.config.takes_images && *column != usual);
            let named = self.config.columns.named().chain(image);
            if let Some((setting, column)) = { named }.find(|(_, column)| !found.contains(column)) {
                let place = Place {
                    line: 0,
                    ..first.place.clone()
                };
                return Err(DataError::missing_column(place, setting, column, found));
            }
        }
        let format = self.row_reader.map(|reader| reader.layout().format());
        Ok(LanguageRows {
            format,
            unread: self.columns.into_unread(),
            ..self.read
        })
    }

    fn read(&mut self, path: &Path) -> Result<(), DataError> {
        let file = DataFile::open(path)?;
        let path: Arc<Path> = path.into();
        match file {
            DataFile::Json(reader) => {
                jsonl::for_each_object(reader, &path, |columns, place| self.take(columns, place))
            }
            DataFile::Csv(reader) => self.read_csv(reader, &path),
            DataFile::Parquet(file) => self.read_parquet(file, &path),
        }
    }

    fn read_csv(&mut self, content: impl Read, path: &Arc<Path>) -> Result<(), DataError> {
        let reader = &mut *self;
        let begin = |header: &::csv::StringRecord| {
            let names: Vec<String> = header.iter().map(str::to_owned).collect();
            Ok((names, header.clone()))
        };
        csv::for_each_record(content, path, begin, |(names, header), record, place| {
            let found: Vec<&str> = names.iter().map(String::as_str).collect();
            let layout =
                row_reader(&mut reader.row_reader, &found, reader.config, &place)?.layout();
            csv::require_once(header, |name| layout.reads(name), path)?;
            if let Some(column) = layout.list_column() {
                return Err(LanguageError::ListInCsv {
                    place,
                    column: column.to_owned(),
                    format: layout.format(),
                }
                .into());
            }
            let cells = names.iter().cloned().zip(record.iter().map(Value::from));
            reader.take(cells.collect(), place)
        })
    }

    fn read_parquet(&mut self, file: File, path: &Arc<Path>) -> Result<(), DataError> {
        let file = ParquetFile::new(file, path)?;
        let names = file.column_names();
        let place = Place {
            file: Arc::clone(path),
            line: 1,
        };
        let reader = row_reader(&mut self.row_reader, &names, self.config, &place)?;
        let is_wanted = |column: &str| reader.may_read(column);
        let wanted: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| is_wanted(name))
            .collect();
        let is_wanted = |column: &str| wanted.contains(&column);
        let bytes = Bytes::of(self.config);
        parquet_records::for_each_record(&file, is_wanted, bytes, |columns, place| {
            self.take(columns, place)
        })?;
        for name in names {
            if is_wanted(name) {
                // Its rows were counted as they were read.
                self.columns.see(name, true, 0);
                continue;
            }
            let filled = file.filled(name)?;
            let rows = filled.iter().filter(|is_filled| **is_filled).count();
            self.columns.see(name, false, rows);
        }
        Ok(())
    }

    fn take(&mut self, columns: Map<String, Value>, place: Place) -> Result<(), DataError> {
        let found: Vec<&str> = columns.keys().map(String::as_str).collect();
        let reader = row_reader(&mut self.row_reader, &found, self.config, &place)?;
        let row = reader.row(&columns, place)?;
        for (name, value) in &columns {
            let is_read = reader.reads(name, &row.content);
            let rows = usize::from(says_something(value));
            self.columns.see(name, is_read, rows);
        }
        self.read.rows.push(row);
        Ok(())
    }
}

/// The reader of rows, made for the columns of the first.
fn row_reader<'r>(
    reader: &'r mut Option<RowReader>,
    found: &[&str],
    config: &DataConfig,
    place: &Place,
) -> Result<&'r RowReader, DataError> {
    let found = match reader.take() {
        Some(reader) => reader,
        None => RowReader::new(Layout::resolve(found, config, place)?, config)?,
    };
    Ok(reader.insert(found))
}

#[cfg(test)]
#[path = "language_dataset_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "language_images_tests.rs"]
mod images_tests;

#[cfg(test)]
#[path = "language_tools_tests.rs"]
mod tools_tests;
