//! The tools that a row offers the assistant, as its chat template is told of them.

use serde_json::Value;

use crate::error::DataError;
use crate::jsonl::kind;
use crate::row::Place;
use crate::tool_call::without_nulls;

/// Reads a column of tools: a list of JSON schemas, each an object or a string that holds one, or a string
/// that holds such a list. Null, an empty string and an empty list are none.
///
/// The schemas reach the template as they are, in the order of their keys, whether OpenAI's `{type, function}`
/// or bare. Fields that are null are left out, as of calls, unless a string holds them.
///
/// # Errors
/// When the column holds something else.
pub(crate) fn parse_tools(
    value: Option<&Value>,
    column: &str,
    place: &Place,
) -> Result<Vec<Value>, DataError> {
    let refused = |found: &str| DataError::BadValue {
        place: place.clone(),
        column: column.to_owned(),
        expected: "a list of tools (JSON schemas), or a string that holds one as JSON",
        found: found.to_owned(),
    };
    let tools = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(Vec::new()),
        Some(Value::String(text)) => {
            serde_json::from_str(text).map_err(|_| refused("another string"))?
        }
        Some(other) => without_nulls(other.clone()),
    };
    let tools = match tools {
        Value::Array(tools) => tools,
        Value::Null => return Ok(Vec::new()),
        other => return Err(refused(kind(&other))),
    };
    let tool = |tool: Value| match tool {
        Value::Object(_) => Ok(tool),
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(tool @ Value::Object(_)) => Ok(tool),
            _ => Err(refused("a list with a string that is no schema")),
        },
        other => Err(refused(&format!("a list with {}", kind(&other)))),
    };
    tools.into_iter().map(tool).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn parse(value: Value) -> Result<Vec<Value>, String> {
        let place = Place {
            file: Path::new("train.jsonl").into(),
            line: 3,
        };
        parse_tools(Some(&value), "tools", &place).map_err(|error| error.to_string())
    }

    #[test]
    fn each_way_to_write_a_list_of_tools_is_read() {
        let tool = json!({"type": "function", "function": {"name": "add", "parameters": {}}});
        for written in [
            json!([tool]),
            json!(json!([tool]).to_string()),
            json!([tool.to_string()]),
            json!([{"type": "function", "strict": null,
                    "function": {"name": "add", "description": null, "parameters": {}}}]),
        ] {
            assert_eq!(parse(written.clone()), Ok(vec![tool.clone()]), "{written}");
        }
        for none in [
            json!(null),
            json!(""),
            json!([]),
            json!("[]"),
            json!("null"),
        ] {
            assert_eq!(parse(none), Ok(Vec::new()));
        }
    }

    #[test]
    fn what_describes_no_tools_is_refused() {
        let expected = "train.jsonl:3: column `tools`: expected a list of tools (JSON schemas), or \
                        a string that holds one as JSON, found ";
        for (value, found) in [
            (json!("search"), "another string"),
            (json!({"name": "add"}), "an object"),
            (json!(["search"]), "a list with a string that is no schema"),
            (json!([7]), "a list with a number"),
        ] {
            assert_eq!(parse(value), Err(format!("{expected}{found}")));
        }
    }
}
