//! The valid parquet files that are changed: every compression, flat and nested columns.

use std::sync::Arc;

use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::SchemaDescriptor;

const FLAT: &str = "message schema {
    optional binary text (UTF8);
    optional int64 label;
    required double score;
    optional boolean flag;
    optional int64 day (TIMESTAMP(NANOS,true));
}";

const MESSAGES: &str = "message schema {
    optional group messages (LIST) { repeated group list { optional group element {
        optional binary role (UTF8);
        optional binary content (UTF8);
        optional double weight;
    } } }
    optional group tools (LIST) { repeated group list { optional binary element (UTF8); } }
}";

const CHOICES: &str = "message schema {
    required binary question (UTF8);
    required group choices (LIST) { repeated group list { required binary element (UTF8); } }
    required int64 answer;
}";

const IMAGES: &str = "message schema {
    optional group image { optional binary bytes; optional binary path (UTF8); }
    optional int64 label;
}";

/// A BMP of two by two pixels.
pub fn image() -> Vec<u8> {
    let mut file = b"BM".to_vec();
    for word in [
        70_u32,
        0,
        54,
        40,
        2,
        2,
        0x0018_0001,
        0,
        16,
        2835,
        2835,
        0,
        0,
    ] {
        file.extend(word.to_le_bytes());
    }
    file.extend([0, 0, 255, 0, 255, 0, 0, 0, 255, 0, 0, 255, 255, 255, 0, 0]);
    file
}

pub fn specimens() -> Vec<Vec<u8>> {
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let flat = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        zstd,
        Compression::GZIP(GzipLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
    ];
    let flat = flat.map(|compression| (FLAT, compression));
    let nested = [MESSAGES, CHOICES, IMAGES]
        .into_iter()
        .flat_map(|schema| [Compression::UNCOMPRESSED, zstd].map(|codec| (schema, codec)));
    flat.into_iter()
        .chain(nested)
        .flat_map(|(schema, compression)| {
            let versions = [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0];
            versions.map(|version| written(schema, compression, version))
        })
        .collect()
}

/// Groups of three, of no and of two rows. A list has two elements.
fn written(schema: &str, compression: Compression, version: WriterVersion) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let leaves = SchemaDescriptor::new(Arc::clone(&schema));
    let names = r#"{"info": {"features": {"label": {"names": ["no", "yes"]}}}}"#;
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_writer_version(version)
        .set_key_value_metadata(Some(vec![KeyValue::new(
            "huggingface".to_owned(),
            names.to_owned(),
        )]))
        .build();
    let mut out = Vec::new();
    let mut writer =
        SerializedFileWriter::new(&mut out, schema, Arc::new(properties)).expect("a writer");
    for rows in [3, 0, 2] {
        let mut group = writer.next_row_group().expect("a group");
        let mut leaves = leaves.columns().iter();
        while let Some(mut column) = group.next_column().expect("a column") {
            let leaf = leaves.next().expect("as many as columns");
            let is_list = leaf.max_rep_level() > 0;
            let count = if is_list { 2 * rows } else { rows };
            let levels = vec![leaf.max_def_level(); count];
            let starts: Vec<i16> = (0..count).map(|index| (index % 2) as i16).collect();
            let definition = (leaf.max_def_level() > 0).then_some(levels.as_slice());
            let repetition = is_list.then_some(starts.as_slice());
            let indices = 0..count;
            match column.untyped() {
                ColumnWriter::ByteArrayColumnWriter(column) => {
                    let texts: Vec<ByteArray> = indices
                        .map(|index| match leaf.name() {
                            "bytes" => image().into(),
                            "path" => "a.bmp".into(),
                            "role" => ["user", "assistant"][index % 2].into(),
                            name => format!("{name} {index}").as_str().into(),
                        })
                        .collect();
                    column.write_batch(&texts, definition, repetition)
                }
                ColumnWriter::Int64ColumnWriter(column) => {
                    let values: Vec<i64> = indices.map(|index| index as i64 % 2).collect();
                    column.write_batch(&values, definition, repetition)
                }
                ColumnWriter::DoubleColumnWriter(column) => {
                    let values: Vec<f64> = indices.map(|_| 1.0).collect();
                    column.write_batch(&values, definition, repetition)
                }
                ColumnWriter::BoolColumnWriter(column) => {
                    let values: Vec<bool> = indices.map(|index| index == 1).collect();
                    column.write_batch(&values, definition, repetition)
                }
                _ => unreachable!("the schemas have no other type"),
            }
            .expect("a batch");
            column.close().expect("a column");
        }
        group.close().expect("a group");
    }
    writer.close().expect("a file");
    out
}

/// A file of one text, of which a page says that it is as large as it is.
pub fn bomb(text: &[u8]) -> Vec<u8> {
    let schema = "message schema { required binary text (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .build();
    let mut out = Vec::new();
    let mut writer =
        SerializedFileWriter::new(&mut out, schema, Arc::new(properties)).expect("a writer");
    let mut group = writer.next_row_group().expect("a group");
    let mut column = group.next_column().expect("a column").expect("one");
    let values = [ByteArray::from(text.to_vec())];
    let ColumnWriter::ByteArrayColumnWriter(typed) = column.untyped() else {
        unreachable!("the schema has no other type")
    };
    typed.write_batch(&values, None, None).expect("a batch");
    column.close().expect("a column");
    group.close().expect("a group");
    writer.close().expect("a file");
    out
}
