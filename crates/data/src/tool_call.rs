//! The tools that a turn of the assistant calls, in the shape that chat templates read.

use serde_json::{Map, Value};

use crate::jsonl::kind;

/// What is wrong with a value, in words: what was expected, and what there is instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unexpected {
    pub expected: &'static str,
    pub found: String,
}

impl Unexpected {
    fn new(expected: &'static str, found: &Value) -> Self {
        let found = kind(found).to_owned();
        Self { expected, found }
    }
}

/// Reads the `tool_calls` of a message: a list of OpenAI's `{id, type, function: {name, arguments}}`, of
/// bare `{name, arguments}`, or a string that holds one; null is none.
///
/// `arguments` become an object where they are a string that holds one, as templates write them out with
/// `tojson`. Fields that are null are left out: tables fill what a call lacks with null.
pub(crate) fn parse_tool_calls(value: &Value) -> Result<Vec<Value>, Unexpected> {
    const EXPECTED: &str = "`tool_calls` to be a list of calls";
    let calls = match value {
        Value::Null => return Ok(Vec::new()),
        Value::String(text) if text.trim().is_empty() => return Ok(Vec::new()),
        Value::String(text) => serde_json::from_str(text).map_err(|_| Unexpected {
            expected: "`tool_calls` to be a list of calls, or a string that holds one as JSON",
            found: "another string".to_owned(),
        })?,
        other => without_nulls(other.clone()),
    };
    match calls {
        Value::Array(calls) => calls.into_iter().map(tool_call).collect(),
        Value::Null => Ok(Vec::new()),
        other => Err(Unexpected::new(EXPECTED, &other)),
    }
}

/// Reads the one call of OpenAI's older `function_call`: `{name, arguments}`.
pub(crate) fn parse_function_call(value: &Value) -> Result<Vec<Value>, Unexpected> {
    match value {
        Value::Null => Ok(Vec::new()),
        value => Ok(vec![wrapped(without_nulls(value.clone()))?]),
    }
}

/// Reads a turn of the speaker `function_call`, whose words are the calls: one `{name, arguments}` as
/// JSON, or a list of them.
pub(crate) fn parse_call_turn(text: &str) -> Result<Vec<Value>, Unexpected> {
    let bad = |found: String| Unexpected {
        expected: "a turn of `function_call` to be `{\"name\": …, \"arguments\": …}` as JSON, or a \
                   list of such",
        found,
    };
    let calls = match serde_json::from_str(text) {
        Ok(Value::Array(calls)) if calls.is_empty() => return Err(bad("an empty list".to_owned())),
        Ok(Value::Array(calls)) => calls,
        Ok(call @ Value::Object(_)) => vec![call],
        Ok(other) => return Err(bad(kind(&other).to_owned())),
        Err(error) => return Err(bad(format!("text that is not JSON ({error})"))),
    };
    calls.into_iter().map(wrapped).collect()
}

/// A bare call as the function of one of OpenAI's shape.
fn wrapped(mut call: Value) -> Result<Value, Unexpected> {
    if let Value::Object(fields) = &mut call
        && !fields.contains_key("function")
    {
        // Llama's own words for the arguments.
        if !fields.contains_key("arguments")
            && let Some(parameters) = fields.shift_remove("parameters")
        {
            fields.insert("arguments".to_owned(), parameters);
        }
        let wrapped = [("type", Value::from("function")), ("function", call)];
        let wrapped = wrapped.map(|(name, value)| (name.to_owned(), value));
        call = Value::Object(wrapped.into_iter().collect());
    }
    tool_call(call)
}

fn tool_call(mut call: Value) -> Result<Value, Unexpected> {
    const EXPECTED: &str = "a call to be `{\"function\": {\"name\": …, \"arguments\": …}}`";
    let Value::Object(fields) = &mut call else {
        return Err(Unexpected::new(EXPECTED, &call));
    };
    match fields.get_mut("function") {
        None => with_arguments(fields)?,
        Some(Value::Object(function)) => with_arguments(function)?,
        Some(other) => return Err(Unexpected::new(EXPECTED, other)),
    }
    Ok(call)
}

/// Makes the arguments an object; those of a call without any are an empty one.
fn with_arguments(function: &mut Map<String, Value>) -> Result<(), Unexpected> {
    if !function.get("name").is_some_and(Value::is_string) {
        let found = function.get("name").map_or("none", kind).to_owned();
        let expected = "a call to have the `name` of a function, a string";
        return Err(Unexpected { expected, found });
    }
    let arguments = match function.get("arguments") {
        None => Value::Object(Map::new()),
        Some(Value::String(text)) => match serde_json::from_str(text) {
            Ok(object @ Value::Object(_)) => object,
            // What is no object stays as it was said.
            _ => return Ok(()),
        },
        Some(Value::Object(_)) => return Ok(()),
        Some(other) => {
            let expected = "the `arguments` of a call to be an object, or a string";
            return Err(Unexpected::new(expected, other));
        }
    };
    function.insert("arguments".to_owned(), arguments);
    Ok(())
}

