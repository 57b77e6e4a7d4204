//! Images inside parquet files, as the Hub stores them.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ::parquet::basic::ConvertedType;
use ::parquet::record::{Field, Row as Record};
use ::parquet::schema::types::{Type, TypePtr};

use super::image_row::{ImageRow, ImageSource};
use super::path_table;
use crate::class_names::ClassNames;
use crate::config::DataConfig;
use crate::error::DataError;
use crate::label_list::in_a_list;
use crate::parquet_column::{field, is_binary, is_text, label, present};
use crate::parquet_file::ParquetFile;
use crate::row::{LabelPolicy, Place};
use crate::unread_columns::ColumnTally;

/// Reads images as the Hub stores them: a structure of `bytes` and `path`, or the bytes alone.
///
/// Where `bytes` is null, `path` is that of a file, relative to the parquet file; a column of
/// strings holds such paths, too. Numbers that the file's metadata has names for become these.
///
/// # Errors
/// When the file is not parquet or is compressed in a way unknown here, or a column is missing
/// or of another type, or a row has no image.
pub(super) fn read_parquet_images(
    path: &Path,
    config: &DataConfig,
    labels: LabelPolicy,
    columns: &mut ColumnTally,
) -> Result<Vec<ImageRow>, DataError> {
    let file = File::open(path).map_err(|source| DataError::Io {
        path: path.to_owned(),
        source,
    })?;
    let file = ParquetFile::new(file, &path.into())?;
    let wanted = match wanted_columns(&file, config, labels)? {
        Wanted::Images(wanted) => wanted,
        Wanted::Paths => return path_table::read_path_table(path, config, labels, columns),
    };
    let names = ClassNames::find(file.metadata(), &config.label, path)?;
    let mut rows = Vec::new();
    file.for_each_row(wanted, |record, place| {
        let source = source(field(record, &config.image), &config.image, &place)?;
        let label = label(record, &config.label, &place)?;
        // Where classes have names, their reader says which rows lack one.
        let label = match names.is_none() || labels == LabelPolicy::Lists {
            true => present(label, labels, &place)?,
            false => label,
        };
        let label = in_a_list(label, config, labels, &place)?;
        rows.push(ImageRow {
            source,
            label,
            place,
        });
        Ok(())
    })?;
    if let Some(names) = names {
        names.name_all(&mut rows, &config.label, labels)?;
    }
    file.tally(columns, |column| {
        [&config.image, &config.label]
            .into_iter()
            .any(|name| name == column)
    })?;
    Ok(rows)
}

enum Wanted {
    /// The fields to read, in the schema's order.
    Images(Vec<TypePtr>),
    /// The column has paths, which the reader of texts reads.
    Paths,
}

/// The columns to read, with their types checked.
fn wanted_columns(
    file: &ParquetFile,
    config: &DataConfig,
    labels: LabelPolicy,
) -> Result<Wanted, DataError> {
    let image = file.required_column("data.image", &config.image)?;
    if is_text(image) && !is_binary(image) {
        return Ok(Wanted::Paths);
    }
    let images = image_column(image).ok_or_else(|| {
        let expected = "images (bytes, or a structure with `bytes`) or paths";
        file.column_type_error(image, image, expected)
    })?;
    let label = file.label_column(&config.label, labels)?;
    let columns = file.columns().iter();
    Ok(Wanted::Images(
        columns
            .filter_map(|column| match column {
                column if column == image => Some(images.clone()),
                column => (label == Some(column)).then(|| column.clone()),
            })
            .collect(),
    ))
}

/// The column, or of a structure the part of it that is read.
fn image_column(image: &TypePtr) -> Option<TypePtr> {
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
        expected: "an image",
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
