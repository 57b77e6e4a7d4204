//! Rows of a parquet file as JSON objects, for readers that take lists and structures too.

use ::parquet::basic::Repetition;
use ::parquet::record::{Field, Row as Record};
use ::parquet::schema::types::Type;
use serde_json::{Map, Number, Value};

use crate::config::DataConfig;
use crate::error::DataError;
use crate::parquet_column::{is_binary, is_label};
use crate::parquet_file::ParquetFile;
use crate::row::Place;
use crate::row_images::as_text;

/// What bytes are of which nothing says that they are text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bytes {
    /// Nothing that is read.
    Unknown,
    /// Encoded images.
    Images,
}

impl Bytes {
    pub(crate) fn of(config: &DataConfig) -> Self {
        match config.takes_images {
            true => Self::Images,
            false => Self::Unknown,
        }
    }
}

/// Hands over the columns wanted of each row of a parquet file as JSON: structures as objects, lists as
/// arrays.
///
/// # Errors
/// When the file is damaged or is compressed in a way unknown here, a column wanted holds
/// something other than text, numbers, booleans, bytes and lists and structures of them, or `take` fails.
pub(crate) fn for_each_record(
    file: &ParquetFile,
    is_wanted: impl Fn(&str) -> bool,
    bytes: Bytes,
    mut take: impl FnMut(Map<String, Value>, Place) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let columns = file.columns().iter();
    let wanted: Vec<_> = columns
        .filter(|column| is_wanted(column.name()))
        .cloned()
        .collect();
    for column in &wanted {
        if let Some(part) = unreadable_part(column, bytes) {
            let expected = "text, numbers, booleans, or lists and structures of them";
            return Err(file.column_type_error(column, part, expected));
        }
    }
    file.for_each_row(wanted, |record, place| {
        let columns = object(record, bytes, &place)?;
        take(columns, place)
    })
}

/// The first part of a column that is no text, number or boolean, if there is one.
fn unreadable_part(field: &Type, bytes: Bytes) -> Option<&Type> {
    if field.is_primitive() {
        // A primitive that is repeated without a list around it is read as a list.
        let is_plain = field.get_basic_info().repetition() != Repetition::REPEATED;
        let is_image = bytes == Bytes::Images && is_binary(field);
        return (is_plain && !is_label(field) && !is_image).then_some(field);
    }
    let mut parts = field.get_fields().iter();
    parts.find_map(|part| unreadable_part(part, bytes))
}

fn object(record: &Record, bytes: Bytes, place: &Place) -> Result<Map<String, Value>, DataError> {
    record
        .get_column_iter()
        .map(|(name, field)| Ok((name.clone(), value(field, name, bytes, place)?)))
        .collect()
}

fn value(field: &Field, column: &str, binary: Bytes, place: &Place) -> Result<Value, DataError> {
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
        Field::Bytes(bytes) if binary == Bytes::Images => Value::from(as_text(bytes.data())),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => Value::from(text),
            Err(_) => return Err(bad_value("bytes that are not UTF-8".to_owned())),
        },
        Field::Group(record) => Value::Object(object(record, binary, place)?),
        Field::ListInternal(list) => list
            .elements()
            .iter()
            .map(|element| value(element, column, binary, place))
            .collect::<Result<_, _>>()
            .map(Value::Array)?,
        other => return Err(bad_value(other.to_string())),
    })
}

fn finite(number: f64) -> Option<Value> {
    Number::from_f64(number).map(Value::Number)
}
