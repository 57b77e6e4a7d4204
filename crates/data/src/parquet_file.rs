//! An open parquet file: its columns, and its rows one after the other. The readers of texts, of images
//! and of records share it and differ in which columns they want and what they make of a row.
//!
//! Whatever is in the file ends in rows or an error: panics of the library are contained, and a file
//! that would become absurdly large is refused (see [`expansion`](crate::expansion)).

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::FileMetaData;
use ::parquet::file::reader::{FileReader, Length, RowGroupReader, SerializedFileReader};
use ::parquet::record::reader::RowIter;
use ::parquet::record::{Field, Row as Record};
use ::parquet::schema::types::{Type, TypePtr};

use crate::contained::contained;
use crate::error::DataError;
use crate::expansion::Budget;
use crate::parquet_column::{describe, is_label, is_label_list};
use crate::parquet_pages;
use crate::row::{LabelPolicy, Place};

/// A parquet file of which only the metadata has been read.
pub(crate) struct ParquetFile {
    path: Arc<Path>,
    reader: SerializedFileReader<File>,
    /// The same once more, for its pages' headers.
    file: File,
}

/// What a field of a row costs at least.
const BYTES_A_FIELD: u64 = 32;

impl ParquetFile {
    /// - path: what errors call the file
    ///
    /// # Errors
    /// When the file is not parquet.
    pub(crate) fn new(file: File, path: &Arc<Path>) -> Result<Self, DataError> {
        let opened = contained(|| Ok((file.try_clone()?, SerializedFileReader::new(file)?)));
        let (file, reader) = opened.map_err(|source| malformed(path, source))?;
        let path = Arc::clone(path);
        Ok(Self { path, reader, file })
    }

    pub(crate) fn reader(&self) -> &SerializedFileReader<File> {
        &self.reader
    }

    /// Opens a row group and checks the pages of the columns that are to be read.
    ///
    /// # Errors
    /// If it is damaged, or a page would become absurdly large.
    pub(crate) fn row_group(
        &self,
        index: usize,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<Box<dyn RowGroupReader + '_>, ParquetError> {
        let group = self.reader.get_row_group(index)?;
        for chunk in group.metadata().columns() {
            let column = chunk.column_path().parts().first();
            if column.is_some_and(|column| is_wanted(column)) {
                parquet_pages::check(&self.file, chunk)?;
            }
        }
        Ok(group)
    }

    /// What may come of the file.
    pub(crate) fn budget(&self) -> Budget {
        Budget::new(self.file.len())
    }

    /// That the file is damaged, or not what its name says.
    pub(crate) fn malformed(&self, source: ParquetError) -> DataError {
        malformed(&self.path, source)
    }

    pub(crate) fn metadata(&self) -> &FileMetaData {
        self.reader.metadata().file_metadata()
    }

    /// All columns, in the file's order.
    pub(crate) fn columns(&self) -> &[TypePtr] {
        self.metadata().schema().get_fields()
    }

    pub(crate) fn column_names(&self) -> Vec<&str> {
        self.columns().iter().map(|column| column.name()).collect()
    }

    pub(crate) fn column(&self, name: &str) -> Option<&TypePtr> {
        self.columns().iter().find(|column| column.name() == name)
    }

    /// The column `name`, which `setting` asks for.
    ///
    /// # Errors
    /// When there is none: the columns that there are.
    pub(crate) fn required_column(&self, setting: &str, name: &str) -> Result<&TypePtr, DataError> {
        self.column(name).ok_or_else(|| {
            let place = Place {
                file: Arc::clone(&self.path),
                line: 1,
            };
            DataError::missing_column(place, setting, name, self.column_names())
        })
    }

    /// The column of labels, with its type checked: lists of labels where `labels` asks for them or
    /// does not mind, single ones everywhere. `None` where there is none and none is required.
    ///
    /// # Errors
    /// When it is required and missing, or holds something else.
    pub(crate) fn label_column(
        &self,
        name: &str,
        labels: LabelPolicy,
    ) -> Result<Option<&TypePtr>, DataError> {
        let column = match labels.is_required() {
            true => self.required_column("data.label", name)?,
            false => match self.column(name) {
                Some(column) => column,
                None => return Ok(None),
            },
        };
        match (is_label(column), is_label_list(column), labels) {
            (true, _, _) | (_, true, LabelPolicy::Lists | LabelPolicy::Optional) => {
                Ok(Some(column))
            }
            (false, true, LabelPolicy::Required) => Err(DataError::ListOfLabels {
                place: Place {
                    file: Arc::clone(&self.path),
                    line: 0,
                },
                column: name.to_owned(),
            }),
            (false, false, LabelPolicy::Lists) => {
                Err(self.column_type_error(column, column, "lists of labels, or texts"))
            }
            (false, false, _) => {
                let expected = "strings, integers, floats or booleans";
                Err(self.column_type_error(column, column, expected))
            }
        }
    }

    /// That `part` of `column` holds something other than `expected`.
    pub(crate) fn column_type_error(
        &self,
        column: &Type,
        part: &Type,
        expected: &'static str,
    ) -> DataError {
        DataError::ColumnType {
            path: self.path.to_path_buf(),
            column: column.name().to_owned(),
            expected,
            found: describe(part),
        }
    }

    /// Hands over each row with only the columns `wanted`, row group after row group.
    ///
    /// The caller has checked the types of the columns: the record reader panics on those that it does
    /// not convert.
    ///
    /// # Errors
    /// When the file is damaged or is compressed in a way unknown here, or `take` fails.
    pub(crate) fn for_each_row(
        &self,
        wanted: Vec<TypePtr>,
        mut take: impl FnMut(&Record, Place) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let malformed = |source| self.malformed(source);
        let names = wanted.iter().map(|column| column.name().to_owned());
        let names: Vec<String> = names.collect();
        let is_wanted = |column: &str| names.iter().any(|name| name == column);
        let mut budget = self.budget();
        let projection = Type::group_type_builder(self.metadata().schema().name())
            .with_fields(wanted)
            .build()
            .map_err(malformed)?;
        let mut line = 0;
        // Not the iterator over the whole file: it panics where a row group cannot be opened.
        for group in 0..self.reader.num_row_groups() {
            let group = contained(|| self.row_group(group, is_wanted)).map_err(malformed)?;
            let records = || RowIter::from_row_group(Some(projection.clone()), &*group);
            let mut records = contained(records).map_err(malformed)?;
            while let Some(record) = contained(|| records.next().transpose()).map_err(malformed)? {
                let fields = record.get_column_iter();
                let cost = fields.map(|(_, field)| cost(field)).sum();
                budget.spend(cost).map_err(malformed)?;
                line += 1;
                let place = Place {
                    file: Arc::clone(&self.path),
                    line,
                };
                take(&record, place)?;
            }
        }
        Ok(())
    }
}

/// About how much memory a field takes.
fn cost(field: &Field) -> u64 {
    let parts = match field {
        Field::Str(text) => text.len() as u64,
        Field::Bytes(bytes) => bytes.len() as u64,
        Field::Group(record) => record.get_column_iter().map(|(_, field)| cost(field)).sum(),
        Field::ListInternal(list) => list.elements().iter().map(cost).sum(),
        _ => 0,
    };
    parts + BYTES_A_FIELD
}

fn malformed(path: &Path, source: ParquetError) -> DataError {
    DataError::MalformedParquet {
        path: path.to_path_buf(),
        source,
    }
}
