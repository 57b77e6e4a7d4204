//! Files as the Hub's converter writes them, and columns that are not images.

use ::parquet::basic::Compression;
use ::parquet::column::writer::ColumnWriter;
use ::parquet::data_type::ByteArray;
use ::parquet::file::metadata::KeyValue;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;

use super::*;
use crate::images::test_images::bmp;
use crate::row::RawLabel;

/// As the Hub's converter writes it.
const HUB: &str = "message schema {
    optional group image {
        optional binary bytes;
        optional binary path (STRING);
    }
    optional int64 label;
    optional int96 stamp;
}";

/// What `datasets` keeps beside the columns, cut down to what is read.
const FEATURES: &str = r#"{"info": {"features": {
    "image": {"_type": "Image"},
    "label": {"names": ["cat", "dog", "owl"], "_type": "ClassLabel"}}}}"#;

/// Optional values become present ones and levels; a value inside a group is one level deeper.
fn levels<T: Clone>(values: &[Option<T>], deepest: i16) -> (Vec<T>, Vec<i16>) {
    let present = values.iter().flatten().cloned().collect();
    let levels = values.iter().map(|value| {
        if value.is_some() {
            deepest
        } else {
            deepest - 1
        }
    });
    (present, levels.collect())
}

/// Binary columns in their order, and the numbers of the only integer column.
fn write(
    path: &Path,
    schema: &str,
    metadata: Option<&str>,
    binaries: &[Vec<Option<Vec<u8>>>],
    depth: i16,
    numbers: &[Option<i64>],
) {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let metadata =
        metadata.map(|content| vec![KeyValue::new("huggingface".to_owned(), content.to_owned())]);
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_key_value_metadata(metadata)
        .build();
    let file = File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut binaries = binaries.iter();
    while let Some(mut column) = group.next_column().unwrap() {
        match column.untyped() {
            ColumnWriter::ByteArrayColumnWriter(column) => {
                let values = binaries.next().unwrap();
                let (values, levels) = levels(values, depth);
                let values: Vec<ByteArray> = values.into_iter().map(ByteArray::from).collect();
                column.write_batch(&values, Some(&levels), None).unwrap();
            }
            ColumnWriter::Int64ColumnWriter(column) => {
                let (values, levels) = levels(numbers, 1);
                column.write_batch(&values, Some(&levels), None).unwrap();
            }
            ColumnWriter::Int96ColumnWriter(column) => {
                column
                    .write_batch(&[], Some(&vec![0; numbers.len()]), None)
                    .unwrap();
            }
            _ => unreachable!("the schemas have no other type"),
        }
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

fn hub_file(path: &Path, metadata: Option<&str>, labels: &[Option<i64>]) {
    let count = labels.len();
    let mut bytes: Vec<Option<Vec<u8>>> = (0..count)
        .map(|index| Some(bmp(2, 3, [index as u8, 9, 9])))
        .collect();
    // The last image lies beside the file.
    bytes[count - 1] = None;
    let names = (0..count).map(|index| Some(format!("image-{index}.bmp").into_bytes()));
    write(path, HUB, metadata, &[bytes, names.collect()], 2, labels);
}

fn read(path: &Path, labels: LabelPolicy) -> Result<Vec<ImageRow>, String> {
    read_parquet_images(path, &DataConfig::new("unused"), labels).map_err(|error| error.to_string())
}

/// Without the count of columns.
fn read_parquet_images(
    path: &Path,
    config: &DataConfig,
    labels: LabelPolicy,
) -> Result<Vec<ImageRow>, DataError> {
    super::read_parquet_images(path, config, labels, &mut ColumnTally::default())
}

fn words(rows: &[ImageRow]) -> Vec<Option<String>> {
    rows.iter()
        .map(|row| row.label.as_ref().map(RawLabel::to_string))
        .collect()
}

#[test]
fn images_of_the_hub_are_read_with_the_names_of_their_classes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train.parquet");
    hub_file(&path, Some(FEATURES), &[Some(2), Some(0), Some(1), Some(2)]);
    let rows = read(&path, LabelPolicy::Required).unwrap();
    let expected = ["owl", "cat", "dog", "owl"].map(|name| Some(name.to_owned()));
    assert_eq!(words(&rows), expected);
    for (index, row) in rows[..3].iter().enumerate() {
        let pixels = [index as u8, 9, 9].repeat(6);
        assert_eq!(row.decode().unwrap().pixels(), pixels);
    }
    let beside = dir.path().join("image-3.bmp");
    assert_eq!(rows[3].source, ImageSource::File(beside));
    assert!(rows[3].place.to_string().ends_with("train.parquet:4"));
}

#[test]
fn without_names_numbers_stay_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train.parquet");
    for metadata in [
        None,
        Some(r#"{"info": {"features": {"label": {"dtype": "int64"}}}}"#),
    ] {
        hub_file(&path, metadata, &[Some(2), Some(0)]);
        let rows = read(&path, LabelPolicy::Required).unwrap();
        assert_eq!(rows[0].label, Some(RawLabel::Integer(2)));
    }
}

#[test]
fn a_label_kept_secret_is_none_and_one_past_the_names_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("test.parquet");
    hub_file(&path, Some(FEATURES), &[Some(1), Some(-1), None]);
    let rows = read(&path, LabelPolicy::Optional).unwrap();
    assert_eq!(words(&rows), [Some("dog".to_owned()), None, None]);
    let error = read(&path, LabelPolicy::Required).unwrap_err();
    assert!(
        error.contains("test.parquet:2: the row has no label"),
        "{error}"
    );

    hub_file(&path, Some(FEATURES), &[Some(1), Some(3)]);
    let error = read(&path, LabelPolicy::Optional).unwrap_err();
    assert!(error.contains("test.parquet:2: column `label`"), "{error}");
    assert!(error.contains("found 3 of 3 classes"), "{error}");
}

