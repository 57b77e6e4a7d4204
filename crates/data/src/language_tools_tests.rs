//! Rows with tools and earlier turns, in every form of rows.

use std::fs;
use std::sync::Arc;

use ::parquet::column::writer::ColumnWriter;
use ::parquet::data_type::ByteArray;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use serde_json::json;

use super::*;
use crate::{LanguageContent, Message, PredictionTable};

fn read(content: &str, config: &DataConfig) -> Result<LanguageRows, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train.jsonl");
    fs::write(&path, content).unwrap();
    read_language_split(dir.path(), Split::Train, config).map_err(|error| error.to_string())
}

fn usual() -> DataConfig {
    DataConfig::new("unused")
}

/// The messages and the tools of each row.
fn conversations(rows: &[LanguageRow]) -> Vec<(Vec<Message>, Vec<Value>)> {
    let conversation = |row: &LanguageRow| match &row.content {
        LanguageContent::Conversation {
            messages, tools, ..
        } => (messages.clone(), tools.clone()),
        other => panic!("{other:?}"),
    };
    rows.iter().map(conversation).collect()
}

#[test]
fn a_column_of_tools_goes_with_messages_and_with_prompts_that_are_messages() {
    let rows = r#"{"messages": [{"role": "user", "content": "Hi"}], "functions": "[{\"name\": \"add\"}]"}
                  {"messages": [{"role": "user", "content": "Hi"}], "functions": null}"#;
    let found = read(rows, &usual()).unwrap();
    assert!(found.unread.is_empty());
    let found = conversations(&found.rows);
    assert_eq!(found[0].1, [json!({"name": "add"})]);
    assert!(found[1].1.is_empty());

    let prompts = r#"{"prompt": [{"role": "user", "content": "Hi"}], "tools": [{"name": "add"}],
        "completion": [{"role": "assistant", "tool_calls": [{"name": "add", "arguments": {}}]}]}"#;
    let found = read(&prompts.replace('\n', ""), &usual()).unwrap();
    let (messages, tools) = &conversations(&found.rows)[0];
    assert_eq!(tools, &[json!({"name": "add"})]);
    assert!(messages[1].calls_tools() && messages[1].content.is_none());

    let texts = r#"{"prompt": "Hi", "completion": "Yes?", "tools": [{"name": "add"}]}"#;
    let found = read(texts, &usual()).unwrap();
    assert_eq!(found.unread, [("tools".to_owned(), 1)]);

    let config: DataConfig = toml::from_str("path = \"d\"\n[columns]\ntools = \"api\"").unwrap();
    let rows = r#"{"messages": [{"role": "user", "content": "Hi"}], "api": ["search"]}"#;
    let error = read(rows, &config).unwrap_err();
    assert!(
        error.contains("column `api`: expected a list of tools"),
        "{error}"
    );
}

#[test]
fn rows_to_predict_for_have_their_tools() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.jsonl");
    let rows = r#"{"messages": [{"role": "user", "content": "Hi"}], "tools": [{"name": "add"}]}
                  {"prompt": 1, "messages": [{"role": "user", "content": "Hi"}]}"#;
    fs::write(&path, rows).unwrap();
    let table = PredictionTable::read(&path, &usual()).unwrap();
    let found = conversations(&table.prompts(&usual()).unwrap());
    assert_eq!(found[0].1, [json!({"name": "add"})]);
    assert!(found[1].1.is_empty());
    let rows = r#"{"prompt": [{"role": "user", "content": "Hi"}], "tools": [{"name": "add"}]}"#;
    fs::write(&path, rows).unwrap();
    let table = PredictionTable::read(&path, &usual()).unwrap();
    let found = conversations(&table.prompts(&usual()).unwrap());
    assert_eq!(found[0].1, [json!({"name": "add"})]);
}

/// A list of messages as `datasets` writes it: every message has the fields of all, every call the arguments
/// of all.
const SCHEMA: &str = "message schema {
    optional group messages (LIST) { repeated group list { optional group element {
        optional binary content (UTF8);
        optional binary role (UTF8);
        optional group tool_calls (LIST) { repeated group list { optional group element {
            optional group function {
                optional binary name (UTF8);
                optional group arguments {
                    optional binary city (UTF8);
                    optional binary day (UTF8);
                }
            }
        } } }
    } } }
    optional binary tools (UTF8);
}";

