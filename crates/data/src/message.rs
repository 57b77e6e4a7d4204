//! A turn of a conversation, read from either of the two shapes that datasets have it in.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::{DataError, quoted};
use crate::jsonl::kind;
use crate::language_error::LanguageError;
use crate::row::Place;

/// A turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, or what else the chat template knows.
    pub role: String,
    pub content: String,
}

impl Message {
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }

    /// Whether the model is to learn this turn.
    pub(crate) fn is_of_assistant(&self) -> bool {
        self.role == "assistant"
    }
}

/// Reads a list of `{role, content}`, or of `{from, value}` as ShareGPT has it; what else a message has
/// (`name`, `weight`) is passed over.
///
/// # Errors
/// When it is no list, is empty, or a message lacks its role or content or calls tools.
pub(crate) fn parse_messages(
    value: &Value,
    column: &str,
    place: &Place,
) -> Result<Vec<Message>, DataError> {
    let refused = |found: &str| DataError::BadValue {
        place: place.clone(),
        column: column.to_owned(),
        expected: "a list of messages",
        found: found.to_owned(),
    };
    let Value::Array(messages) = value else {
        return Err(refused(kind(value)));
    };
    if messages.is_empty() {
        return Err(refused("an empty list"));
    }
    let numbered = messages.iter().enumerate();
    numbered
        .map(|(index, message)| parse_message(message, column, index + 1, place))
        .collect()
}

fn parse_message(
    value: &Value,
    column: &str,
    number: usize,
    place: &Place,
) -> Result<Message, DataError> {
    let bad = |expected: &'static str, found: String| LanguageError::BadMessage {
        place: place.clone(),
        column: column.to_owned(),
        number,
        expected,
        found,
    };
    let Value::Object(fields) = value else {
        let expected = "an object with `role` and `content`";
        return Err(bad(expected, kind(value).to_owned()).into());
    };
    if calls_tools(fields) {
        return Err(LanguageError::ToolCalls {
            place: place.clone(),
            column: column.to_owned(),
            number,
        }
        .into());
    }
    let text = |name: &str, expected: &'static str| match fields.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(bad(expected, kind(other).to_owned())),
        None => {
            let names: Vec<&str> = fields.keys().map(String::as_str).collect();
            Err(bad(expected, quoted(&names)))
        }
    };
    let is_sharegpt = !fields.contains_key("role") && fields.contains_key("from");
    if !is_sharegpt {
        return Ok(Message {
            role: text("role", "a string `role`")?,
            content: text("content", "a string `content`")?,
        });
    }
    let speaker = text("from", "a string `from`")?;
    let role = match speaker.as_str() {
        "human" | "user" => "user",
        "gpt" | "chatgpt" | "assistant" | "model" | "bing" | "bard" => "assistant",
        "system" => "system",
        "tool" | "observation" | "function_response" => "tool",
        _ => {
            let expected = "`from` to be human, gpt, system or tool (or a usual name for one)";
            return Err(bad(expected, format!("`{speaker}`")).into());
        }
    };
    Ok(Message::new(role, text("value", "a string `value`")?))
}

/// Whether a message has tool calls; tables fill the field with null where there are none.
fn calls_tools(fields: &Map<String, Value>) -> bool {
    match fields.get("tool_calls") {
        None | Some(Value::Null) => false,
        Some(Value::Array(calls)) => !calls.is_empty(),
        Some(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn parse(value: Value) -> Result<Vec<Message>, String> {
        let place = Place {
            file: Path::new("train.jsonl").into(),
            line: 6,
        };
        parse_messages(&value, "messages", &place).map_err(|error| error.to_string())
    }

    #[test]
    fn both_spellings_give_the_same_conversation() {
        let plain = json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello.", "tool_calls": null},
        ]);
        let sharegpt = json!([
            {"from": "system", "value": "Be brief."},
            {"from": "human", "value": "Hi"},
            {"from": "gpt", "value": "Hello."},
        ]);
        let expected = [
            Message::new("system", "Be brief."),
            Message::new("user", "Hi"),
            Message::new("assistant", "Hello."),
        ];
        assert_eq!(parse(plain).unwrap(), expected);
        assert_eq!(parse(sharegpt).unwrap(), expected);
    }

    #[test]
    fn a_malformed_message_is_named_with_what_it_lacks() {
        let second = |message: Value| {
            parse(json!([{"role": "user", "content": "Hi"}, message])).unwrap_err()
        };
        let place = "train.jsonl:6: column `messages`, message 2: ";
        for (message, expected) in [
            (
                json!({"content": "Hello."}),
                "expected a string `role`, found `content`",
            ),
            (
                json!({"role": "assistant", "content": null}),
                "expected a string `content`, found null",
            ),
            (
                json!({"role": "assistant", "text": "Hello."}),
                "expected a string `content`, found `role`, `text`",
            ),
            (
                json!({"from": "gtp", "value": "Hello."}),
                "expected `from` to be human, gpt, system or tool (or a usual name for one), \
                 found `gtp`",
            ),
            (
                json!("Hello."),
                "expected an object with `role` and `content`, found a string",
            ),
        ] {
            assert_eq!(second(message), format!("{place}{expected}"));
        }
        let calling = json!({"role": "assistant", "content": "", "tool_calls": [{"id": 1}]});
        assert!(second(calling).contains("message 2 calls tools"));
    }

    #[test]
    fn no_messages_are_refused() {
        let error = parse(json!([])).unwrap_err();
        let expected =
            "train.jsonl:6: column `messages`: expected a list of messages, found an empty list";
        assert_eq!(error, expected);
        assert!(parse(json!("Hi")).unwrap_err().contains("found a string"));
    }
}
