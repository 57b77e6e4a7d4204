use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ::parquet::basic::{ConvertedType, Type as PhysicalType};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::reader::RowIter;
use ::parquet::record::{Field, Row as Record};
use ::parquet::schema::types::{Type, TypePtr};

use super::class_names::ClassNames;
use super::image_row::{ImageRow, ImageSource};
use super::path_table;
use crate::config::DataConfig;
use crate::error::DataError;
use crate::parquet::{describe, field, is_label, is_text, label, plain_type};
use crate::row::{LabelPolicy, Place};

/// Reads pictures as the Hub stores them: a structure of `bytes` and `path`, or the bytes alone.
///
/// Where `bytes` is null, `path` is that of a file, relative to the parquet file; a column of
/// strings holds such paths, too. Numbers that the file's metadata has names for become these.
///
/// # Errors
/// When the file is not parquet or is compressed otherwise than with snappy, or a column is missing
/// or of another type, or a row has no picture.
pub(super) fn read_parquet_images(
    path: &Path,
    config: &DataConfig,
    labels: LabelPolicy,
) -> Result<Vec<ImageRow>, DataError> {
    let malformed = |source: ParquetError| DataError::MalformedParquet {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(|source| DataError::Io {
        path: path.to_owned(),
        source,
    })?;
    let reader = SerializedFileReader::new(file).map_err(malformed)?;
    let metadata = reader.metadata().file_metadata();
    let shared_path: Arc<Path> = path.into();
    let wanted = match wanted_columns(metadata.schema(), &shared_path, config, labels)? {
        Wanted::Pictures(columns) => columns,
        Wanted::Paths => return path_table::read_path_table(path, config, labels),
    };
    let names = ClassNames::find(metadata, &config.label, path)?;
    let projection = Type::group_type_builder(metadata.schema().name())
        .with_fields(wanted)
        .build()
        .map_err(malformed)?;

    let mut rows = Vec::new();
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(malformed)?;
        let records =
            RowIter::from_row_group(Some(projection.clone()), &*group).map_err(malformed)?;
        for record in records {
            let record = record.map_err(malformed)?;
            let place = Place {
                file: Arc::clone(&shared_path),
                line: rows.len() + 1,
            };
            let source = source(field(&record, &config.image), &config.image, &place)?;
            let label = match (&names, label(&record, &config.label, &place)?) {
                (Some(names), Some(number)) => names.name(number, &config.label, &place)?,
                (_, label) => label,
            };
            if label.is_none() && labels == LabelPolicy::Required {
                return Err(DataError::MissingLabel { place });
            }
            rows.push(ImageRow {
                source,
                label,
                place,
            });
        }
    }
    Ok(rows)
}

enum Wanted {
    /// The fields to read, in the schema's order.
    Pictures(Vec<TypePtr>),
    /// The column has paths, which the reader of texts reads.
    Paths,
}

/// Types are checked before reading because the record reader panics on those it does not convert.
fn wanted_columns(
    schema: &Type,
    path: &Arc<Path>,
    config: &DataConfig,
    labels: LabelPolicy,
) -> Result<Wanted, DataError> {
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
    let image = required("data.image", &config.image)?;
    if is_text(image) && !is_binary(image) {
        return Ok(Wanted::Paths);
    }
    let label = match labels {
        LabelPolicy::Required => Some(required("data.label", &config.label)?),
        LabelPolicy::Optional => find(&config.label),
    };
    let pictures = picture_column(image).ok_or_else(|| {
        refuse(
            image,
            "pictures (bytes, or a structure with `bytes`) or paths",
        )
    })?;
    if let Some(label) = label.filter(|field| !is_label(field)) {
        return Err(refuse(label, "strings, integers, floats or booleans"));
    }
    Ok(Wanted::Pictures(
        fields
            .iter()
            .filter_map(|field| match field {
                field if field == image => Some(pictures.clone()),
                field => (label == Some(field)).then(|| field.clone()),
            })
            .collect(),
    ))
}

/// The column, or of a structure the part of it that is read.
fn picture_column(image: &TypePtr) -> Option<TypePtr> {
    if is_binary(image) {
        return Some(image.clone());
    }
    if image.is_primitive() || image.get_basic_info().converted_type() != ConvertedType::NONE {
        return None;
    }
    let parts = image.get_fields();
    parts
        .iter()
        .find(|part| part.name() == "bytes" && is_binary(part))?;
    let wanted = parts.iter().filter(|part| match part.name() {
        "bytes" => true,
        "path" => is_text(part),
        _ => false,
    });
    let part = Type::group_type_builder(image.name())
        .with_repetition(image.get_basic_info().repetition())
        .with_fields(wanted.cloned().collect());
    part.build().ok().map(Arc::new)
}

fn is_binary(field: &Type) -> bool {
    plain_type(field) == Some((PhysicalType::BYTE_ARRAY, ConvertedType::NONE))
}

fn source(found: &Field, column: &str, place: &Place) -> Result<ImageSource, DataError> {
    let part = |record: &Record, name: &str| {
        record
            .get_column_iter()
            .find(|(part, _)| *part == name)
            .map_or(Field::Null, |(_, field)| field.clone())
    };
    let missing = |found: &str| DataError::BadValue {
        place: place.clone(),
        column: column.to_owned(),
        expected: "a picture",
        found: found.to_owned(),
    };
    match found {
        Field::Bytes(bytes) => Ok(ImageSource::Bytes(bytes.data().into())),
        Field::Group(record) => match (part(record, "bytes"), part(record, "path")) {
            (Field::Bytes(bytes), _) => Ok(ImageSource::Bytes(bytes.data().into())),
            (_, Field::Str(path)) => Ok(path_table::file_beside(&place.file, &path)),
            _ => Err(missing("neither bytes nor a path")),
        },
        _ => Err(missing("null")),
    }
}

#[cfg(test)]
#[path = "parquet_images_tests.rs"]
mod tests;
