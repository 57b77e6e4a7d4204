//! The templates in `chat_templates` are written in the shapes that models use: ChatML, header ids with
//! `trim`, turns that must alternate, `[INST]`, thoughts that history leaves out, and one of odds and ends. What transformers makes of
//! them is in `chat_templates/expected.jsonl`, which `chat_template_reference.py` wrote.

#[path = "chat_tools_tests.rs"]
mod tools;

use std::error::Error;
use std::fs;

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Expected {
    template: String,
    messages: Vec<serde_json::Map<String, serde_json::Value>>,
    add_generation_prompt: bool,
    text: Option<String>,
    refusal: Option<String>,
}

impl Expected {
    fn messages(&self) -> Vec<Message> {
        let field = |message: &serde_json::Map<_, serde_json::Value>, name: &str| {
            message[name].as_str().unwrap().to_owned()
        };
        self.messages
            .iter()
            .map(|message| Message::new(field(message, "role"), field(message, "content")))
            .collect()
    }
}

fn template(name: &str) -> &'static str {
    match name {
        "chatml" => include_str!("chat_templates/chatml.jinja"),
        "headers" => include_str!("chat_templates/headers.jinja"),
        "turns" => include_str!("chat_templates/turns.jinja"),
        "inst" => include_str!("chat_templates/inst.jinja"),
        "thinking" => include_str!("chat_templates/thinking.jinja"),
        "plus" => include_str!("chat_templates/plus.jinja"),
        other => panic!("no template `{other}`"),
    }
}

fn load(source: &str) -> Result<ChatTemplate, DataError> {
    load_at(source, DateTime::UNIX_EPOCH)
}

fn load_at(source: &str, now: DateTime<Utc>) -> Result<ChatTemplate, DataError> {
    let dir = tempfile::tempdir().unwrap();
    let config = r#"{"bos_token": "<s>", "eos_token": {"content": "</s>"}}"#;
    fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
    fs::write(dir.path().join("chat_template.jinja"), source).unwrap();
    ChatTemplate::load_at(dir.path(), None, now)
}

#[test]
fn conversations_are_rendered_as_transformers_renders_them() {
    let mut compared = 0;
    for line in include_str!("chat_templates/expected.jsonl").lines() {
        let expected: Expected = serde_json::from_str(line).unwrap();
        let chat_template = load(template(&expected.template)).unwrap();
        let found = chat_template.render(&expected.messages(), &[], expected.add_generation_prompt);
        match (expected.text, expected.refusal) {
            (Some(text), None) => assert_eq!(found.unwrap(), text, "{line}"),
            (None, Some(refusal)) => {
                let error = found.unwrap_err();
                let source = error.source().unwrap().to_string();
                assert!(source.contains(&refusal), "{source}\n{line}");
            }
            _ => panic!("neither text nor refusal: {line}"),
        }
        compared += 1;
    }
    assert_eq!(compared, 6 * 5 * 2);
}

#[test]
fn a_refusal_names_the_template() {
    let chat_template = load(template("turns")).unwrap();
    let error = chat_template
        .render(&[Message::new("system", "Be brief.")], &[], true)
        .unwrap_err();
    assert!(error.to_string().contains("chat_template.jinja"), "{error}");
    assert!(
        error.to_string().contains("refuses the conversation"),
        "{error}"
    );
}

#[test]
fn a_template_that_is_no_jinja_is_refused_on_loading() {
    let error = load("{% for message in %}").err().unwrap();
    assert!(error.to_string().contains("chat_template.jinja"), "{error}");
}

#[test]
fn a_special_token_that_the_tokenizer_lacks_is_undefined() {
    let source = "{{ pad_token is defined }} {{ bos_token }} {{ pad_token }}.";
    let text = load(source).unwrap().render(&[], &[], false).unwrap();
    assert_eq!(text, "False <s> .");
}

#[test]
fn every_rendering_sees_the_time_of_loading() {
    let now = DateTime::from_timestamp(1_735_722_000, 0).unwrap();
    let chat_template = load_at("{{ strftime_now('%F %T') }}", now).unwrap();
    for _ in 0..2 {
        let text = chat_template.render(&[], &[], false).unwrap();
        assert_eq!(text, "2025-01-01 09:00:00");
    }
}

#[test]
fn a_template_sees_every_field_of_a_message() {
    let template = load(
        "{% for m in messages %}{% if m.reasoning_content is string %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m['content'] }}{{ m.get('name', '-') }}{% endfor %}",
    )
    .unwrap();
    let mut message = Message::new("assistant", "4");
    message
        .fields
        .insert("reasoning_content".to_owned(), "2 + 2".into());
    let text = template.render(&[message, Message::new("user", "?")], &[], false);
    assert_eq!(text.unwrap(), "<think>2 + 2</think>4-?-");
}
