//! What can happen to the letters, the lines and the JSON of a text.

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;

use crate::json_text::json_text;

/// A change of a text.
#[derive(Clone, Debug)]
pub enum TextMutation {
    Byte(Index, u8),
    Truncate(Index),
    /// What readers look for, anywhere.
    Insert(Index, Index),
    /// The same at the very beginning.
    Begin(Index),
    RemoveLine(Index),
    RepeatLine(Index, Index),
    /// A value of the JSON in a line, or of the whole where that is JSON, by another.
    Node(Index, Index, String),
    /// The name of a field.
    Key(Index, Index, Index),
}

const PIECES: [&[u8]; 32] = [
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xff",
    b"\0",
    b"\n",
    b"\r\n",
    b"\r",
    b"\n\n",
    b"\"",
    b"\"\"",
    b"'",
    b",",
    b";",
    b"\t",
    b"{",
    b"}",
    b"[",
    b"]",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    b"{\"a\":{\"a\":{\"a\":{\"a\":",
    b": ",
    b"- ",
    b"---\n",
    b"&a [*a]",
    b"\\u0000",
    b"\\ud800",
    b"1e999",
    b"99999999999999999999999",
    b"-1",
    b"{{ ",
    b"{% for a in range(9) %}",
    b" | tojson }}",
];

/// Names that rows, conversations and settings have.
pub const FIELDS: [&str; 44] = [
    "text",
    "label",
    "premise",
    "messages",
    "conversations",
    "role",
    "content",
    "from",
    "value",
    "system",
    "history",
    "tools",
    "tool_calls",
    "function",
    "arguments",
    "name",
    "weight",
    "train",
    "reasoning_content",
    "type",
    "prompt",
    "completion",
    "instruction",
    "input",
    "output",
    "context",
    "response",
    "question",
    "choices",
    "answer",
    "image",
    "bytes",
    "path",
    "bos_token",
    "eos_token",
    "chat_template",
    "template",
    "task",
    "text_pair",
    "max_length",
    "format",
    "columns",
    "train_on",
    "labels",
];

fn word() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "user",
        "assistant",
        "system",
        "tool",
        "human",
        "gpt",
        "text",
        "image_url",
        "messages",
        "alpaca",
        "completion",
        "all",
        "default",
        "-1",
        "1.0",
        "A",
        "0",
        "a.png",
        "../a",
        "/",
        "",
        "{{ prompt }}",
        "\u{feff}",
        "a\0b",
        "train",
        "*",
        "[",
        "2",
    ])
    .prop_map(str::to_owned)
}

pub fn any_json() -> impl Strategy<Value = String> {
    json_text(&FIELDS, word())
}

impl Arbitrary for TextMutation {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        let index = any::<Index>;
        prop_oneof![
            1 => (index(), any::<u8>()).prop_map(|(at, byte)| Self::Byte(at, byte)),
            1 => index().prop_map(Self::Truncate),
            2 => (index(), index()).prop_map(|(at, piece)| Self::Insert(at, piece)),
            1 => index().prop_map(Self::Begin),
            1 => index().prop_map(Self::RemoveLine),
            1 => (index(), index()).prop_map(|(from, to)| Self::RepeatLine(from, to)),
            4 => (index(), index(), any_json())
                .prop_map(|(line, node, json)| Self::Node(line, node, json)),
            2 => (index(), index(), index()).prop_map(|(line, node, name)| Self::Key(line, node, name)),
        ]
        .boxed()
    }
}

pub fn changed(original: &[u8], mutations: &[TextMutation]) -> Vec<u8> {
    let mut text = original.to_vec();
    for mutation in mutations {
        apply(&mut text, mutation);
    }
    text
}

fn apply(text: &mut Vec<u8>, mutation: &TextMutation) {
    let length = text.len();
    if length == 0 {
        return;
    }
    match mutation {
        TextMutation::Byte(at, byte) => text[at.index(length)] = *byte,
        TextMutation::Truncate(at) => text.truncate(at.index(length)),
        TextMutation::Insert(at, piece) => {
            let at = at.index(length + 1);
            text.splice(at..at, piece.get(&PIECES).iter().copied());
        }
        TextMutation::Begin(piece) => {
            text.splice(..0, piece.get(&PIECES).iter().copied());
        }
        TextMutation::RemoveLine(_)
        | TextMutation::RepeatLine(..)
        | TextMutation::Node(..)
        | TextMutation::Key(..) => apply_to_lines(text, mutation),
    }
}

/// A text that is JSON as a whole is one line here.
fn apply_to_lines(text: &mut Vec<u8>, mutation: &TextMutation) {
    let is_one = serde_json::from_slice::<Value>(text).is_ok();
    let mut lines: Vec<Vec<u8>> = match is_one {
        true => vec![text.clone()],
        false => text
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect(),
    };
    match mutation {
        TextMutation::RemoveLine(at) => {
            lines.remove(at.index(lines.len()));
        }
        TextMutation::RepeatLine(from, to) => {
            let line = from.get(&lines).clone();
            lines.insert(to.index(lines.len()), line);
        }
        TextMutation::Node(line, node, json) => {
            let line = line.get_mut(&mut lines);
            if let Ok(mut value) = serde_json::from_slice::<Value>(line) {
                // JSON that is none spoils the line.
                let marker = Value::from("\u{1}here\u{1}");
                let written = marker.to_string();
                *nth(&mut value, node) = marker;
                *line = value.to_string().replacen(&written, json, 1).into_bytes();
            }
        }
        TextMutation::Key(line, node, name) => {
            let line = line.get_mut(&mut lines);
            if let Ok(mut value) = serde_json::from_slice::<Value>(line) {
                if let Value::Object(fields) = nth(&mut value, node)
                    && let Some(old) = fields.keys().next().cloned()
                    && let Some(moved) = fields.shift_remove(&old)
                {
                    fields.insert((*name.get(&FIELDS)).to_owned(), moved);
                }
                *line = value.to_string().into_bytes();
            }
        }
        _ => {}
    }
    *text = lines.join(&b'\n');
}

/// One of the values in a value, itself among them.
fn nth<'v>(value: &'v mut Value, node: &Index) -> &'v mut Value {
    fn count(value: &Value) -> usize {
        1 + match value {
            Value::Array(items) => items.iter().map(count).sum(),
            Value::Object(fields) => fields.values().map(count).sum(),
            _ => 0,
        }
    }
    fn find(value: &mut Value, left: usize) -> &mut Value {
        if left == 0 {
            return value;
        }
        let mut left = left - 1;
        let parts: Vec<&mut Value> = match value {
            Value::Array(items) => items.iter_mut().collect(),
            Value::Object(fields) => fields.values_mut().collect(),
            _ => unreachable!("only these have parts"),
        };
        for part in parts {
            let size = count(part);
            if left < size {
                return find(part, left);
            }
            left -= size;
        }
        unreachable!("the parts are as many as were counted")
    }
    let index = node.index(count(value));
    find(value, index)
}
