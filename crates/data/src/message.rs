//! A turn of a conversation, read from either of the two shapes that datasets have it in.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::content_part::{ContentPart, parts_of, split_at_images, words_of};
use crate::error::{DataError, quoted};
use crate::jsonl::kind;
use crate::language_error::LanguageError;
use crate::row::Place;
use crate::tool_call::{Unexpected, parse_call_turn, parse_function_call, parse_tool_calls};

/// The field in which templates find the tools that a turn calls.
const TOOL_CALLS: &str = "tool_calls";

/// The field that OpenAI had for one call before.
const FUNCTION_CALL: &str = "function_call";

/// The speakers whose words are tool calls, in lists of `{from, value}` above all.
const CALL_TURNS: [&str; 2] = ["function_call", "tool_call"];

/// A turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, or what else the chat template knows.
    pub role: String,
    /// What is said; nothing in a turn that only calls tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The same in parts, where there are images between the words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts: Option<Vec<ContentPart>>,
    /// What else the message has, for the template: `tool_calls`, `reasoning_content`, `name`. Null is left
    /// out.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

impl Message {
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: Some(content.into()),
            parts: None,
            fields: Map::new(),
        }
    }

    pub(crate) fn is_of_assistant(&self) -> bool {
        self.role == "assistant"
    }

    /// Whether it is a turn that calls tools.
    pub fn calls_tools(&self) -> bool {
        self.fields.contains_key(TOOL_CALLS)
    }

    /// Whether the model is to learn this turn: the assistant's, unless its `weight` is 0 or its
    /// `train` false.
    pub(crate) fn is_learnt(&self) -> bool {
        self.is_of_assistant() && !self.is_excluded()
    }

    /// Whether the message says of itself that it is not to be learnt: `weight` 0 or `train` false.
    pub(crate) fn is_excluded(&self) -> bool {
        let weight = self.fields.get("weight").and_then(Value::as_f64);
        let train = self.fields.get("train").and_then(Value::as_bool);
        weight == Some(0.0) || train == Some(false)
    }
}

/// Reads a list of `{role, content}`, or of `{from, value}` as ShareGPT has it; what else a message has
/// goes to the template with it.
///
/// Tool calls come in `tool_calls`, in OpenAI's older `function_call`, or as the words of a turn of
/// `function_call`, which is the assistant's; all become `tool_calls`, whose arguments are objects.
///
/// # Errors
/// When it is no list, is empty, or a message lacks its role, or its content although it calls no tools,
/// has calls that are none, or has a weight that is neither 0 nor 1.
pub(crate) fn parse_messages(
    value: &Value,
    column: &str,
    place: &Place,
) -> Result<Vec<Message>, DataError> {
    messages_of(value, column, place, false)
}

/// The same, where messages may have images: as parts, or as `<image>` in their words.
///
/// # Errors
/// As [`parse_messages`].
pub(crate) fn parse_messages_with_images(
    value: &Value,
    column: &str,
    place: &Place,
) -> Result<Vec<Message>, DataError> {
    messages_of(value, column, place, true)
}

fn messages_of(
    value: &Value,
    column: &str,
    place: &Place,
    takes_images: bool,
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
        .map(|(index, message)| parse_message(message, column, index + 1, place, takes_images))
        .collect()
}

