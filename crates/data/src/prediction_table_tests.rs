use std::fs::{self, File};

use ::parquet::data_type::{ByteArray, ByteArrayType, Int96, Int96Type};
use ::parquet::file::metadata::KeyValue;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::record::RowAccessor;
use ::parquet::schema::parser::parse_message_type;

use super::*;
use crate::language_row::LanguageContent;

fn table(name: &str, content: &str) -> (tempfile::TempDir, PredictionTable) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(name);
    fs::write(&path, content).unwrap();
    let table = PredictionTable::read(&path, &DataConfig::new("")).unwrap();
    (place, table)
}

fn predictions(labels: &[&str]) -> Vec<PredictedColumn> {
    vec![
        PredictedColumn {
            name: "prediction".to_owned(),
            values: PredictedValues::Texts(labels.iter().map(|&label| label.to_owned()).collect()),
        },
        PredictedColumn {
            name: "score".to_owned(),
            values: PredictedValues::Numbers(vec![0.5; labels.len()]),
        },
    ]
}

fn written(table: &PredictionTable, labels: &[&str]) -> String {
    String::from_utf8(table.with_predictions(&predictions(labels)).unwrap()).unwrap()
}

#[test]
fn rows_come_back_as_they_were_with_their_predictions_behind() {
    let (_place, lines) = table(
        "rows.jsonl",
        "\u{feff}{\"id\": 7, \"text\": \"a\\nb\", \"more\": [1, {\"x\": null}]}\n\n{\"text\": \"c\"}\n",
    );
    assert_eq!(
        written(&lines, &["x", "y"]),
        "{\"id\":7,\"text\":\"a\\nb\",\"more\":[1,{\"x\":null}],\"prediction\":\"x\",\"score\":0.5}\n\
         {\"text\":\"c\",\"prediction\":\"y\",\"score\":0.5}\n"
    );
    let (_place, cells) = table("rows.csv", "id;text\n1;\"a; \"\"b\"\"\nc\"\n2;d\n");
    assert_eq!(
        written(&cells, &["x;", "y"]),
        "id;text;prediction;score\n1;\"a; \"\"b\"\"\nc\";\"x;\";0.5\n2;d;y;0.5\n"
    );
    let (_place, array) = table("rows.json", "[{\"text\": \"a\"}, {\"text\": \"b\"}]");
    let found: Vec<Value> = serde_json::from_str(&written(&array, &["x", "y"])).unwrap();
    assert_eq!(found[1]["prediction"], "y");
    assert_eq!(found[0]["text"], "a");
}

#[test]
fn numbers_of_any_size_and_names_that_are_there_twice_come_back() {
    let number = "123456789012345678901234567890";
    let line = format!("{{\"id\":{number},\"text\":\"a\",\"x\":1.0,\"x\":1e5}}");
    let (_place, lines) = table("rows.jsonl", &format!("{line}\n"));
    let expected = line.replace('}', ",\"prediction\":\"y\",\"score\":0.5}\n");
    assert_eq!(written(&lines, &["y"]), expected);
    let (_place, array) = table("rows.json", &format!("[{line}]"));
    let found = written(&array, &["y"]);
    assert!(
        found.starts_with(&format!("[{}", line.replace('}', ","))),
        "{found}"
    );
}

#[test]
fn cells_come_back_as_they_were_whatever_their_columns_are_called() {
    let (_place, cells) = table("rows.csv", "\u{feff}text,a,a,\r\nb,1,2,\r\n");
    assert_eq!(
        written(&cells, &["x"]),
        "\u{feff}text,a,a,,prediction,score\r\nb,1,2,,x,0.5\r\n"
    );
    let (_place, cells) = table("rows.tsv", "text\na, b\n");
    assert_eq!(
        written(&cells, &["x"]),
        "text\tprediction\tscore\na, b\tx\t0.5\n"
    );
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("rows.csv");
    fs::write(&path, "text,text\na,b\n").unwrap();
    let read = PredictionTable::read(&path, &DataConfig::new(""));
    let error = read.err().expect("either could be meant").to_string();
    assert!(error.contains("has two columns `text`"), "{error}");
}

