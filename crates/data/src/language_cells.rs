//! Cells of a row that hold more than a text: answers, earlier turns, a system prompt.

use serde_json::{Map, Value};

use crate::error::DataError;
use crate::jsonl::{kind, string};
use crate::message::Message;
use crate::row::Place;

/// The column of the answers that people gave to a question about an image.
pub(crate) const ANSWERS: &str = "answers";

/// The answers that people gave: a list of texts, or of structures with `answer`.
pub(crate) fn answers(
    columns: &Map<String, Value>,
    place: &Place,
) -> Result<Vec<String>, DataError> {
    let refused = |found: &Value| DataError::BadValue {
        place: place.clone(),
        column: ANSWERS.to_owned(),
        expected: "a list of texts, or of structures with `answer`",
        found: kind(found).to_owned(),
    };
    let found = match columns.get(ANSWERS) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(found)) => found,
        Some(other) => return Err(refused(other)),
    };
    let text = |one: &Value| match one.get("answer").unwrap_or(one) {
        Value::String(text) => Ok(text.clone()),
        other => Err(refused(other)),
    };
    found.iter().map(text).collect()
}

/// The pairs of a prompt and its answer that came before an instruction: a list of pairs, or a string that
/// holds one, as a cell of CSV does.
pub(crate) fn earlier_turns(
    value: Option<&Value>,
    column: &str,
    place: &Place,
) -> Result<Vec<[String; 2]>, DataError> {
    let refused = |found: &str| DataError::BadValue {
        place: place.clone(),
        column: column.to_owned(),
        expected: "a list of pairs of a prompt and its answer",
        found: found.to_owned(),
    };
    let turns = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(Vec::new()),
        Some(Value::String(text)) => {
            serde_json::from_str(text).map_err(|_| refused("a string that is not JSON"))?
        }
        Some(other) => other.clone(),
    };
    let Value::Array(turns) = turns else {
        return Err(refused(kind(&turns)));
    };
    let pair = |turn: &Value| match turn.as_array().map(Vec::as_slice) {
        Some([Value::String(prompt), Value::String(answer)]) => {
            Ok([prompt.clone(), answer.clone()])
        }
        Some(_) => Err(refused("a list with another number of texts, or with none")),
        None => Err(refused(&format!("a list with {}", kind(turn)))),
    };
    turns.iter().map(pair).collect()
}

/// The messages after the system prompt that a column of its own holds, where it is filled.
pub(crate) fn with_system_prompt(
    mut messages: Vec<Message>,
    columns: &Map<String, Value>,
    column: &str,
    place: &Place,
) -> Result<Vec<Message>, DataError> {
    if matches!(columns.get(column), None | Some(Value::Null)) {
        return Ok(messages);
    }
    let prompt = string(columns, "data.columns.messages", column, place)?;
    let of_messages = messages.first().filter(|first| first.role == "system");
    match of_messages.map(|first| first.content.as_ref() == Some(&prompt)) {
        _ if prompt.trim().is_empty() => {}
        Some(true) => {}
        Some(false) => {
            return Err(DataError::BadValue {
                place: place.clone(),
                column: column.to_owned(),
                expected: "nothing, or the system prompt that the messages begin with; keep one of \
                           them",
                found: "another".to_owned(),
            });
        }
        None => messages.insert(0, Message::new("system", prompt)),
    }
    Ok(messages)
}
