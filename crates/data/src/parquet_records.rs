use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ::parquet::basic::Repetition;
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::reader::RowIter;
use ::parquet::record::{Field, Row as Record};
use ::parquet::schema::types::Type;
use serde_json::{Map, Number, Value};

use crate::error::DataError;
use crate::parquet::{describe, is_label};
use crate::row::Place;

/// Hands over the columns wanted of each row of a parquet file as JSON: structures as objects, lists as
/// arrays.
///
/// - begin: gets the names of the file's columns and says which of them are wanted
///
/// # Errors
/// When the file is not parquet or is compressed otherwise than with snappy, a column wanted holds
/// something other than text, numbers, booleans and lists and structures of them, or `begin` or
/// `take` fails.
pub(crate) fn for_each_record<Wanted: Fn(&str) -> bool>(
    file: File,
    path: &Arc<Path>,
    begin: impl FnOnce(&[&str]) -> Result<Wanted, DataError>,
    mut take: impl FnMut(Map<String, Value>, Place) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let malformed = |source: ParquetError| DataError::MalformedParquet {
        path: path.to_path_buf(),
        source,
    };
    let reader = SerializedFileReader::new(file).map_err(malformed)?;
    let schema = reader.metadata().file_metadata().schema();
    let names: Vec<&str> = schema
        .get_fields()
        .iter()
        .map(|field| field.name())
        .collect();
    let is_wanted = begin(&names)?;
    let fields = schema.get_fields().iter();
    let wanted: Vec<_> = fields
        .filter(|field| is_wanted(field.name()))
        .cloned()
        .collect();
    // Checked before reading because the record reader panics on types that it does not convert.
    for field in &wanted {
        if let Some(unreadable) = unreadable_part(field) {
            return Err(DataError::ColumnType {
                path: path.to_path_buf(),
                column: field.name().to_owned(),
                expected: "text, numbers, booleans, or lists and structures of them",
                found: describe(unreadable),
            });
        }
    }
    let projection = Type::group_type_builder(schema.name())
        .with_fields(wanted)
        .build()
        .map_err(malformed)?;

    let mut line = 0;
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(malformed)?;
        let records =
            RowIter::from_row_group(Some(projection.clone()), &*group).map_err(malformed)?;
        for record in records {
            line += 1;
            let place = Place {
                file: Arc::clone(path),
                line,
            };
            let record = record.map_err(malformed)?;
            let columns = object(&record, &place)?;
            take(columns, place)?;
        }
    }
    Ok(())
}

/// The first part of a column that is no text, number or boolean, if there is one.
fn unreadable_part(field: &Type) -> Option<&Type> {
    if field.is_primitive() {
        // A primitive that is repeated without a list around it is read as a list.
        let is_plain = field.get_basic_info().repetition() != Repetition::REPEATED;
        return (is_plain && !is_label(field)).then_some(field);
    }
    let mut parts = field.get_fields().iter();
    parts.find_map(|part| unreadable_part(part))
}

fn object(record: &Record, place: &Place) -> Result<Map<String, Value>, DataError> {
    record
        .get_column_iter()
        .map(|(name, field)| Ok((name.clone(), value(field, name, place)?)))
        .collect()
}

fn value(field: &Field, column: &str, place: &Place) -> Result<Value, DataError> {
    let bad_value = |found: String| DataError::BadValue {
        place: place.clone(),
        column: column.to_owned(),
        expected: "text, a number, a boolean, or a list or structure of them",
        found,
    };
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(flag) => Value::from(*flag),
        Field::Byte(integer) => Value::from(*integer),
        Field::Short(integer) => Value::from(*integer),
        Field::Int(integer) => Value::from(*integer),
        Field::Long(integer) => Value::from(*integer),
        Field::UByte(integer) => Value::from(*integer),
        Field::UShort(integer) => Value::from(*integer),
        Field::UInt(integer) => Value::from(*integer),
        Field::ULong(integer) => Value::from(*integer),
        Field::Float(number) => {
            finite(f64::from(*number)).ok_or_else(|| bad_value(number.to_string()))?
        }
        Field::Double(number) => finite(*number).ok_or_else(|| bad_value(number.to_string()))?,
        Field::Str(text) => Value::from(text.as_str()),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => Value::from(text),
            Err(_) => return Err(bad_value("bytes that are not UTF-8".to_owned())),
        },
        Field::Group(record) => Value::Object(object(record, place)?),
        Field::ListInternal(list) => list
            .elements()
            .iter()
            .map(|element| value(element, column, place))
            .collect::<Result<_, _>>()
            .map(Value::Array)?,
        other => return Err(bad_value(other.to_string())),
    })
}

fn finite(number: f64) -> Option<Value> {
    Number::from_f64(number).map(Value::Number)
}