#[test]
fn plain_bytes_are_images_and_strings_are_paths() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train.parquet");
    let schema = "message schema { optional binary image; optional int64 label; }";
    let image = bmp(2, 3, [4, 5, 6]);
    let labels = [Some(7)];
    write(&path, schema, None, &[vec![Some(image)]], 1, &labels);
    let rows = read(&path, LabelPolicy::Required).unwrap();
    assert_eq!(rows[0].decode().unwrap().pixels(), [4, 5, 6].repeat(6));

    let schema = "message schema { optional binary image (STRING); optional int64 label; }";
    let name = Some(b"a/b.bmp".to_vec());
    write(&path, schema, None, &[vec![name]], 1, &labels);
    let rows = read(&path, LabelPolicy::Required).unwrap();
    assert_eq!(
        rows[0].source,
        ImageSource::File(dir.path().join("a/b.bmp"))
    );
    assert_eq!(rows[0].label, Some(RawLabel::Integer(7)));
}

#[test]
fn columns_of_other_types_and_rows_without_an_image_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train.parquet");
    hub_file(&path, None, &[Some(2), Some(0)]);
    let config = |image: &str, label: &str| DataConfig {
        image: image.to_owned(),
        label: label.to_owned(),
        ..DataConfig::new("unused")
    };
    let refusal = |config: DataConfig| {
        read_parquet_images(&path, &config, LabelPolicy::Required)
            .unwrap_err()
            .to_string()
    };
    let error = refusal(config("label", "label"));
    assert!(
        error.contains("column `label` holds INT64, expected images"),
        "{error}"
    );
    let error = refusal(config("image", "image"));
    assert!(error.contains("column `image` holds a list"), "{error}");
    let error = refusal(config("images", "label"));
    assert!(
        error.contains("did you mean `image`? Set `data.image`"),
        "{error}"
    );

    let schema = "message schema { optional binary image; optional int64 label; }";
    write(&path, schema, None, &[vec![None]], 1, &[Some(7)]);
    let error = refusal(config("image", "label"));
    assert!(
        error.contains("train.parquet:1: column `image`: expected an image, found null"),
        "{error}"
    );
}
