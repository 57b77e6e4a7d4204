//! Rows with images, in every form that datasets have them in.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ::parquet::data_type::{ByteArray, ByteArrayType};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};

use super::*;
use crate::content_part::ContentPart;
use crate::images::ImageSource;
use crate::language_row::LanguageContent;

fn read(file: &str, rows: &Value, config: &str) -> Result<LanguageRows, String> {
    let dir = tempfile::tempdir().unwrap();
    let lines = match rows.as_array() {
        Some(rows) if file.ends_with(".jsonl") => {
            let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
            lines.join("\n")
        }
        _ => rows.to_string(),
    };
    fs::write(dir.path().join(file), lines).unwrap();
    let config = format!("path = \"d\"\n{config}");
    let config: DataConfig = toml::from_str(&config).unwrap();
    let found = read_language_split(dir.path(), Split::Train, &config.with_images());
    let relative = |source: ImageSource| match source {
        ImageSource::File(path) => {
            let path = path.strip_prefix(dir.path()).unwrap();
            ImageSource::File(path.to_owned())
        }
        bytes => bytes,
    };
    let mut found = found.map_err(|error| {
        error
            .to_string()
            .replace(&format!("{}/", dir.path().display()), "")
    })?;
    for row in &mut found.rows {
        row.images = std::mem::take(&mut row.images)
            .into_iter()
            .map(relative)
            .collect();
    }
    Ok(found)
}

fn file(name: &str) -> ImageSource {
    ImageSource::File(Path::new(name).to_owned())
}

fn parts(row: &LanguageRow) -> Vec<Option<Vec<ContentPart>>> {
    let LanguageContent::Conversation { messages, .. } = &row.content else {
        panic!("no conversation")
    };
    messages
        .iter()
        .map(|message| message.parts.clone())
        .collect()
}

fn asked(images: usize, text: &str) -> Option<Vec<ContentPart>> {
    let mut parts = vec![ContentPart::image(); images];
    parts.push(ContentPart::text(text));
    Some(parts)
}

