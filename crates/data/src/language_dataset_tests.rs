//! Every form of rows in every file format, and the errors about rows that have none.

use std::fs;

use ::parquet::column::writer::ColumnWriter;
use ::parquet::data_type::ByteArray;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;

use serde_json::json;

use super::*;
use crate::{LanguageContent, Message, Question};

fn read_file(path: &Path, config: &DataConfig) -> Result<LanguageRows, DataError> {
    let mut reader = LanguageReader::new(config);
    reader.read(path)?;
    reader.finish()
}

fn read_with(name: &str, content: &str, config: &DataConfig) -> Result<LanguageRows, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, content).unwrap();
    read_file(&path, config).map_err(|error| {
        let shown = error.to_string();
        shown.replace(&format!("{}/", dir.path().display()), "")
    })
}

fn read(name: &str, content: &str) -> Result<LanguageRows, String> {
    read_with(name, content, &DataConfig::new("unused"))
}

fn one(name: &str, content: &str) -> LanguageContent {
    let mut rows = read(name, content).unwrap().rows;
    assert_eq!(rows.len(), 1);
    rows.remove(0).content
}

fn pair(prompt: &str, completion: &str) -> LanguageContent {
    LanguageContent::PromptCompletion {
        prompt: prompt.to_owned(),
        completion: completion.to_owned(),
    }
}

fn greeting() -> Vec<Message> {
    vec![
        Message::new("user", "Hi"),
        Message::new("assistant", "Hello."),
    ]
}

#[test]
fn each_form_of_json_lines_is_read() {
    let conversation = |completion_start| LanguageContent::Conversation {
        messages: greeting(),
        tools: Vec::new(),
        completion_start,
    };
    let messages = r#"{"messages": [{"role": "user", "content": "Hi"},
                                    {"role": "assistant", "content": "Hello."}]}"#;
    assert_eq!(one("a.jsonl", &messages.replace('\n', "")), conversation(0));
    let sharegpt = r#"{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]}"#;
    assert_eq!(one("a.jsonl", sharegpt), conversation(0));
    let with_prompt = r#"{"prompt": [{"role": "user", "content": "Hi"}], "completion": [{"role": "assistant", "content": "Hello."}]}"#;
    assert_eq!(one("a.jsonl", with_prompt), conversation(1));
    let plain = r#"{"prompt": "2 + 2 =", "completion": " 4"}"#;
    assert_eq!(one("a.jsonl", plain), pair("2 + 2 =", " 4"));
    let text = r#"{"text": "The sky.", "source": null}"#;
    assert_eq!(
        one("a.jsonl", text),
        LanguageContent::Text("The sky.".to_owned())
    );
    let question = r#"{"prompt": "Which?", "choices": ["a", "b"], "answer": "B"}"#;
    let expected = LanguageContent::MultipleChoice(Question {
        prompt: "Which?".to_owned(),
        choices: vec!["a".to_owned(), "b".to_owned()],
        answer: 1,
    });
    assert_eq!(one("a.jsonl", question), expected);
}

#[test]
fn an_instruction_is_put_into_its_template() {
    let alpaca = "{\"instruction\": \"Add.\", \"input\": \"1, 2\", \"output\": \"3\"}\n\
                  {\"instruction\": \"Sing.\", \"input\": null, \"output\": \"La\"}\n\
                  {\"instruction\": \"Sing.\", \"output\": \"La\"}";
    let rows = read("a.jsonl", alpaca).unwrap().rows;
    let LanguageContent::PromptCompletion { prompt, completion } = &rows[0].content else {
        panic!("{:?}", rows[0]);
    };
    assert!(
        prompt.ends_with("### Input:\n1, 2\n\n### Response:\n"),
        "{prompt}"
    );
    assert_eq!(completion, "3");
    assert_eq!(rows[1].content, rows[2].content, "no input is an empty one");

    let config = DataConfig {
        prompt_template: Some("{{ instruction }} ({{ input }})\n".to_owned()),
        ..DataConfig::new("unused")
    };
    let rows = read_with("a.jsonl", alpaca, &config).unwrap().rows;
    assert_eq!(rows[0].content, pair("Add. (1, 2)\n", "3"));
}

