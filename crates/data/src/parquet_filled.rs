//! In which rows of a parquet file a column says something, without making records of it.

use ::parquet::basic::{LogicalType, Type as PhysicalType};
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::{ByteArray, DataType};
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::ColumnChunkMetaData;
use ::parquet::file::reader::FileReader;
use ::parquet::schema::types::ColumnDescriptor;

use crate::contained::contained;
use crate::error::DataError;
use crate::parquet_file::ParquetFile;
use crate::unread_columns::ColumnTally;

/// How many rows are read at once.
const BATCH: usize = 4096;

impl ParquetFile {
    /// Takes note of all columns, and of those that are not read in how many rows they say something.
    ///
    /// # Errors
    /// As [`ParquetFile::filled`].
    pub(crate) fn tally(
        &self,
        tally: &mut ColumnTally,
        is_read: impl Fn(&str) -> bool,
    ) -> Result<(), DataError> {
        for column in self.column_names() {
            let is_read = is_read(column);
            let rows = match is_read {
                true => 0,
                false => self
                    .filled(column)?
                    .into_iter()
                    .filter(|is_filled| *is_filled)
                    .count(),
            };
            tally.see(column, is_read, rows);
        }
        Ok(())
    }

    /// Whether each row has something in a column: `[rows]`. Null, an empty list, an empty text and a
    /// structure of nothing else are nothing.
    ///
    /// Mostly the statistics say it; what they leave open is read.
    ///
    /// # Errors
    /// When the file is damaged or is compressed in a way unknown here.
    pub(crate) fn filled(&self, column: &str) -> Result<Vec<bool>, DataError> {
        let malformed = |source| self.malformed(source);
        let (mut filled, mut budget) = (Vec::new(), self.budget());
        for index in 0..self.reader().num_row_groups() {
            let group = contained(|| self.row_group(index, |name| name == column));
            let group = group.map_err(malformed)?;
            let metadata = group.metadata();
            let rows = usize::try_from(metadata.num_rows()).unwrap_or(0);
            budget.spend(rows as u64).map_err(malformed)?;
            let start = filled.len();
            filled.resize(start + rows, false);
            let rows = &mut filled[start..];
            for (leaf, chunk) in metadata.columns().iter().enumerate() {
                if chunk.column_path().parts().first().map(String::as_str) != Some(column) {
                    continue;
                }
                match all_alike(chunk) {
                    Some(true) => rows.fill(true),
                    Some(false) => {}
                    None => {
                        let marked = contained(|| {
                            mark(group.get_column_reader(leaf)?, chunk.column_descr(), rows)
                        });
                        marked.map_err(malformed)?;
                    }
                }
            }
        }
        Ok(filled)
    }
}

/// Whether all rows have something in a leaf, or none has, where its statistics say so.
fn all_alike(chunk: &ColumnChunkMetaData) -> Option<bool> {
    let statistics = chunk.statistics()?;
    let nulls = i64::try_from(statistics.null_count_opt()?).ok()?;
    if nulls == chunk.num_values() {
        return Some(false);
    }
    let leaf = chunk.column_descr();
    // The empty text is the smallest of all.
    let has_empty = is_text(leaf) && statistics.min_bytes_opt().is_none_or(<[u8]>::is_empty);
    (nulls == 0 && leaf.max_rep_level() == 0 && !has_empty).then_some(true)
}

fn is_text(leaf: &ColumnDescriptor) -> bool {
    use ::parquet::basic::ConvertedType::{JSON, UTF8};
    leaf.physical_type() == PhysicalType::BYTE_ARRAY
        && (matches!(leaf.converted_type(), UTF8 | JSON)
            || matches!(leaf.logical_type_ref(), Some(LogicalType::String)))
}

fn mark(
    reader: ColumnReader,
    leaf: &ColumnDescriptor,
    rows: &mut [bool],
) -> Result<(), ParquetError> {
    let is_text = is_text(leaf) && leaf.max_rep_level() == 0;
    match reader {
        ColumnReader::BoolColumnReader(reader) => mark_values(reader, leaf, rows, |_| true),
        ColumnReader::Int32ColumnReader(reader) => mark_values(reader, leaf, rows, |_| true),
        ColumnReader::Int64ColumnReader(reader) => mark_values(reader, leaf, rows, |_| true),
        ColumnReader::Int96ColumnReader(reader) => mark_values(reader, leaf, rows, |_| true),
        ColumnReader::FloatColumnReader(reader) => mark_values(reader, leaf, rows, |_| true),
        ColumnReader::DoubleColumnReader(reader) => mark_values(reader, leaf, rows, |_| true),
        ColumnReader::FixedLenByteArrayColumnReader(reader) => {
            mark_values(reader, leaf, rows, |_| true)
        }
        ColumnReader::ByteArrayColumnReader(reader) => {
            mark_values(reader, leaf, rows, |text: &ByteArray| {
                !is_text || !text.is_empty()
            })
        }
    }
}

/// Marks the rows that have a value that says something.
fn mark_values<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    leaf: &ColumnDescriptor,
    rows: &mut [bool],
    says_something: impl Fn(&T::T) -> bool,
) -> Result<(), ParquetError> {
    let mut rows = rows.iter_mut();
    loop {
        let (mut definition, mut repetition, mut values) = (Vec::new(), Vec::new(), Vec::new());
        let (records, _, levels) = reader.read_records(
            BATCH,
            Some(&mut definition),
            Some(&mut repetition),
            &mut values,
        )?;
        if records == 0 {
            return Ok(());
        }
        let mut values = values.iter();
        let mut row = None;
        for index in 0..levels {
            // Levels that can only be 0 are not stored.
            if repetition.get(index).is_none_or(|level| *level == 0) {
                row = rows.next();
            }
            let is_there = definition
                .get(index)
                .is_none_or(|level| *level == leaf.max_def_level());
            if is_there
                && let (Some(value), Some(row)) = (values.next(), row.as_deref_mut())
                && says_something(value)
            {
                *row = true;
            }
        }
    }
}