fn parse_message(
    value: &Value,
    column: &str,
    number: usize,
    place: &Place,
    takes_images: bool,
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
    let value = |name: &str, expected: &'static str| {
        fields.get(name).ok_or_else(|| {
            let names: Vec<&str> = fields.keys().map(String::as_str).collect();
            bad(expected, quoted(&names))
        })
    };
    let text = |name: &str, expected: &'static str| match value(name, expected)? {
        Value::String(text) => Ok(text.clone()),
        other => Err(bad(expected, kind(other).to_owned())),
    };
    let mut in_parts = None;
    let mut content = |name: &str, expected: &'static str| match value(name, expected)? {
        Value::Array(parts) if takes_images => {
            let parts = parts_of(parts).map_err(|found| {
                bad(
                    "a string, or a list of parts of type `text` or `image`",
                    found,
                )
            })?;
            let words = words_of(&parts);
            in_parts = Some(parts);
            Ok(words)
        }
        Value::Array(parts) => joined(parts).map_err(|found| {
            let expected = "a string, or a list of parts `{\"type\": \"text\", \"text\": …}` only";
            bad(expected, found)
        }),
        _ => text(name, expected),
    };
    let is_sharegpt = !fields.contains_key("role") && fields.contains_key("from");
    let (of_role, of_content) = match is_sharegpt {
        false => ("role", "content"),
        true => ("from", "value"),
    };
    let speaker = match is_sharegpt {
        false => text(of_role, "a string `role`")?,
        true => text(of_role, "a string `from`")?,
    };
    let mut calls = tool_calls(fields).map_err(|wrong| bad(wrong.expected, wrong.found))?;
    let content = match (fields.get(of_content), is_sharegpt) {
        (None | Some(Value::Null), _) if !calls.is_empty() => None,
        (_, false) => Some(content(of_content, "a string `content`")?),
        (_, true) => Some(content(of_content, "a string `value`")?),
    };
    let is_call = CALL_TURNS.contains(&speaker.to_lowercase().as_str());
    let (role, content) = match (content, usual_role(&speaker)) {
        (Some(content), _) if is_call && calls.is_empty() => {
            calls = parse_call_turn(&content).map_err(|wrong| bad(wrong.expected, wrong.found))?;
            ("assistant".to_owned(), None)
        }
        (content, _) if is_call => ("assistant".to_owned(), content),
        (content, Some(role)) => (role.to_owned(), content),
        (content, None) if !is_sharegpt => (speaker, content),
        (_, None) => {
            let expected = "`from` to be human, gpt, system or tool (or a usual name for one)";
            return Err(bad(expected, format!("`{speaker}`")).into());
        }
    };
    if !calls.is_empty() && role != "assistant" {
        let expected = "tool calls in messages of the assistant only";
        return Err(bad(expected, format!("one in a message of `{role}`")).into());
    }
    let read = [of_role, of_content, TOOL_CALLS, FUNCTION_CALL];
    let others = fields
        .iter()
        .filter(|(name, value)| !read.contains(&name.as_str()) && !value.is_null());
    if takes_images && in_parts.is_none() {
        in_parts = content.as_deref().and_then(split_at_images);
    }
    let mut message = Message {
        role,
        content: match &in_parts {
            Some(parts) => Some(words_of(parts)),
            None => content,
        },
        parts: in_parts,
        fields: others
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    };
    if !calls.is_empty() {
        message.fields.insert(TOOL_CALLS.to_owned(), calls.into());
    }
    if let Some(weight) = message.fields.get("weight")
        && !matches!(weight.as_f64(), Some(0.0 | 1.0))
    {
        let expected = "`weight` to be 0 (not learnt) or 1";
        return Err(bad(expected, weight.to_string()).into());
    }
    if let Some(train) = message.fields.get("train") {
        let is_right = match train {
            Value::Bool(true) => message.is_of_assistant(),
            other => other.is_boolean(),
        };
        if !is_right {
            let expected = "`train` to be false, or true in a message of the assistant";
            let found = format!("{train} in one of `{}`", message.role);
            return Err(bad(expected, found).into());
        }
    }
    Ok(message)
}

/// The role that templates know by another name, as other vendors have it; none of one that is no
/// usual name.
fn usual_role(name: &str) -> Option<&'static str> {
    Some(match name.to_lowercase().as_str() {
        "human" | "user" => "user",
        "gpt" | "chatgpt" | "assistant" | "model" | "bot" | "bing" | "bard" => "assistant",
        "system" => "system",
        "tool" | "observation" | "function_response" | "tool_response" | "function" => "tool",
        _ => return None,
    })
}

/// The text of a list of text parts, one after the other.
///
/// # Errors
/// What there is instead, in words.
fn joined(parts: &[Value]) -> Result<String, String> {
    if parts.is_empty() {
        return Err("an empty list".to_owned());
    }
    let mut text = String::new();
    for part in parts {
        let found = match part {
            Value::String(part) => Some(part),
            Value::Object(fields) => match (fields.get("type"), fields.get("text")) {
                (None | Some(Value::Null), Some(Value::String(part))) => Some(part),
                (Some(Value::String(name)), Some(Value::String(part))) if name == "text" => {
                    Some(part)
                }
                (Some(Value::String(name)), _) if name != "text" => {
                    return Err(format!("a part of type `{name}`"));
                }
                _ => None,
            },
            _ => None,
        };
        text += found.ok_or_else(|| format!("a part that is {}", kind(part)))?;
    }
    Ok(text)
}