#[test]
fn llava_s_json_has_rows_with_images_and_without() {
    let rows = json!([
        {"id": "1", "image": "coco/1.jpg", "conversations": [
            {"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A fox."}]},
        {"id": "2", "conversations": [
            {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]},
        {"id": "3", "image": ["a.png", "b.png"], "conversations": [
            {"from": "human", "value": "<image>\n<image>\nBoth?"}, {"from": "gpt", "value": "Yes."}]},
    ]);
    let found = read("train.json", &rows, "").unwrap();
    let images: Vec<_> = found.rows.iter().map(|row| row.images.clone()).collect();
    assert_eq!(
        images,
        [
            vec![file("coco/1.jpg")],
            vec![],
            vec![file("a.png"), file("b.png")]
        ]
    );
    assert_eq!(parts(&found.rows[0]), [asked(1, "What is it?"), None]);
    assert_eq!(parts(&found.rows[1]), [None, None]);
    assert_eq!(parts(&found.rows[2]), [asked(2, "Both?"), None]);
    let unread: Vec<&str> = found.unread.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(unread, ["id"]);
}

#[test]
fn parts_name_their_image_or_leave_it_to_the_column() {
    let message = |parts: Value| json!([{"role": "user", "content": parts}, {"role": "assistant", "content": "A fox."}]);
    let what = json!({"type": "text", "text": "What?"});
    for (row, expected) in [
        (
            json!({"messages": message(json!([{"type": "image"}, what])), "images": ["a.png"]}),
            file("a.png"),
        ),
        (
            json!({"messages": message(json!([{"type": "image", "image": "b.png"}, what]))}),
            file("b.png"),
        ),
        (
            json!({"messages": message(json!([
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AQI="}}, what]))}),
            ImageSource::Bytes([1, 2].as_slice().into()),
        ),
        // TRL puts images before a question that has no places for them.
        (
            json!({"messages": message(json!("What?")), "images": [{"bytes": null, "path": "c.png"}]}),
            file("c.png"),
        ),
    ] {
        let found = read("train.jsonl", &json!([row]), "").unwrap();
        assert_eq!(found.rows[0].images, [expected]);
        let parts = parts(&found.rows[0]);
        let first = parts[0].as_ref().expect("parts");
        assert!(
            first[0].is_image() && first[1] == ContentPart::text("What?"),
            "{first:?}"
        );
    }
}

#[test]
fn prompts_and_questions_have_places_for_images_too() {
    let rows = json!([{"prompt": "<image>\nWhat?", "completion": " red", "photo": "a.png", "answers": ["red", "Red"]}]);
    let found = read("train.jsonl", &rows, "image = \"photo\"").unwrap();
    assert_eq!(found.rows[0].images, [file("a.png")]);
    assert_eq!(found.rows[0].answers, ["red", "Red"]);
    let rows =
        json!([{"question": "What?", "choices": ["red", "blue"], "answer": 1, "image": "a.png"}]);
    let template = "prompt_template = \"<image>\\n{{ question }}\"";
    let found = read("train.jsonl", &rows, template).unwrap();
    assert_eq!(found.rows[0].images, [file("a.png")]);
}

#[test]
fn images_without_places_and_places_without_images_are_named_with_their_row() {
    let row = |text: &str, image: Value| {
        let good = json!({"prompt": "a", "completion": "b", "image": null});
        json!([good, {"prompt": text, "completion": " red", "image": image}])
    };
    for (rows, expected) in [
        (
            row("<image> What?", Value::Null),
            "places for 1 images (`<image>`, or parts of type `image`), and the row brings 0",
        ),
        (
            row("What?", json!("a.png")),
            "places for 0 images (`<image>`, or parts of type `image`), and the row brings 1",
        ),
        (
            row("<image> What?", json!(["a.png", "b.png"])),
            "places for 1 images",
        ),
        (
            row("<image> What?", json!("https://example.org/a.png")),
            "is on the Internet; download it",
        ),
        (
            row("<image> What?", json!(3)),
            "column `image`: expected an image: its path, its bytes, or `bytes` and `path`, found a number",
        ),
    ] {
        let error = read("train.jsonl", &rows, "").unwrap_err();
        assert!(
            error.starts_with("train.jsonl:2: ") && error.contains(expected),
            "{error}"
        );
    }
    let both = json!([{"messages": [{"role": "user", "content": [{"type": "image", "image": "b.png"}, {"type": "image"}]}], "images": ["a.png"]}]);
    let error = read("train.jsonl", &both, "").unwrap_err();
    assert!(
        error.contains("have all of them in one of the two"),
        "{error}"
    );
}

/// As the Hub stores them: a list of structures of bytes and path, beside messages as JSON text.
#[test]
fn parquet_of_the_hub_has_the_bytes_of_images() {
    let dir = tempfile::tempdir().unwrap();
    let schema = "message rows {
        required binary prompt (UTF8);
        required binary completion (UTF8);
        optional group image { optional binary bytes; optional binary path (UTF8); }
    }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let out = fs::File::create(dir.path().join("train.parquet")).unwrap();
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(out, schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    // The second row has no image; the bytes of the first are no UTF-8 and begin as a PNG does.
    let png = [0x89, b'P', b'N', b'G'];
    let columns: [(Vec<ByteArray>, Option<[i16; 2]>); 4] = [
        (vec!["<image> What?".into(), "Hi".into()], None),
        (vec![" red".into(), " there".into()], None),
        (vec![png.to_vec().into()], Some([2, 0])),
        (vec!["1.png".into()], Some([2, 0])),
    ];
    for (values, levels) in columns {
        let mut column = group.next_column().unwrap().unwrap();
        let levels = levels.as_ref().map(<[i16; 2]>::as_slice);
        column
            .typed::<ByteArrayType>()
            .write_batch(&values, levels, None)
            .unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    let config = DataConfig::new("d").with_images();
    let found = read_language_split(dir.path(), Split::Train, &config).unwrap();
    let images: Vec<_> = found.rows.iter().map(|row| row.images.clone()).collect();
    assert_eq!(
        images,
        [vec![ImageSource::Bytes(png.as_slice().into())], vec![]]
    );
    assert!(found.unread.is_empty(), "{:?}", found.unread);
}