#[test]
fn prompts_and_questions_go_through_a_template_of_the_users() {
    let config = DataConfig {
        prompt_template: Some("Q: {{ prompt }}\nA:".to_owned()),
        ..DataConfig::new("unused")
    };
    let rows = read_with("a.csv", "prompt,completion\nwhy?,\" so\"\n", &config)
        .unwrap()
        .rows;
    assert_eq!(rows[0].content, pair("Q: why?\nA:", " so"));

    let error = read_with("a.jsonl", "{\"text\": \"a\"}", &config).unwrap_err();
    let expected = "`data.prompt_template` does not go with format `text`";
    assert!(error.starts_with(expected), "{error}");
    let messages = r#"{"prompt": [{"role": "user", "content": "Hi"}], "completion": []}"#;
    let error = read_with("a.jsonl", messages, &config).unwrap_err();
    assert!(
        error.contains("expected a string to put into `data.prompt_template`"),
        "{error}"
    );
}

#[test]
fn csv_holds_texts_but_no_lists() {
    let rows = read("a.csv", "instruction,output\nSing.,\"La\nla\"\nHum.,Mm\n")
        .unwrap()
        .rows;
    assert_eq!(rows.len(), 2);
    assert!(
        rows[1].place.to_string().ends_with("a.csv:4"),
        "{}",
        rows[1].place
    );
    let error = read(
        "a.csv",
        "question,choices,answer\nWhich?,\"['a', 'b']\",0\n",
    )
    .unwrap_err();
    let expected = "a.csv:2: column `choices` of format `multiple-choice` is a list, which CSV \
                    cannot hold; write the rows as .jsonl or .parquet";
    assert_eq!(error, expected);
    let error = read("a.csv", "messages\nHi\n").unwrap_err();
    assert!(
        error.contains("column `messages` of format `messages` is a list"),
        "{error}"
    );
}

#[test]
fn malformed_rows_are_named_with_file_and_line() {
    let good = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
    for (row, expected) in [
        (
            r#"{"prompt": "a", "completions": "b"}"#,
            "a.jsonl:2: there is no column `completion`; found `prompt`, `completions`; did you \
             mean `completions`? Set `data.columns.completion`",
        ),
        (
            r#"{"prompt": "a", "completion": null}"#,
            "a.jsonl:2: column `completion`: expected a string, as the prompt is one, found null",
        ),
        (
            r#"{"prompt": [{"role": "user", "content": "a"}], "completion": "b"}"#,
            "a.jsonl:2: column `completion`: expected a list of messages, as the prompt is one, \
             found a string",
        ),
        (
            r#"{"prompt": 5, "completion": "b"}"#,
            "a.jsonl:2: column `prompt`: expected a string or a list of messages, found a number",
        ),
    ] {
        assert_eq!(
            read("a.jsonl", &format!("{good}{row}")),
            Err(expected.to_owned())
        );
    }
}

#[test]
fn tools_that_no_template_is_told_of_are_counted() {
    let row = |tools: &str| format!("{{\"text\": \"a\", \"tools\": {tools}}}\n");
    let content = [
        row("[{\"name\": \"search\"}]"),
        row("[]"),
        row("null"),
        row("\"search\""),
    ];
    let read = read("a.jsonl", &content.concat()).unwrap();
    assert_eq!(read.rows.len(), 4);
    assert_eq!(read.unread, [("tools".to_owned(), 2)]);
}

#[test]
fn the_first_shard_decides_the_form_of_all() {
    let dir = tempfile::tempdir().unwrap();
    let shards = [
        ("train-00000-of-00002.jsonl", r#"{"text": "a"}"#),
        (
            "train-00001-of-00002.jsonl",
            r#"{"text": "b", "messages": []}"#,
        ),
    ];
    for (name, content) in shards {
        fs::write(dir.path().join(name), content).unwrap();
    }
    let config = DataConfig::new("unused");
    let rows = read_language_split(dir.path(), Split::Train, &config)
        .unwrap()
        .rows;
    assert_eq!(rows[1].content, LanguageContent::Text("b".to_owned()));

    fs::write(dir.path().join("test.jsonl"), "\n").unwrap();
    let error = read_language_split(dir.path(), Split::Test, &config).unwrap_err();
    assert!(matches!(error, DataError::EmptySplit { .. }), "{error}");
}

/// What datasets on the Hub look like: lists of structures, lists of strings, and columns to pass over.
const SCHEMA: &str = "message schema {
    optional group messages (LIST) {
        repeated group list {
            optional group element {
                optional binary content (UTF8);
                optional binary role (UTF8);
            }
        }
    }
    optional group choices (LIST) {
        repeated group list { optional binary element (UTF8); }
    }
    optional binary question (UTF8);
    optional int64 answer;
    optional int96 stamp;
    optional binary tools (UTF8);
}";