#[test]
fn texts_pairs_and_paths_are_read_from_the_columns_named() {
    let (_place, table) = table(
        "rows.csv",
        "premise,hypothesis,photo\na,b,1.png\nc,d,2.png\n",
    );
    let config = DataConfig {
        text: "premise".to_owned(),
        text_pair: Some("hypothesis".to_owned()),
        image: "photo".to_owned(),
        ..DataConfig::new("")
    };
    let rows = table.texts(&config).unwrap();
    assert_eq!(
        (rows[1].text.as_str(), rows[1].text_pair.as_deref()),
        ("c", Some("d"))
    );
    assert_eq!(rows[1].place.line, 3);
    assert_eq!(table.image_paths(&config).unwrap()[0].0, "1.png");
    let error = table.texts(&DataConfig::new("")).unwrap_err().to_string();
    assert!(error.contains("there is no column `text`"), "{error}");
}

#[test]
fn prompts_need_no_answer_and_do_not_show_one() {
    let prompt = |line: &str| {
        let (_place, table) = table("rows.jsonl", line);
        let rows = table.prompts(&DataConfig::new("")).unwrap();
        rows[0].content.clone()
    };
    let asked = |prompt: &str| LanguageContent::PromptCompletion {
        prompt: prompt.to_owned(),
        completion: String::new(),
    };
    assert_eq!(prompt(r#"{"prompt": "2 + 2 ="}"#), asked("2 + 2 ="));
    let answered = r#"{"prompt": "2 + 2 =", "completion": " 4"}"#;
    assert_eq!(prompt(answered), asked("2 + 2 ="));
    let LanguageContent::PromptCompletion { prompt: alpaca, .. } =
        prompt(r#"{"instruction": "Add.", "input": "2, 2"}"#)
    else {
        panic!("not a prompt");
    };
    assert!(
        alpaca.contains("### Instruction:\nAdd.") && alpaca.contains("2, 2"),
        "{alpaca}"
    );
    assert_eq!(
        prompt(r#"{"text": "Once"}"#),
        LanguageContent::Text("Once".to_owned())
    );
    let LanguageContent::Conversation { messages, .. } =
        prompt(r#"{"prompt": [{"role": "user", "content": "Hi"}]}"#)
    else {
        panic!("not a conversation");
    };
    assert_eq!(messages.len(), 1);
    let choices = r#"{"question": "2 + 2?", "choices": ["3", "4"]}"#;
    assert!(matches!(
        prompt(choices),
        LanguageContent::MultipleChoice(_)
    ));
}

#[test]
fn an_error_names_only_columns_that_are_there() {
    let (_place, table) = table("rows.jsonl", "{\"premise\": \"a\", \"id\": 1}\n");
    let error = table.prompts(&DataConfig::new("")).unwrap_err().to_string();
    assert!(error.contains("`premise`, `id`"), "{error}");
    assert!(!error.contains("`id`, `completion`"), "{error}");
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("rows.parquet");
    parquet_file(&path);
    let config = DataConfig {
        text: "sentence".to_owned(),
        ..DataConfig::new("")
    };
    let table = PredictionTable::read(&path, &config).unwrap();
    for error in [table.texts(&config).err(), table.prompts(&config).err()] {
        let error = error.expect("there is no such column").to_string();
        assert!(error.contains("`text`, `when`"), "{error}");
    }
}

/// A file with a column of a type that is read nowhere, in two row groups.
fn parquet_file(path: &Path) {
    let schema = "message rows { required binary text (STRING); required int96 when; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder()
        .set_key_value_metadata(Some(vec![
            KeyValue::new("ARROW:schema".to_owned(), "stale".to_owned()),
            KeyValue::new("author".to_owned(), "ours".to_owned()),
        ]))
        .build();
    let file = File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    for (text, when) in [("a", 5), ("b", 6)] {
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<ByteArrayType>()
            .write_batch(&[ByteArray::from(text)], None, None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let mut value = Int96::new();
        value.set_data(when, 0, 0);
        column
            .typed::<Int96Type>()
            .write_batch(&[value], None, None)
            .unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
}

#[test]
fn a_parquet_file_keeps_columns_of_any_type() {
    let place = tempfile::tempdir().unwrap();
    let (path, out) = (
        place.path().join("in.parquet"),
        place.path().join("out.parquet"),
    );
    parquet_file(&path);
    let config = DataConfig::new("");
    let table = PredictionTable::read(&path, &config).unwrap();
    assert_eq!(table.texts(&config).unwrap()[1].text, "b");
    assert!(table.require_text().is_err());
    let bytes = table.with_predictions(&predictions(&["x", "y"])).unwrap();
    fs::write(&out, bytes).unwrap();

    let reader = SerializedFileReader::new(File::open(&out).unwrap()).unwrap();
    let metadata = reader.metadata().file_metadata();
    let kept: Vec<&str> = metadata
        .key_value_metadata()
        .unwrap()
        .iter()
        .map(|entry| entry.key.as_str())
        .collect();
    assert_eq!(kept, ["author"]);
    let rows: Vec<String> = reader
        .get_row_iter(None)
        .unwrap()
        .map(|row| row.unwrap().to_string())
        .collect();
    assert_eq!(rows.len(), 2);
    assert!(rows[1].starts_with("{text: \"b\", when: "), "{}", rows[1]);
    assert!(
        rows[1].ends_with("prediction: \"y\", score: 0.5}"),
        "{}",
        rows[1]
    );
    let original = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
    let when = |reader: &SerializedFileReader<File>| {
        let rows = reader.get_row_iter(None).unwrap();
        rows.map(|row| row.unwrap().get_timestamp_millis(1).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(when(&reader), when(&original));
}

#[test]
fn a_compressed_table_is_written_compressed() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("rows.csv.gz");
    let content = "text\na\n";
    let compressed = Compression::Gzip.compress(content.as_bytes()).unwrap();
    fs::write(&path, compressed).unwrap();
    let config = DataConfig::new("");
    let table = PredictionTable::read(&path, &config).unwrap();
    table.require_same_format(Path::new("out.csv.gz")).unwrap();
    assert!(table.require_same_format(Path::new("out.csv")).is_err());
    let plain = table.with_predictions(&predictions(&["x"])).unwrap();
    assert_eq!(plain, b"text,prediction,score\na,x,0.5\n");
    fs::write(&path, table.compressed(plain).unwrap()).unwrap();
    let again = PredictionTable::read(&path, &config).unwrap();
    assert_eq!(again.column_names(), ["text", "prediction", "score"]);
}

#[test]
fn a_name_that_is_taken_and_a_format_that_is_another_are_refused() {
    let (_place, table) = table(
        "rows.jsonl",
        "{\"text\": \"a\"}\n{\"text\": \"b\", \"score\": 1}\n",
    );
    let error = table
        .require_free(&["prediction", "score"])
        .unwrap_err()
        .to_string();
    assert!(error.contains("has a column `score` already"), "{error}");
    assert!(table.require_free(&["prediction"]).is_ok());
    let error = table
        .require_same_format(Path::new("out.csv"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("`out.csv` is of another format"), "{error}");
    assert!(table.require_same_format(Path::new("out.jsonl")).is_ok());
}

#[test]
fn a_file_without_rows_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("rows.jsonl");
    fs::write(&path, "\n").unwrap();
    let error = PredictionTable::read(&path, &DataConfig::new(""))
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("has no rows to predict for"),
        "{error}"
    );
}
