//! Rows of texts from a parquet file.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ::parquet::record::Row as Record;
use ::parquet::schema::types::TypePtr;

use crate::class_names::ClassNames;
use crate::config::DataConfig;
use crate::error::DataError;
use crate::label_list::in_a_list;
use crate::parquet_column::{field, is_text, label, present, utf8};
use crate::parquet_file::ParquetFile;
use crate::row::{LabelPolicy, Place, Row};
use crate::unread_columns::ColumnTally;

/// Reads the columns wanted of a parquet file.
///
/// # Errors
/// When the file is not parquet or is compressed in a way unknown here, or a column is missing,
/// of another type or null.
pub(crate) fn read_parquet(
    file: File,
    path: &Arc<Path>,
    config: &DataConfig,
    labels: LabelPolicy,
    tally: &mut ColumnTally,
) -> Result<Vec<Row>, DataError> {
    let file = ParquetFile::new(file, path)?;
    let wanted = wanted_columns(&file, config, labels)?;
    let mut rows = Vec::new();
    let names = ClassNames::find(file.metadata(), &config.label, path)?;
    file.for_each_row(wanted, |record, place| {
        rows.push(row(record, place, config, labels)?);
        Ok(())
    })?;
    if let Some(names) = names {
        names.name_all(&mut rows, &config.label, labels)?;
    }
    file.tally(tally, |column| config.reads(column))?;
    Ok(rows)
}