/// The tools that a message calls, if it does.
fn tool_calls(fields: &Map<String, Value>) -> Result<Vec<Value>, Unexpected> {
    let calls = fields.get(TOOL_CALLS).map(parse_tool_calls).transpose()?;
    let older = fields.get(FUNCTION_CALL).map(parse_function_call);
    let (calls, older) = (
        calls.unwrap_or_default(),
        older.transpose()?.unwrap_or_default(),
    );
    match (calls.is_empty(), older.is_empty()) {
        (false, false) => Err(Unexpected {
            expected: "`tool_calls` or `function_call`",
            found: "both".to_owned(),
        }),
        (false, true) => Ok(calls),
        (true, _) => Ok(older),
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
    }

    #[test]
    fn a_turn_that_calls_tools_needs_no_content_and_is_the_assistants() {
        let call = json!({"type": "function", "function": {"name": "add", "arguments": {}}});
        let calling = |message: Value| parse(json!([message])).map(|messages| messages[0].clone());
        let expected = Message {
            role: "assistant".to_owned(),
            content: None,
            parts: None,
            fields: [("tool_calls".to_owned(), json!([call]))]
                .into_iter()
                .collect(),
        };
        for message in [
            json!({"role": "assistant", "tool_calls": [call]}),
            json!({"role": "assistant", "content": null, "tool_calls": [call]}),
            json!({"role": "assistant", "content": null, "function_call": {"name": "add"}}),
            json!({"from": "function_call", "value": "{\"name\": \"add\"}"}),
            json!({"from": "gpt", "value": null, "tool_calls": [call]}),
        ] {
            assert_eq!(
                calling(message.clone()).as_ref(),
                Ok(&expected),
                "{message}"
            );
            assert!(calling(message).unwrap().is_learnt());
        }
        let result =
            json!({"role": "tool", "content": "2", "tool_call_id": "a1", "tool_calls": []});
        let result = calling(result).unwrap();
        assert_eq!((result.fields.len(), result.is_learnt()), (1, false));

        let of_user = calling(json!({"role": "user", "content": "", "tool_calls": [call]}));
        let expected = "expected tool calls in messages of the assistant only, found one in a \
                        message of `user`";
        assert!(of_user.unwrap_err().ends_with(expected));
        let nameless = calling(json!({"role": "assistant", "tool_calls": [{"id": "a1"}]}));
        let expected = "column `messages`, message 1: expected a call to have the `name` of a \
                        function, a string, found none";
        assert!(nameless.unwrap_err().ends_with(expected));
    }

    #[test]
    fn roles_of_other_vendors_are_the_usual_ones_and_others_stay() {
        let role = |role: &str| parse(json!([{"role": role, "content": "Hi"}])).unwrap()[0].clone();
        for name in ["model", "Assistant", "gpt", "bot"] {
            assert_eq!(role(name), Message::new("assistant", "Hi"), "{name}");
        }
        assert_eq!(role("human").role, "user");
        assert_eq!(role("developer").role, "developer");
    }

    #[test]
    fn text_parts_are_joined_and_others_named() {
        let content = |parts: Value| parse(json!([{"role": "user", "content": parts}]));
        let parts = json!([{"type": "text", "text": "one "}, {"text": "two"}, " three"]);
        assert_eq!(
            content(parts).unwrap()[0],
            Message::new("user", "one two three")
        );
        let error = content(json!([{"type": "image_url", "image_url": {}}])).unwrap_err();
        assert!(error.contains("a list of parts"), "{error}");
        assert!(
            error.contains("found a part of type `image_url`"),
            "{error}"
        );
        assert!(content(json!([])).unwrap_err().contains("an empty list"));
    }

    #[test]
    fn a_message_keeps_its_other_fields_and_its_weight_decides_what_is_learnt() {
        let message = |fields: &str| {
            let start = "{\"role\": \"assistant\", \"content\": \"4\"";
            let message: Value = serde_json::from_str(&format!("{start}{fields}}}")).unwrap();
            parse(json!([message])).map(|messages| messages[0].clone())
        };
        let thinking = message(", \"reasoning_content\": \"2 + 2\", \"name\": null").unwrap();
        assert_eq!(thinking.fields.len(), 1);
        assert_eq!(thinking.fields["reasoning_content"], "2 + 2");
        assert!(thinking.is_learnt());
        assert!(
            message(", \"weight\": 1, \"train\": true")
                .unwrap()
                .is_learnt()
        );
        assert!(!message(", \"weight\": 0").unwrap().is_learnt());
        assert!(!message(", \"train\": false").unwrap().is_learnt());
        let error = message(", \"weight\": 0.5").unwrap_err();
        assert!(
            error.contains("expected `weight` to be 0 (not learnt) or 1, found 0.5"),
            "{error}"
        );
        let asked = parse(json!([{"role": "user", "content": "?", "train": true}])).unwrap_err();
        assert!(asked.contains("found true in one of `user`"), "{asked}");
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
