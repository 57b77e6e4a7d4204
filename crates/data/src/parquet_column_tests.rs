//! Lists of labels in parquet files, as `datasets` and other writers nest them.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ::parquet::column::writer::ColumnWriter;
use ::parquet::data_type::ByteArray;
use ::parquet::file::metadata::KeyValue;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;

use crate::config::DataConfig;
use crate::error::DataError;
use crate::parquet::read_parquet;
use crate::row::{LabelPolicy, Row};
use crate::unread_columns::ColumnTally;

/// Three rows whose lists are [2, 0], [] and [1], or where `nulls` the third one is missing.
fn read(
    labels: &str,
    metadata: Option<&str>,
    nulls: bool,
    policy: LabelPolicy,
) -> Result<Vec<Row>, DataError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train.parquet");
    let schema = format!("message schema {{ required binary text (UTF8); {labels} }}");
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let metadata = metadata.map(|content| {
        let content = Some(content.to_owned());
        vec![KeyValue::new("huggingface".to_owned(), content)]
    });
    let properties = WriterProperties::builder().set_key_value_metadata(metadata);
    let file = File::create(&path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties.build())).unwrap();
    let mut group = writer.next_row_group().unwrap();
    // Levels of: an element, another of the same row, an empty list, an element or no list.
    let last = if nulls { 0 } else { 3 };
    let levels = (Some(&[3, 3, 1, last][..]), Some(&[0, 1, 0, 0][..]));
    let present = if nulls { 2 } else { 3 };
    while let Some(mut column) = group.next_column().unwrap() {
        match column.untyped() {
            ColumnWriter::ByteArrayColumnWriter(writer) => {
                let texts = ["a", "b", "c"].map(ByteArray::from);
                let is_text = writer.write_batch(&texts, None, None).is_ok();
                if !is_text {
                    let names = ["x", "z", "y"].map(ByteArray::from);
                    let (definition, repetition) = levels;
                    writer
                        .write_batch(&names[..present], definition, repetition)
                        .unwrap();
                }
            }
            ColumnWriter::Int64ColumnWriter(writer) => {
                let (definition, repetition) = levels;
                writer
                    .write_batch(&[2, 0, 1][..present], definition, repetition)
                    .unwrap();
            }
            _ => unreachable!("the schema has no other type"),
        }
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    let config = DataConfig {
        label: "labels".to_owned(),
        ..DataConfig::new("unused")
    };
    let file = File::open(&path).unwrap();
    read_parquet(
        file,
        &Path::new("train.parquet").into(),
        &config,
        policy,
        &mut ColumnTally::default(),
    )
}

const INTEGERS: &str =
    "optional group labels (LIST) { repeated group list { optional int64 element; } }";
const STRINGS: &str =
    "optional group labels (LIST) { repeated group list { optional binary element (UTF8); } }";

fn labels(rows: &[Row]) -> Vec<String> {
    let labels = rows.iter().map(|row| row.label.as_ref().unwrap());
    labels.map(|label| label.to_string()).collect()
}

#[test]
fn lists_of_strings_and_integers_are_lists_of_labels() {
    let rows = read(INTEGERS, None, false, LabelPolicy::Lists).unwrap();
    assert_eq!(labels(&rows), ["[2, 0]", "[]", "[1]"]);
    let rows = read(STRINGS, None, false, LabelPolicy::Lists).unwrap();
    assert_eq!(labels(&rows), ["[x, z]", "[]", "[y]"]);
}

#[test]
fn integers_in_lists_have_the_names_of_the_files_metadata() {
    let names = r#"{"names": ["p", "q", "r"], "_type": "ClassLabel"}"#;
    // Of `datasets` 2 and 3, 4, and of lists written in a configuration.
    for feature in [
        format!(r#"{{"feature": {names}, "_type": "Sequence"}}"#),
        format!(r#"{{"feature": {names}, "_type": "List"}}"#),
        format!("[{names}]"),
    ] {
        let metadata = format!(r#"{{"info": {{"features": {{"labels": {feature}}}}}}}"#);
        let rows = read(INTEGERS, Some(&metadata), false, LabelPolicy::Lists).unwrap();
        assert_eq!(labels(&rows), ["[r, p]", "[]", "[q]"], "{feature}");
    }
}

#[test]
fn a_row_without_a_list_is_named_and_so_is_a_list_where_one_label_is_wanted() {
    let error = read(INTEGERS, None, true, LabelPolicy::Lists).unwrap_err();
    let message = error.to_string();
    assert!(
        message.starts_with("train.parquet:3: the row does not say which labels it has"),
        "{message}"
    );
    let message = read(INTEGERS, None, false, LabelPolicy::Required)
        .unwrap_err()
        .to_string();
    assert!(
        message.starts_with("train.parquet: column `labels` has a list of labels"),
        "{message}"
    );
}