/// A row of a column by definition level and repetition level, with the values that are there.
struct Levels {
    texts: &'static [&'static str],
    definition: &'static [i16],
    repetition: &'static [i16],
}

/// Two rows: a conversation of two messages and one of one, whose content is null if asked for.
fn write_parquet(path: &Path, has_null_content: bool) {
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let file = File::create(path).unwrap();
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(file, schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut index = 0;
    while let Some(mut column) = group.next_column().unwrap() {
        let contents: &[&str] = if has_null_content {
            &["Hi", "Hello."]
        } else {
            &["Hi", "Hello.", "So?"]
        };
        let content_levels: &[i16] = if has_null_content {
            &[4, 4, 3]
        } else {
            &[4, 4, 4]
        };
        let levels = match index {
            0 => Levels {
                texts: contents,
                definition: content_levels,
                repetition: &[0, 1, 0],
            },
            1 => Levels {
                texts: &["user", "assistant", "user"],
                definition: &[4, 4, 4],
                repetition: &[0, 1, 0],
            },
            2 => Levels {
                texts: &["a", "b", "c", "d", "e"],
                definition: &[3, 3, 3, 3, 3],
                repetition: &[0, 1, 0, 1, 1],
            },
            3 => Levels {
                texts: &["Which?", "What?"],
                definition: &[1, 1],
                repetition: &[],
            },
            6 => Levels {
                texts: &["", "[{\"name\": \"search\"}]"],
                definition: &[1, 1],
                repetition: &[],
            },
            _ => Levels {
                texts: &[],
                definition: &[0, 0],
                repetition: &[],
            },
        };
        let repetition = (!levels.repetition.is_empty()).then_some(levels.repetition);
        match column.untyped() {
            ColumnWriter::ByteArrayColumnWriter(column) => {
                let texts: Vec<ByteArray> = levels
                    .texts
                    .iter()
                    .map(|text| ByteArray::from(*text))
                    .collect();
                column
                    .write_batch(&texts, Some(levels.definition), repetition)
                    .unwrap()
            }
            ColumnWriter::Int64ColumnWriter(column) => {
                column.write_batch(&[1, 2], Some(&[1, 1]), None).unwrap()
            }
            ColumnWriter::Int96ColumnWriter(column) => {
                column.write_batch(&[], Some(&[0, 0]), None).unwrap()
            }
            _ => unreachable!("the schema has no other type"),
        };
        column.close().unwrap();
        index += 1;
    }
    group.close().unwrap();
    writer.close().unwrap();
}

fn read_parquet(config: &DataConfig, has_null_content: bool) -> Result<LanguageRows, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train.parquet");
    write_parquet(&path, has_null_content);
    read_file(&path, config).map_err(|error| {
        let shown = error.to_string();
        shown.replace(&format!("{}/", dir.path().display()), "")
    })
}

#[test]
fn lists_of_structures_in_parquet_are_conversations() {
    let read = read_parquet(&DataConfig::new("unused"), false).unwrap();
    let conversations: Vec<LanguageContent> =
        read.rows.iter().map(|row| row.content.clone()).collect();
    let asked = vec![Message::new("user", "So?")];
    let tools = [Vec::new(), vec![json!({"name": "search"})]];
    let expected = [greeting(), asked].into_iter().zip(tools);
    let expected = expected.map(|(messages, tools)| LanguageContent::Conversation {
        messages,
        tools,
        completion_start: 0,
    });
    assert_eq!(conversations, expected.collect::<Vec<_>>());
    let unread = [("choices", 2), ("question", 2), ("answer", 2)];
    let unread = unread.map(|(name, rows)| (name.to_owned(), rows));
    assert_eq!(read.unread, unread, "and none a stamp");
    let error = read_parquet(&DataConfig::new("unused"), true).unwrap_err();
    let expected = "train.parquet:2: column `messages`, message 1: expected a string `content`, \
                    found null";
    assert_eq!(error, expected);
}

