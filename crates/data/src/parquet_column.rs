//! What the columns of a parquet file may hold, and the texts and labels in them.

use ::parquet::basic::{ConvertedType, LogicalType, Repetition, Type as PhysicalType};
use ::parquet::record::{Field, Row as Record};
use ::parquet::schema::types::Type;

use crate::error::DataError;
use crate::row::{LabelPolicy, Place, RawLabel};

/// The physical and converted type of a plain column; `None` for lists, maps and structures.
pub(crate) fn plain_type(field: &Type) -> Option<(PhysicalType, ConvertedType)> {
    let info = field.get_basic_info();
    let plain = field.is_primitive() && info.repetition() != Repetition::REPEATED;
    plain.then(|| (field.get_physical_type(), info.converted_type()))
}

/// Whether a column holds bytes of which nothing says that they are text.
pub(crate) fn is_binary(field: &Type) -> bool {
    plain_type(field) == Some((PhysicalType::BYTE_ARRAY, ConvertedType::NONE))
}

/// Whether the record reader makes texts or bytes of a column.
pub(crate) fn is_text(field: &Type) -> bool {
    matches!(
        plain_type(field),
        Some((
            PhysicalType::BYTE_ARRAY,
            ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON | ConvertedType::NONE
        ))
    )
}

/// Whether a column holds what a label may be: texts, numbers or booleans.
pub(crate) fn is_label(field: &Type) -> bool {
    let has_other_meaning = !matches!(
        field.get_basic_info().logical_type_ref(),
        None | Some(LogicalType::Integer { .. })
    );
    let is_number = !has_other_meaning
        && matches!(
            plain_type(field),
            Some((
                PhysicalType::BOOLEAN
                    | PhysicalType::INT32
                    | PhysicalType::INT64
                    | PhysicalType::FLOAT
                    | PhysicalType::DOUBLE,
                ConvertedType::NONE
                    | ConvertedType::INT_8
                    | ConvertedType::INT_16
                    | ConvertedType::INT_32
                    | ConvertedType::INT_64
                    | ConvertedType::UINT_8
                    | ConvertedType::UINT_16
                    | ConvertedType::UINT_32
                    | ConvertedType::UINT_64
            ))
        );
    is_number || is_text(field)
}

/// Whether a column holds lists of what a label may be.
pub(crate) fn is_label_list(field: &Type) -> bool {
    let is_list = |field: &Type| {
        !field.is_primitive() && field.get_basic_info().converted_type() == ConvertedType::LIST
    };
    let only = |field: &Type| match field.is_primitive() {
        false if field.get_fields().len() == 1 => field.get_fields().first().cloned(),
        _ => None,
    };
    // A repeated group around the element; older writers repeat the element itself.
    is_list(field)
        && only(field)
            .and_then(|repeated| only(&repeated))
            .is_some_and(|element| is_label(&element))
}

/// The type of a column as errors show it.
pub(crate) fn describe(field: &Type) -> String {
    match plain_type(field) {
        Some((physical, converted)) => match field.get_basic_info().logical_type_ref() {
            Some(logical) => format!("{physical} as {logical:?}"),
            None if converted == ConvertedType::NONE => physical.to_string(),
            None => format!("{physical} as {converted}"),
        },
        None => "a list, a map or a structure".to_owned(),
    }
}

/// The label or the labels in a column; `None` where it is null.
///
/// # Errors
/// When it is text that is not UTF-8, or a list with null in it.
pub(crate) fn label(
    record: &Record,
    column: &str,
    place: &Place,
) -> Result<Option<RawLabel>, DataError> {
    one_label(field(record, column), column, place)
}

fn one_label(field: &Field, column: &str, place: &Place) -> Result<Option<RawLabel>, DataError> {
    let label = match field {
        Field::Null => return Ok(None),
        Field::ListInternal(list) => {
            let items = list.elements().iter();
            let item = |item| {
                one_label(item, column, place)?.ok_or_else(|| DataError::BadValue {
                    place: place.clone(),
                    column: column.to_owned(),
                    expected: "a list of labels",
                    found: "null in it".to_owned(),
                })
            };
            RawLabel::List(items.map(item).collect::<Result<_, _>>()?)
        }
        Field::Bool(flag) => RawLabel::Integer(i64::from(*flag)),
        Field::Byte(integer) => RawLabel::Integer(i64::from(*integer)),
        Field::Short(integer) => RawLabel::Integer(i64::from(*integer)),
        Field::Int(integer) => RawLabel::Integer(i64::from(*integer)),
        Field::Long(integer) => RawLabel::Integer(*integer),
        Field::UByte(integer) => RawLabel::Integer(i64::from(*integer)),
        Field::UShort(integer) => RawLabel::Integer(i64::from(*integer)),
        Field::UInt(integer) => RawLabel::Integer(i64::from(*integer)),
        Field::ULong(integer) => match i64::try_from(*integer) {
            Ok(integer) => RawLabel::Integer(integer),
            // A float would be another number; as a name it stays what it is.
            Err(_) => RawLabel::Text(integer.to_string()),
        },
        Field::Float(number) => RawLabel::Number(f64::from(*number)),
        Field::Double(number) => RawLabel::Number(*number),
        text => RawLabel::Text(utf8(text, column, place)?),
    };
    Ok(Some(label))
}

/// The label, unless it is null where one is required.
///
/// # Errors
/// When it is.
pub(crate) fn present(
    label: Option<RawLabel>,
    labels: LabelPolicy,
    place: &Place,
) -> Result<Option<RawLabel>, DataError> {
    let place = || place.clone();
    match (&label, labels) {
        (None, LabelPolicy::Required) => Err(DataError::MissingLabel { place: place() }),
        (None, LabelPolicy::Lists) => Err(DataError::MissingList { place: place() }),
        _ => Ok(label),
    }
}

/// The field of a column; one that was not read is null.
pub(crate) fn field<'a>(record: &'a Record, column: &str) -> &'a Field {
    record
        .get_column_iter()
        .find(|(name, _)| *name == column)
        .map_or(&Field::Null, |(_, field)| field)
}

/// A text, which parquet keeps as a string or as plain bytes.
pub(crate) fn utf8(field: &Field, column: &str, place: &Place) -> Result<String, DataError> {
    let bad_value = |found: &str| DataError::BadValue {
        place: place.clone(),
        column: column.to_owned(),
        expected: "a string",
        found: found.to_owned(),
    };
    match field {
        Field::Str(text) => Ok(text.clone()),
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data())
            .map(str::to_owned)
            .map_err(|_| bad_value("bytes that are not UTF-8")),
        Field::Null => Err(bad_value("null")),
        other => Err(bad_value(&other.to_string())),
    }
}

#[cfg(test)]
#[path = "parquet_column_tests.rs"]
mod tests;
