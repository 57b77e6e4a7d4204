use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ::parquet::basic::{ConvertedType, LogicalType, Repetition, Type as PhysicalType};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::reader::RowIter;
use ::parquet::record::{Field, Row as Record};
use ::parquet::schema::types::{Type, TypePtr};

use crate::config::DataConfig;
use crate::error::DataError;
use crate::row::{LabelPolicy, Place, RawLabel, Row};

/// Reads the columns wanted of a parquet file, row group after row group.
///
/// # Errors
/// When the file is not parquet or is compressed otherwise than with snappy, or a column is missing,
/// of another type or null.
pub(crate) fn read_parquet(
    file: File,
    path: &Arc<Path>,
    config: &DataConfig,
    labels: LabelPolicy,
) -> Result<Vec<Row>, DataError> {
    let malformed = |source: ParquetError| DataError::MalformedParquet {
        path: path.to_path_buf(),
        source,
    };
    let reader = SerializedFileReader::new(file).map_err(malformed)?;
    let schema = reader.metadata().file_metadata().schema();
    let wanted = wanted_columns(schema, path, config, labels)?;
    let projection = Type::group_type_builder(schema.name())
        .with_fields(wanted)
        .build()
        .map_err(malformed)?;

    let mut rows = Vec::new();
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(malformed)?;
        let records =
            RowIter::from_row_group(Some(projection.clone()), &*group).map_err(malformed)?;
        for record in records {
            let place = Place {
                file: Arc::clone(path),
                line: rows.len() + 1,
            };
            let record = record.map_err(malformed)?;
            rows.push(row(&record, place, config, labels)?);
        }
    }
    Ok(rows)
}

/// The fields of the schema to read, in the schema's order.
///
/// Types are checked before reading because the record reader panics on those it does not convert.
fn wanted_columns(
    schema: &Type,
    path: &Arc<Path>,
    config: &DataConfig,
    labels: LabelPolicy,
) -> Result<Vec<TypePtr>, DataError> {
    let fields = schema.get_fields();
    let find = |column: &str| fields.iter().find(|field| field.name() == column);
    let required = |setting: &str, column: &str| {
        find(column).ok_or_else(|| {
            let place = Place {
                file: Arc::clone(path),
                line: 1,
            };
            let found = fields.iter().map(|field| field.name());
            DataError::missing_column(place, setting, column, found)
        })
    };
    let refuse = |field: &Type, expected: &'static str| DataError::ColumnType {
        path: path.to_path_buf(),
        column: field.name().to_owned(),
        expected,
        found: describe(field),
    };

    let mut texts = vec![required("data.text", &config.text)?];
    if let Some(column) = &config.text_pair {
        texts.push(required("data.text_pair", column)?);
    }
    let label = match labels {
        LabelPolicy::Required => Some(required("data.label", &config.label)?),
        LabelPolicy::Optional => find(&config.label),
    };
    if let Some(field) = texts.iter().find(|field| !is_text(field)) {
        return Err(refuse(field, "strings"));
    }
    if let Some(field) = label.filter(|field| !is_label(field)) {
        return Err(refuse(field, "strings, integers, floats or booleans"));
    }
    Ok(fields
        .iter()
        .filter(|field| texts.contains(field) || label == Some(*field))
        .cloned()
        .collect())
}

/// The physical and converted type of a plain column; `None` for lists, maps and structures.
pub(crate) fn plain_type(field: &Type) -> Option<(PhysicalType, ConvertedType)> {
    let info = field.get_basic_info();
    let plain = field.is_primitive() && info.repetition() != Repetition::REPEATED;
    plain.then(|| (field.get_physical_type(), info.converted_type()))
}

pub(crate) fn is_text(field: &Type) -> bool {
    matches!(
        plain_type(field),
        Some((
            PhysicalType::BYTE_ARRAY,
            ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON | ConvertedType::NONE
        ))
    )
}

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

fn row(
    record: &Record,
    place: Place,
    config: &DataConfig,
    labels: LabelPolicy,
) -> Result<Row, DataError> {
    let text = text(record, &config.text, &place)?;
    let text_pair = config
        .text_pair
        .as_ref()
        .map(|column| self::text(record, column, &place))
        .transpose()?;
    let label = label(record, &config.label, &place)?;
    if label.is_none() && labels == LabelPolicy::Required {
        return Err(DataError::MissingLabel { place });
    }
    Ok(Row {
        text,
        text_pair,
        label,
        place,
    })
}

fn text(record: &Record, column: &str, place: &Place) -> Result<String, DataError> {
    utf8(field(record, column), column, place)
}

pub(crate) fn label(
    record: &Record,
    column: &str,
    place: &Place,
) -> Result<Option<RawLabel>, DataError> {
    let label = match field(record, column) {
        Field::Null => return Ok(None),
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
            Err(_) => RawLabel::Number(*integer as f64),
        },
        Field::Float(number) => RawLabel::Number(f64::from(*number)),
        Field::Double(number) => RawLabel::Number(*number),
        text => RawLabel::Text(utf8(text, column, place)?),
    };
    Ok(Some(label))
}

/// The field of a column; one that was not read is null.
pub(crate) fn field<'a>(record: &'a Record, column: &str) -> &'a Field {
    record
        .get_column_iter()
        .find(|(name, _)| *name == column)
        .map_or(&Field::Null, |(_, field)| field)
}