#[test]
fn lists_of_strings_in_parquet_are_choices() {
    let config = DataConfig {
        format: Some(crate::LanguageFormat::MultipleChoice),
        ..DataConfig::new("unused")
    };
    let read = read_parquet(&config, false).unwrap();
    let expected = LanguageContent::MultipleChoice(Question {
        prompt: "What?".to_owned(),
        choices: ["c", "d", "e"].map(str::to_owned).into(),
        answer: 2,
    });
    assert_eq!(read.rows[1].content, expected);
}

#[test]
fn columns_of_other_types_in_parquet_are_refused_before_reading() {
    let config = DataConfig {
        format: Some(crate::LanguageFormat::Text),
        text: "stamp".to_owned(),
        ..DataConfig::new("unused")
    };
    let error = read_parquet(&config, false).unwrap_err();
    assert!(error.contains("column `stamp` holds INT96"), "{error}");
    let config = DataConfig {
        text: "stamps".to_owned(),
        ..config
    };
    let error = read_parquet(&config, false).unwrap_err();
    assert!(error.contains("did you mean `stamp`?"), "{error}");
}

/// What a file of JSON lines is read as, under `[data.columns]`.
fn lines(columns: &str, content: &str) -> Result<LanguageRows, String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("train.jsonl"), content).unwrap();
    let config: DataConfig =
        toml::from_str(&format!("path = \"unused\"\n[columns]\n{columns}")).unwrap();
    read_language_split(dir.path(), Split::Train, &config).map_err(|error| error.to_string())
}

#[test]
fn a_system_prompt_in_a_column_of_its_own_begins_the_conversation() {
    let talk = r#""conversations": [{"from": "human", "value": "Hi"}]"#;
    let read = lines(
        "",
        &format!("{{\"system\": \"Be brief.\", {talk}}}\n{{{talk}}}"),
    )
    .unwrap();
    let messages = |row: &LanguageRow| match &row.content {
        crate::LanguageContent::Conversation { messages, .. } => messages.clone(),
        other => panic!("{other:?}"),
    };
    let (system, user) = (
        crate::Message::new("system", "Be brief."),
        crate::Message::new("user", "Hi"),
    );
    assert_eq!(messages(&read.rows[0]), [system, user.clone()]);
    assert_eq!(messages(&read.rows[1]), [user]);
    assert!(read.unread.is_empty());
    let both = r#"{"system": "A", "messages": [{"role": "system", "content": "B"}]}"#;
    let error = lines("", both).unwrap_err();
    assert!(
        error.contains("column `system`: expected nothing"),
        "{error}"
    );
}

#[test]
fn columns_that_are_not_read_are_counted_by_the_rows_that_fill_them() {
    let rows = r#"{"instruction": "a", "output": "b", "system": "s", "tools": []}
                  {"instruction": "c", "output": "d", "tools": [{"name": "t"}], "id": 7}
                  {"instruction": "e", "input": "f", "output": "g", "tools": "[]"}"#;
    let expected = [("tools", 2), ("id", 1)];
    let expected = expected.map(|(name, rows)| (name.to_owned(), rows));
    assert_eq!(lines("", rows).unwrap().unread, expected);
}

#[test]
fn a_configured_column_that_no_row_has_is_refused_with_the_nearest_name() {
    let rows = "{\"instruction\": \"a\", \"output\": \"b\"}\n\
                {\"instruction\": \"a\", \"context\": \"c\", \"output\": \"b\"}";
    assert!(lines("input = \"context\"", rows).is_ok(), "one row has it");
    let error = lines("input = \"contxt\"", rows).unwrap_err();
    assert!(error.contains("there is no column `contxt`"), "{error}");
    assert!(
        error.contains("did you mean `context`? Set `data.columns.input`"),
        "{error}"
    );
}
