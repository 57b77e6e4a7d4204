//! Rows with tools, from the dataset's words to the model's: the templates `chat_templates/tools_*.jinja` are
//! written in the shapes that models with tools use. What transformers makes of them is in
//! `chat_templates/expected_tools.jsonl`, which `chat_tools_reference.py` wrote.

use super::*;
use crate::{DataConfig, LanguageContent, Split, read_language_split};

#[derive(Deserialize)]
struct Expected {
    template: String,
    row: serde_json::Value,
    add_generation_prompt: bool,
    text: Option<String>,
    refusal: Option<String>,
}

fn template(name: &str) -> &'static str {
    match name {
        "chatml" => include_str!("chat_templates/tools_chatml.jinja"),
        "types" => include_str!("chat_templates/tools_types.jinja"),
        "headers" => include_str!("chat_templates/tools_headers.jinja"),
        "inst" => include_str!("chat_templates/tools_inst.jinja"),
        "plus" => include_str!("chat_templates/tools_plus.jinja"),
        other => panic!("no template `{other}`"),
    }
}

fn conversation(row: &serde_json::Value) -> (Vec<Message>, Vec<serde_json::Value>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train.jsonl");
    fs::write(&path, row.to_string()).unwrap();
    let read = read_language_split(dir.path(), Split::Train, &DataConfig::new("unused")).unwrap();
    assert!(read.unread.is_empty(), "{:?}", read.unread);
    match read.rows[0].content.clone() {
        LanguageContent::Conversation {
            messages, tools, ..
        } => (messages, tools),
        other => panic!("{other:?}"),
    }
}

#[test]
fn rows_with_tools_are_rendered_as_transformers_renders_them() {
    let mut compared = 0;
    for line in include_str!("chat_templates/expected_tools.jsonl").lines() {
        let expected: Expected = serde_json::from_str(line).unwrap();
        let (messages, tools) = conversation(&expected.row);
        let chat_template = load(template(&expected.template)).unwrap();
        let found = chat_template.render(&messages, &tools, expected.add_generation_prompt);
        match (expected.text, expected.refusal) {
            (Some(text), None) => assert_eq!(found.unwrap(), text, "{line}"),
            (None, Some(refusal)) => {
                let error = found.unwrap_err();
                let source = error.source().unwrap().to_string();
                // What Python itself says of a missing field has other words here.
                let is_of_python = refusal.starts_with('\'');
                assert!(
                    is_of_python || source.contains(&refusal),
                    "{source}\n{line}"
                );
            }
            _ => panic!("neither text nor refusal: {line}"),
        }
        compared += 1;
    }
    assert_eq!(compared, 5 * 7 * 2);
}

#[test]
fn a_models_own_template_for_tools_is_taken_where_there_are_some() {
    let usual = "\n  {% set who = 'D' %}\n{{ who }}{{ messages | length }}\n";
    let tool_use = "{% for tool in tools %}\n{{ tool.name }}{% endfor %}\n";
    let dir = tempfile::tempdir().unwrap();
    let named = serde_json::json!({"chat_template": [
        {"name": "default", "template": usual}, {"name": "tool_use", "template": tool_use},
    ]});
    fs::write(dir.path().join("tokenizer_config.json"), named.to_string()).unwrap();
    let of_config = ChatTemplate::load(dir.path(), None).unwrap();

    let files = tempfile::tempdir().unwrap();
    fs::write(files.path().join("chat_template.jinja"), usual).unwrap();
    fs::create_dir(files.path().join("additional_chat_templates")).unwrap();
    let file = "additional_chat_templates/tool_use.jinja";
    fs::write(files.path().join(file), tool_use).unwrap();
    let of_files = ChatTemplate::load(files.path(), None).unwrap();

    // What is kept beside an adapter is one template.
    let kept = load(of_config.source()).unwrap();
    let messages = [Message::new("user", "Hi")];
    let tools = [serde_json::json!({"name": "add"})];
    for chat_template in [of_config, of_files, kept] {
        let text = chat_template.render(&messages, &[], false).unwrap();
        assert_eq!(
            text,
            load(usual).unwrap().render(&messages, &[], false).unwrap()
        );
        assert_eq!(text, "\nD1");
        let text = chat_template.render(&messages, &tools, false).unwrap();
        assert_eq!(text, "add");
    }
}