fn utf8(field: &Field, column: &str, place: &Place) -> Result<String, DataError> {
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
mod tests {
    use ::parquet::basic::Compression;
    use ::parquet::column::writer::ColumnWriter;
    use ::parquet::data_type::ByteArray;
    use ::parquet::file::properties::WriterProperties;
    use ::parquet::file::writer::SerializedFileWriter;
    use ::parquet::schema::parser::parse_message_type;

    use super::*;

    const SCHEMA: &str = "message schema {
        optional binary text (UTF8);
        optional int64 label;
        required double score;
        optional int96 stamp;
        optional binary name;
        optional int64 day (TIMESTAMP(NANOS,true));
    }";

    /// Two row groups of two rows in snappy; the label of the third row is null.
    fn write(path: &Path) {
        let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .build();
        let file = File::create(path).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
        for first in [0_i32, 2] {
            let mut group = writer.next_row_group().unwrap();
            while let Some(mut column) = group.next_column().unwrap() {
                let numbers = [f64::from(first) + 0.5, f64::from(first) + 1.5];
                match column.untyped() {
                    ColumnWriter::ByteArrayColumnWriter(column) => {
                        let texts = [first, first + 1]
                            .map(|index| ByteArray::from(format!("row {index}").as_str()));
                        column.write_batch(&texts, Some(&[1, 1]), None).unwrap()
                    }
                    ColumnWriter::Int64ColumnWriter(column) if first == 0 => {
                        column.write_batch(&[7, -3], Some(&[1, 1]), None).unwrap()
                    }
                    ColumnWriter::Int64ColumnWriter(column) => {
                        column.write_batch(&[9], Some(&[0, 1]), None).unwrap()
                    }
                    ColumnWriter::DoubleColumnWriter(column) => {
                        column.write_batch(&numbers, None, None).unwrap()
                    }
                    ColumnWriter::Int96ColumnWriter(column) => {
                        column.write_batch(&[], Some(&[0, 0]), None).unwrap()
                    }
                    _ => unreachable!("the schema has no other type"),
                };
                column.close().unwrap();
            }
            group.close().unwrap();
        }
        writer.close().unwrap();
    }

    fn read(config: &DataConfig, labels: LabelPolicy) -> Result<Vec<Row>, DataError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("train.parquet");
        write(&path);
        let file = File::open(&path).unwrap();
        read_parquet(file, &Path::new("train.parquet").into(), config, labels)
    }

    fn with_label(label: &str) -> DataConfig {
        DataConfig {
            label: label.to_owned(),
            ..DataConfig::new("unused")
        }
    }

    #[test]
    fn rows_of_all_groups_come_in_order() {
        let rows = read(&with_label("label"), LabelPolicy::Optional).unwrap();
        let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
        assert_eq!(texts, ["row 0", "row 1", "row 2", "row 3"]);
        let labels: Vec<_> = rows.iter().map(|row| row.label.clone()).collect();
        assert_eq!(
            labels,
            [
                Some(RawLabel::Integer(7)),
                Some(RawLabel::Integer(-3)),
                None,
                Some(RawLabel::Integer(9)),
            ]
        );
        assert_eq!(rows[3].place.to_string(), "train.parquet:4");
    }

    #[test]
    fn floats_and_plain_bytes_are_labels_too() {
        let rows = read(&with_label("score"), LabelPolicy::Required).unwrap();
        assert_eq!(rows[2].label, Some(RawLabel::Number(2.5)));
        let rows = read(&with_label("name"), LabelPolicy::Required).unwrap();
        assert_eq!(rows[1].label, Some(RawLabel::Text("row 1".to_owned())));
    }

    #[test]
    fn a_null_label_is_an_error_where_labels_are_required() {
        let error = read(&with_label("label"), LabelPolicy::Required).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("train.parquet:3: the row has no label")
        );
    }

    #[test]
    fn columns_of_other_types_are_refused_before_reading() {
        let error = read(&with_label("day"), LabelPolicy::Required).unwrap_err();
        assert!(
            error.to_string().contains("column `day` holds INT64"),
            "{error}"
        );
        let error = read(&with_label("stamp"), LabelPolicy::Required).unwrap_err();
        assert!(
            error.to_string().contains("column `stamp` holds INT96"),
            "{error}"
        );
        let config = DataConfig {
            text: "label".to_owned(),
            ..DataConfig::new("unused")
        };
        let error = read(&config, LabelPolicy::Required).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("column `label` holds INT64, expected strings"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_column_lists_the_columns() {
        let error = read(&with_label("names"), LabelPolicy::Required).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("`text`, `label`, `score`, `stamp`, `name`, `day`"),
            "{message}"
        );
        assert!(message.contains("did you mean `name`?"), "{message}");
        assert!(read(&with_label("names"), LabelPolicy::Optional).is_ok());
    }

    #[test]
    fn a_file_that_is_not_parquet_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("train.parquet");
        std::fs::write(&path, "text,label\n").unwrap();
        let file = File::open(&path).unwrap();
        let path: Arc<Path> = path.into();
        let error =
            read_parquet(file, &path, &with_label("label"), LabelPolicy::Required).unwrap_err();
        assert!(
            matches!(error, DataError::MalformedParquet { .. }),
            "{error}"
        );
    }
}