/// Of each column: its texts, and the definition and repetition levels of a question and a turn of two calls.
type Column = (&'static [&'static str], &'static [i16], &'static [i16]);

const COLUMNS: [Column; 6] = [
    (&["Hi"], &[4, 3], &[0, 1]),
    (&["user", "assistant"], &[4, 4], &[0, 1]),
    (&["find", "plan"], &[3, 8, 8], &[0, 1, 2]),
    (&["Rome"], &[3, 9, 8], &[0, 1, 2]),
    (&["Monday"], &[3, 8, 9], &[0, 1, 2]),
    (&["[{\"name\": \"find\", \"strict\": null}]"], &[1], &[]),
];

#[test]
fn what_parquet_fills_with_null_is_left_out_of_calls() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train.parquet");
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let properties = Arc::new(WriterProperties::builder().build());
    let file = File::create(&path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for (texts, definition, repetition) in COLUMNS {
        let mut column = group.next_column().unwrap().unwrap();
        let ColumnWriter::ByteArrayColumnWriter(writer) = column.untyped() else {
            panic!("the schema has texts only");
        };
        let texts: Vec<ByteArray> = texts.iter().map(|text| ByteArray::from(*text)).collect();
        let repetition = (!repetition.is_empty()).then_some(repetition);
        writer
            .write_batch(&texts, Some(definition), repetition)
            .unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();

    let found = read_language_split(path.parent().unwrap(), Split::Train, &usual()).unwrap();
    let (messages, tools) = conversations(&found.rows).remove(0);
    assert_eq!(messages[0], Message::new("user", "Hi"));
    assert_eq!(messages[1].content, None);
    let calls = json!([
        {"function": {"name": "find", "arguments": {"city": "Rome"}}},
        {"function": {"name": "plan", "arguments": {"day": "Monday"}}},
    ]);
    assert_eq!(messages[1].fields["tool_calls"], calls);
    // A string is not a table: what it says is meant.
    assert_eq!(tools, [json!({"name": "find", "strict": null})]);
}

#[test]
fn a_system_prompt_and_a_history_are_read_by_a_prompt_that_has_them_and_named_otherwise() {
    let rows = r#"{"instruction": "c", "output": "d", "system": "", "history": []}
                  {"instruction": "c", "output": "d", "system": "s", "history": [["q", "a"]]}
                  {"instruction": "c", "output": "d", "history": "[[\"q\", \"a\"]]"}"#;
    let prompts = |read: &LanguageRows| -> Vec<String> {
        let prompt = |row: &LanguageRow| match &row.content {
            LanguageContent::PromptCompletion { prompt, .. } => prompt.clone(),
            other => panic!("{other:?}"),
        };
        read.rows.iter().map(prompt).collect()
    };
    let found = read(rows, &usual()).unwrap();
    assert!(found.unread.is_empty(), "{:?}", found.unread);
    let [plain, whole, history] = prompts(&found).try_into().unwrap();
    assert!(plain.starts_with("Below is an instruction"), "{plain}");
    let turns = "### Instruction:\nq\n\n### Response:\na\n\n### Instruction:\nc\n\n### Response:\n";
    assert_eq!(whole, format!("s\n\n{turns}"));
    assert!(history.starts_with("Below is an instruction") && history.ends_with(turns));

    let config = DataConfig {
        prompt_template: Some("{{ system }}: {{ instruction }}".to_owned()),
        ..usual()
    };
    let found = read(rows, &config).unwrap();
    assert_eq!(prompts(&found), [": c", "s: c", ": c"]);
    assert_eq!(found.unread, [("history".to_owned(), 2)]);

    let pairs = r#"{"instruction": "c", "output": "d", "history": [["q"]]}"#;
    let error = read(pairs, &usual());
    let expected = "column `history`: expected a list of pairs of a prompt and its answer";
    assert!(error.unwrap_err().contains(expected));
}

#[test]
fn dollys_columns_are_those_of_an_instruction() {
    let rows =
        r#"{"instruction": "Sum up.", "context": "A b.", "response": "A.", "category": "c"}"#;
    let found = read(rows, &usual()).unwrap();
    let alpaca = r#"{"instruction": "Sum up.", "input": "A b.", "output": "A."}"#;
    assert_eq!(
        found.rows[0].content,
        read(alpaca, &usual()).unwrap().rows[0].content
    );
    assert_eq!(found.unread, [("category".to_owned(), 1)]);
}
