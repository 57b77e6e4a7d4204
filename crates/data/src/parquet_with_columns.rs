//! A parquet file again, with columns behind its own. Its own are copied as they are, page for page,
//! so that columns of types that no reader here knows come through too.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ::parquet::basic::{ConvertedType, LogicalType, Repetition, Type as PhysicalType};
use ::parquet::column::writer::{ColumnCloseResult, ColumnWriter};
use ::parquet::data_type::ByteArray;
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::KeyValue;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::types::{Type, TypePtr};

use crate::contained::contained;
use crate::prediction_table::{PredictedColumn, PredictedValues};

/// Descriptions of the columns that other libraries keep in the file's metadata; they would not know
/// the new columns.
const SCHEMA_KEYS: [&str; 3] = ["ARROW:schema", "pandas", "huggingface"];

/// Writes the file at `path` to `out`, with `columns`, which have a value of each of its rows.
///
/// # Errors
/// When `path` is damaged, or writing fails.
pub(crate) fn write(
    path: &Path,
    columns: &[PredictedColumn],
    out: &mut Vec<u8>,
) -> Result<(), ParquetError> {
    contained(|| write_with(path, columns, out))
}

fn write_with(
    path: &Path,
    columns: &[PredictedColumn],
    out: &mut Vec<u8>,
) -> Result<(), ParquetError> {
    let source = File::open(path)?;
    let reader = SerializedFileReader::new(source.try_clone()?)?;
    let metadata = reader.metadata().file_metadata();
    let mut fields = metadata.schema().get_fields().to_vec();
    for column in columns {
        fields.push(field(column)?);
    }
    let schema = Type::group_type_builder(metadata.schema().name())
        .with_fields(fields)
        .build()?;
    let kept = metadata.key_value_metadata().map(|entries| {
        let entries = entries.iter().cloned();
        let is_kept = |entry: &KeyValue| !SCHEMA_KEYS.contains(&entry.key.as_str());
        entries.filter(is_kept).collect::<Vec<_>>()
    });
    let properties = WriterProperties::builder()
        .set_key_value_metadata(kept.filter(|entries| !entries.is_empty()))
        .build();
    let mut writer = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties))?;
    let mut first = 0;
    for group in reader.metadata().row_groups() {
        let rows = usize::try_from(group.num_rows()).unwrap_or(0);
        let mut target = writer.next_row_group()?;
        for chunk in group.columns() {
            target.append_column(
                &source,
                ColumnCloseResult {
                    bytes_written: chunk.compressed_size().unsigned_abs(),
                    rows_written: rows as u64,
                    metadata: chunk.clone(),
                    bloom_filter: None,
                    column_index: None,
                    offset_index: None,
                },
            )?;
        }
        for column in columns {
            let Some(mut values) = target.next_column()? else {
                break;
            };
            match (values.untyped(), &column.values) {
                (ColumnWriter::ByteArrayColumnWriter(writer), PredictedValues::Texts(texts)) => {
                    let texts = of_group(texts, first, rows)?
                        .iter()
                        .map(|text| ByteArray::from(text.as_str()));
                    writer.write_batch(&texts.collect::<Vec<_>>(), None, None)?;
                }
                (ColumnWriter::DoubleColumnWriter(writer), PredictedValues::Numbers(numbers)) => {
                    writer.write_batch(of_group(numbers, first, rows)?, None, None)?;
                }
                _ => {
                    let problem = format!("column `{}` has another type", column.name);
                    return Err(ParquetError::General(problem));
                }
            }
            values.close()?;
        }
        target.close()?;
        first += rows;
    }
    if columns.iter().any(|column| column.values.len() != first) {
        let problem = "it has fewer rows than were read of it; has it changed meanwhile?";
        return Err(ParquetError::General(problem.to_owned()));
    }
    writer.close()?;
    Ok(())
}

/// The predictions for the rows of a group.
///
/// # Errors
/// If there are fewer: rows were read of the file as it was before.
fn of_group<T>(values: &[T], first: usize, rows: usize) -> Result<&[T], ParquetError> {
    let values = values.get(first..).and_then(|rest| rest.get(..rows));
    values.ok_or_else(|| {
        let problem = "it has more rows than were read of it; has it changed meanwhile?";
        ParquetError::General(problem.to_owned())
    })
}

fn field(column: &PredictedColumn) -> Result<TypePtr, ParquetError> {
    let builder = match column.values {
        PredictedValues::Texts(_) => {
            Type::primitive_type_builder(&column.name, PhysicalType::BYTE_ARRAY)
                .with_logical_type(Some(LogicalType::String))
                .with_converted_type(ConvertedType::UTF8)
        }
        PredictedValues::Numbers(_) => {
            Type::primitive_type_builder(&column.name, PhysicalType::DOUBLE)
        }
    };
    Ok(Arc::new(
        builder.with_repetition(Repetition::REQUIRED).build()?,
    ))
}
