//! Values as Python prints them: what a chat template makes of a list or a structure without `tojson`.

use minijinja::Value;
use minijinja::value::ValueKind;

use crate::python_json::python_float;

/// `str` of a value: a text as it is, all else as [`repr`] has it.
pub(crate) fn python_text(value: &Value) -> String {
    match value.kind() {
        ValueKind::Undefined => String::new(),
        ValueKind::String => value.as_str().unwrap_or_default().to_owned(),
        _ => repr(value),
    }
}

/// `repr` of a value: texts in quotes, `None`, `True`, lists and structures of them.
fn repr(value: &Value) -> String {
    let parts = |value: &Value| -> Vec<String> {
        value.try_iter().map_or_else(
            |_| Vec::new(),
            |parts| parts.map(|part| repr(&part)).collect(),
        )
    };
    match value.kind() {
        ValueKind::Undefined => "Undefined".to_owned(),
        ValueKind::None => "None".to_owned(),
        ValueKind::Bool if value.is_true() => "True".to_owned(),
        ValueKind::Bool => "False".to_owned(),
        ValueKind::Number if !value.is_integer() => {
            f64::try_from(value.clone()).map_or_else(|_| value.to_string(), python_float)
        }
        ValueKind::String => quoted(value.as_str().unwrap_or_default()),
        ValueKind::Seq if value.is_tuple() => match parts(value).as_slice() {
            [one] => format!("({one},)"),
            parts => format!("({})", parts.join(", ")),
        },
        ValueKind::Seq => format!("[{}]", parts(value).join(", ")),
        ValueKind::Map => {
            let keys = value.try_iter().into_iter().flatten();
            let pairs: Vec<String> = keys
                .map(|key| {
                    let field = value.get_item(&key).unwrap_or_default();
                    format!("{}: {}", repr(&key), repr(&field))
                })
                .collect();
            format!("{{{}}}", pairs.join(", "))
        }
        _ => value.to_string(),
    }
}

/// A text in single quotes, or in double ones where it has single ones only.
fn quoted(text: &str) -> String {
    let quote = match text.contains('\'') && !text.contains('"') {
        true => '"',
        false => '\'',
    };
    let mut written = String::from(quote);
    for char in text.chars() {
        match char {
            '\\' => written += "\\\\",
            '\n' => written += "\\n",
            '\r' => written += "\\r",
            '\t' => written += "\\t",
            char if char == quote => written.extend(['\\', char]),
            char if char.is_control() => written += &format!("\\x{:02x}", u32::from(char)),
            char => written.push(char),
        }
    }
    written.push(quote);
    written
}