/// The columns to read, in the file's order, with their types checked.
fn wanted_columns(
    file: &ParquetFile,
    config: &DataConfig,
    labels: LabelPolicy,
) -> Result<Vec<TypePtr>, DataError> {
    let mut texts = vec![file.required_column("data.text", &config.text)?];
    if let Some(column) = &config.text_pair {
        texts.push(file.required_column("data.text_pair", column)?);
    }
    if let Some(column) = texts.iter().find(|column| !is_text(column)) {
        return Err(file.column_type_error(column, column, "strings"));
    }
    let label = file.label_column(&config.label, labels)?;
    let columns = file.columns().iter();
    Ok(columns
        .filter(|column| texts.contains(column) || label == Some(*column))
        .cloned()
        .collect())
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
    let label = present(label, labels, &place)?;
    let label = in_a_list(label, config, labels, &place)?;
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

#[cfg(test)]
mod tests {
    use ::parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
    use ::parquet::column::writer::ColumnWriter;
    use ::parquet::data_type::ByteArray;
    use ::parquet::file::metadata::KeyValue;
    use ::parquet::file::properties::WriterProperties;
    use ::parquet::file::writer::SerializedFileWriter;
    use ::parquet::schema::parser::parse_message_type;

    use super::*;
    use crate::row::RawLabel;

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
        write_with(path, Compression::SNAPPY, None);
    }

    /// - metadata: of the key `huggingface`
    fn write_with(path: &Path, compression: Compression, metadata: Option<&str>) {
        let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
        let metadata = metadata
            .map(|content| KeyValue::new("huggingface".to_owned(), Some(content.to_owned())));
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_key_value_metadata(metadata.map(|entry| vec![entry]))
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

    /// Without the count of columns.
    fn read_parquet(
        file: File,
        path: &Arc<Path>,
        config: &DataConfig,
        labels: LabelPolicy,
    ) -> Result<Vec<Row>, DataError> {
        super::read_parquet(file, path, config, labels, &mut ColumnTally::default())
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
    fn rows_are_the_same_under_every_compression() {
        let expected = read(&with_label("label"), LabelPolicy::Optional).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("train.parquet");
        for compression in [
            Compression::UNCOMPRESSED,
            Compression::ZSTD(ZstdLevel::default()),
            Compression::GZIP(GzipLevel::default()),
            Compression::BROTLI(BrotliLevel::default()),
            Compression::LZ4,
            Compression::LZ4_RAW,
        ] {
            write_with(&path, compression, None);
            let name = Path::new("train.parquet").into();
            let file = File::open(&path).unwrap();
            let rows = read_parquet(file, &name, &with_label("label"), LabelPolicy::Optional);
            assert_eq!(rows.unwrap(), expected, "{compression:?}");
        }
    }

    #[test]
    fn numbers_have_the_names_of_the_files_metadata() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("train.parquet");
        let names: Vec<String> = (0..10).map(|index| format!("class {index}")).collect();
        let features = serde_json::json!({"info": {"features": {"label": {"names": names}}}});
        write_with(&path, Compression::SNAPPY, Some(&features.to_string()));
        let name: Arc<Path> = Path::new("train.parquet").into();
        let file = || File::open(&path).unwrap();
        let error = read_parquet(file(), &name, &with_label("label"), LabelPolicy::Optional);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("found -3 of 10 classes"), "{error}");
        let names: ClassNames = ClassNames::new(vec!["no".to_owned(), "yes".to_owned()]);
        let named = |label| {
            let mut rows = read(&with_label("label"), LabelPolicy::Optional).unwrap();
            rows.truncate(1);
            rows[0].label = Some(label);
            names
                .name_all(&mut rows, "label", LabelPolicy::Required)
                .unwrap();
            rows.remove(0).label
        };
        let yes = RawLabel::Class {
            name: "yes".to_owned(),
            number: 1,
        };
        assert_eq!(named(RawLabel::Integer(1)), Some(yes.clone()));
        assert_eq!(named(RawLabel::Number(1.0)), Some(yes));
        let hidden = RawLabel::Integer(-1);
        assert_eq!(named(hidden.clone()), Some(hidden));
    }

    #[test]
    fn classes_that_are_called_by_numerals_stay_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("train.parquet");
        let schema = "message schema { required binary text (UTF8); required int64 label; }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let features =
            serde_json::json!({"info": {"features": {"label": {"names": ["1", "2", "3"]}}}});
        let metadata = KeyValue::new("huggingface".to_owned(), Some(features.to_string()));
        let properties = WriterProperties::builder().set_key_value_metadata(Some(vec![metadata]));
        let file = File::create(&path).unwrap();
        let mut writer =
            SerializedFileWriter::new(file, schema, Arc::new(properties.build())).unwrap();
        let mut group = writer.next_row_group().unwrap();
        while let Some(mut column) = group.next_column().unwrap() {
            match column.untyped() {
                ColumnWriter::ByteArrayColumnWriter(writer) => {
                    let texts = ["a", "b", "c"].map(ByteArray::from);
                    writer.write_batch(&texts, None, None).unwrap();
                }
                ColumnWriter::Int64ColumnWriter(writer) => {
                    writer.write_batch(&[0, 1, 2], None, None).unwrap();
                }
                _ => unreachable!(),
            }
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
        let rows = read_parquet(
            File::open(&path).unwrap(),
            &path.as_path().into(),
            &with_label("label"),
            LabelPolicy::Required,
        );
        let labels: Vec<String> = rows
            .unwrap()
            .into_iter()
            .map(|row| row.label.unwrap().to_string())
            .collect();
        assert_eq!(labels, ["1", "2", "3"]);
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
    fn a_damaged_byte_ends_in_rows_or_in_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("train.parquet");
        write(&path);
        let whole = std::fs::read(&path).unwrap();
        let name: Arc<Path> = Path::new("train.parquet").into();
        let mut refused = 0;
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] = [0x20, 0x7f, 0xff][at % 3];
            std::fs::write(&path, &damaged).unwrap();
            let file = File::open(&path).unwrap();
            let read = read_parquet(file, &name, &with_label("label"), LabelPolicy::Optional);
            if let Err(error) = read {
                refused += 1;
                let message = error.to_string();
                assert!(message.contains("train.parquet"), "{at}: {message}");
            }
        }
        assert!(refused > whole.len() / 4, "{refused} of {}", whole.len());
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