/// A value whose objects, at any depth, have no field that is null: tables give every structure of a column
/// the fields of all, so what a null says there is that the field is not.
pub(crate) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_nulls(value)))
            .collect(),
        Value::Array(values) => values.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(arguments: Value) -> Value {
        json!({"id": "a1", "type": "function", "function": {"name": "add", "arguments": arguments}})
    }

    #[test]
    fn arguments_become_the_object_that_their_string_holds() {
        let object = json!({"y": 2, "x": "é"});
        let written = call(json!(r#"{"y": 2, "x": "é"}"#));
        for calls in [
            json!([written]),
            json!([call(object.clone())]),
            json!(json!([written]).to_string()),
        ] {
            let read = parse_tool_calls(&calls).unwrap();
            assert_eq!(read, [call(object.clone())]);
            let keys: Vec<&String> = read[0]["function"]["arguments"]
                .as_object()
                .unwrap()
                .keys()
                .collect();
            assert_eq!(keys, ["y", "x"], "the order is the file's");
        }
        let bare = json!([{"name": "add", "arguments": "{}"}]);
        let expected = json!({"name": "add", "arguments": {}});
        assert_eq!(parse_tool_calls(&bare).unwrap(), [expected]);
    }

    #[test]
    fn a_string_that_holds_no_object_stays_and_missing_arguments_are_none() {
        for arguments in [json!("x = 1"), json!("[1]"), json!("")] {
            let read = parse_tool_calls(&json!([call(arguments.clone())])).unwrap();
            assert_eq!(read, [call(arguments)]);
        }
        let missing = json!([{"function": {"name": "now", "arguments": null}}]);
        let expected = json!({"function": {"name": "now", "arguments": {}}});
        assert_eq!(parse_tool_calls(&missing).unwrap(), [expected]);
    }

    #[test]
    fn nothing_is_called_by_null_an_empty_list_or_an_empty_string() {
        for none in [
            json!(null),
            json!([]),
            json!(" "),
            json!("[]"),
            json!("null"),
        ] {
            assert!(parse_tool_calls(&none).unwrap().is_empty(), "{none}");
        }
    }

    #[test]
    fn what_a_table_filled_with_null_is_left_out_at_any_depth() {
        let filled = json!([{"id": null, "function": {"name": "add", "arguments":
            {"x": 1, "city": null, "list": [null, {"y": null}]}}}]);
        let expected =
            json!({"function": {"name": "add", "arguments": {"x": 1, "list": [null, {}]}}});
        assert_eq!(parse_tool_calls(&filled).unwrap(), [expected]);
        // In a string it is what the model is to write.
        let said = json!([{"function": {"name": "add", "arguments": "{\"x\": null}"}}]);
        let read = parse_tool_calls(&said).unwrap();
        assert_eq!(read[0]["function"]["arguments"], json!({"x": null}));
    }

    #[test]
    fn a_turn_that_is_a_call_may_be_one_or_several_of_any_shape() {
        let add = json!({"type": "function", "function": {"name": "add", "arguments": {"x": 1}}});
        for turn in [
            r#"{"name": "add", "arguments": {"x": 1}}"#,
            r#"{"name": "add", "arguments": "{\"x\": 1}"}"#,
            r#"{"name": "add", "parameters": {"x": 1}}"#,
            r#"[{"type": "function", "function": {"name": "add", "arguments": {"x": 1}}}]"#,
        ] {
            assert_eq!(parse_call_turn(turn), Ok(vec![add.clone()]), "{turn}");
        }
        let two = r#"[{"name": "add", "arguments": {"x": 1}}, {"name": "now"}]"#;
        assert_eq!(parse_call_turn(two).unwrap().len(), 2);
        assert_eq!(
            parse_function_call(&json!({"name": "add", "arguments": "{\"x\": 1}"})).unwrap(),
            [add]
        );
        assert!(parse_function_call(&Value::Null).unwrap().is_empty());
    }

    #[test]
    fn calls_of_other_shapes_are_refused_with_what_was_found() {
        let refused = |calls: Value| parse_tool_calls(&calls).unwrap_err().found;
        assert_eq!(refused(json!({"name": "add"})), "an object");
        assert_eq!(refused(json!("add(1)")), "another string");
        assert_eq!(refused(json!(["add"])), "a string");
        assert_eq!(refused(json!([{"id": 1}])), "none");
        assert_eq!(refused(json!([{"function": "add"}])), "a string");
        assert_eq!(refused(json!([call(json!([1]))])), "an array");
        assert!(
            parse_call_turn("add(1)")
                .unwrap_err()
                .found
                .contains("not JSON")
        );
        assert_eq!(parse_call_turn("7").unwrap_err().found, "a number");
        assert_eq!(parse_call_turn("[]").unwrap_err().found, "an empty list");
    }
}
