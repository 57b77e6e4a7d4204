//! Datasets of a Hub.

use std::fs;
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::Value;

use crate::fake_hub::{Access, FakeHub};
use crate::support::{Workplace, quickstart};
use crate::{run, run_json};

/// Rows of two texts as parquet.
fn parquet(rows: &[[&str; 2]]) -> Vec<u8> {
    const SCHEMA: &str = "message schema {
        required binary text (STRING);
        required binary label (STRING);
    }";
    let schema = Arc::new(parse_message_type(SCHEMA).expect("a schema"));
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).expect("a file");
    let mut group = writer.next_row_group().expect("a group");
    for column in 0..2 {
        let values: Vec<ByteArray> = rows.iter().map(|row| row[column].into()).collect();
        let mut writer = group.next_column().expect("a column").expect("a column");
        let typed = writer.typed::<ByteArrayType>();
        typed.write_batch(&values, None, None).expect("values");
        writer.close().expect("a column");
    }
    group.close().expect("a group");
    writer.into_inner().expect("a file")
}

#[test]
fn a_dataset_in_parquet_shards_gives_what_its_rows_give_as_lines() {
    let lines = fs::read_to_string(quickstart("tasks/gym/test.jsonl")).expect("rows");
    let rows: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let text = |row: &Value, key: &str| row[key].as_str().expect("a text").to_owned();
    let rows: Vec<[String; 2]> = rows
        .iter()
        .map(|row| [text(row, "text"), text(row, "label")])
        .collect();
    let rows: Vec<[&str; 2]> = rows
        .iter()
        .map(|[text, label]| [text.as_str(), label])
        .collect();
    let (first, second) = rows.split_at(rows.len() / 3);
    let card = b"---\nconfigs:\n- config_name: plain\n  data_files:\n  - split: test\n    path: plain/held-*\n---\n";
    let files = [
        ("README.md", card.to_vec()),
        ("plain/held-00000-of-00002.parquet", parquet(first)),
        ("plain/held-00001-of-00002.parquet", parquet(second)),
        ("other/test-00000-of-00001.parquet", parquet(second)),
    ];
    let hub = FakeHub::start();
    let files = files.map(|(name, content)| (name.to_owned(), content));
    hub.add("datasets", "org/shards", files.into(), Access::Public);
    let place = Workplace::new();
    let (base, gym, data) = (
        quickstart("base"),
        quickstart("adapters/gym"),
        quickstart("tasks/gym"),
    );
    let common = ["evaluate", "--base", &base, "--adapter", &gym, "--data"];
    let there = run_json(&place, &hub, &[&common[..], &["org/shards"]].concat());
    let here = place.run_json(&[&common[..], &[&data]].concat());
    assert_eq!(there["metrics"], here["metrics"]);
    assert_eq!(there["examples"], rows.len());
    let lines = hub.request_lines();
    assert!(
        !lines.iter().any(|line| line.contains("other/")),
        "{lines:?}"
    );
}

#[test]
fn a_dataset_says_what_it_has_where_it_is_not_what_was_asked_for() {
    let hub = FakeHub::start();
    let row = b"{\"text\": \"a\", \"label\": \"x\"}\n".to_vec();
    let names = [
        "en/train.jsonl",
        "en/test.jsonl",
        "de/train.jsonl",
        "de/test.jsonl",
    ];
    let files = names.map(|name| (name.to_owned(), row.clone()));
    hub.add("datasets", "org/two", files.into(), Access::Public);
    let place = Workplace::new();
    let (base, gym) = (quickstart("base"), quickstart("adapters/gym"));
    let evaluate = |data: &str, extra: &[&str]| {
        let arguments = [
            "evaluate",
            "--base",
            &base,
            "--adapter",
            &gym,
            "--data",
            data,
        ];
        let outcome = run(&place, &hub, &[&arguments[..], extra].concat());
        assert_eq!(outcome.status, 2, "{outcome:?}");
        outcome.stderr
    };
    let several = evaluate("org/two", &[]);
    assert!(
        several.contains("`de`, `en`") && several.contains("data.config"),
        "{several}"
    );
    // The one configuration is read: its label is none of the adapter's.
    let chosen = evaluate("org/two", &["--set", "config=en"]);
    assert!(chosen.contains("unknown label `x`"), "{chosen}");
    let pattern = evaluate("org/two", &["--set", "files.test=nowhere/*.csv"]);
    assert!(
        pattern.contains("nowhere/*.csv") && pattern.contains("en/test.jsonl"),
        "{pattern}"
    );
    let missing = evaluate("org/three", &[]);
    assert!(
        missing.contains("org/three") && missing.contains("spelling"),
        "{missing}"
    );
    let misspelt = evaluate("no-such-directory", &[]);
    assert!(misspelt.contains("not a directory"), "{misspelt}");
}
