//! Jinja as chat templates expect it: what transformers adds to it and sets otherwise than Jinja.

use chrono::{DateTime, Utc};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::ser::Serializer;

use crate::python_json::PythonJson;
use crate::python_text::python_text;
use crate::strftime::strftime;

/// Jinja as transformers sets it up for chat templates: blocks take the line break after them and the
/// blanks before them along, Python's methods on strings and maps, loop controls, and the functions
/// `raise_exception` and `strftime_now`.
///
/// - now: the time that `strftime_now` writes
///
/// # Errors
/// Never: the syntax is Jinja's usual one.
pub(crate) fn chat_environment(now: DateTime<Utc>) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    environment.set_syntax(syntax.trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_formatter(|out, state, value| {
        match value.kind() {
            // Python's spelling of what Jinja prints without a filter.
            ValueKind::None
            | ValueKind::Bool
            | ValueKind::Number
            | ValueKind::Seq
            | ValueKind::Map => out.write_str(&python_text(value)).map_err(Error::from),
            _ => minijinja::escape_formatter(out, state, value),
        }
    });
    environment.add_filter("string", python_text_of);
    environment.add_filter("tojson", to_json);
    environment.add_function("raise_exception", |message: String| {
        Err::<Value, Error>(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", move |format: String| {
        strftime(now, &format).map_err(|directive| {
            let message = format!("strftime_now does not know `{directive}`");
            Error::new(ErrorKind::InvalidOperation, message)
        })
    });
    Ok(environment)
}

/// Replaces the tags `generation` and `endgeneration`, with which transformers marks the assistant's
/// words, by a condition that always holds: the tag is Python's own, what is between it is printed.
pub(crate) fn without_generation_tags(template: &str) -> String {
    let mut rest = template;
    let mut replaced = String::with_capacity(template.len());
    while let Some(start) = rest.find("{%") {
        // `{%}` opens a tag and does not close it.
        let Some(length) = rest[start + 2..].find("%}").map(|length| 2 + length) else {
            break;
        };
        let tag = &rest[start..start + length];
        let name = tag[2..].trim_matches(|char: char| "+-".contains(char) || char.is_whitespace());
        let tag = match name {
            "generation" => tag.replace("generation", "if true"),
            "endgeneration" => tag.replace("endgeneration", "endif"),
            _ => tag.to_owned(),
        };
        replaced.push_str(&rest[..start]);
        replaced.push_str(&tag);
        rest = &rest[start + length..];
    }
    replaced + rest
}

fn python_text_of(value: &Value) -> String {
    python_text(value)
}

/// `json.dumps(value, ensure_ascii=False)` with its other options: unlike Jinja's own filter, nothing is
/// escaped for HTML.
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ensures_ascii: Option<bool> = options.get("ensure_ascii")?;
    let sorts_keys: Option<bool> = options.get("sort_keys")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    options.assert_all_used()?;
    let separators = match separators.as_deref() {
        None => None,
        Some([item, key]) => Some((item.clone(), key.clone())),
        Some(_) => {
            let message = "tojson: expected two separators, between values and behind a key";
            return Err(Error::new(ErrorKind::InvalidOperation, message));
        }
    };
    let failed = |message: String| Error::new(ErrorKind::BadSerialization, message);
    let format = PythonJson::new(indent, separators, ensures_ascii == Some(true));
    let mut written = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut written, format);
    let result = match sorts_keys {
        Some(true) => serde_json::to_value(value).and_then(|mut value| {
            value.sort_all_objects();
            value.serialize(&mut serializer)
        }),
        _ => value.serialize(&mut serializer),
    };
    result.map_err(|error| failed(error.to_string()))?;
    String::from_utf8(written).map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str) -> Result<String, String> {
        let moment = DateTime::from_timestamp(1_721_952_000, 0).unwrap();
        let template = without_generation_tags(template);
        let environment = chat_environment(moment).unwrap();
        environment
            .render_str(&template, ())
            .map_err(|error| error.to_string())
    }

    /// Expected: the same expressions in transformers 4.57.3's own environment for chat templates.
    #[test]
    fn values_are_printed_as_python_prints_them() {
        for (template, expected) in [
            (
                "{{ none }} {{ true }} {{ false }} {{ nothing }}",
                "None True False ",
            ),
            (
                r#"{{ [1, 2.5, "é<&>", none, true] | tojson }}"#,
                r#"[1, 2.5, "é<&>", null, true]"#,
            ),
            (
                r#"{{ {"a": [], "b": {"c": "d\n'"}} | tojson }}"#,
                r#"{"a": [], "b": {"c": "d\n'"}}"#,
            ),
            (
                r#"{{ {"a": [1]} | tojson(indent=2) }}"#,
                "{\n  \"a\": [\n    1\n  ]\n}",
            ),
            ("{{ 'a-b'.split('-')[1].upper() + ' c '.strip() }}", "Bc"),
            ("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"),
            (
                "{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}",
                "1",
            ),
        ] {
            assert_eq!(render(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn generation_tags_print_what_they_mark() {
        let template =
            "a {%- generation -%} b {%- endgeneration %}\nc {% generation %}d{% endgeneration %}";
        let expected = render("a {%- if true -%} b {%- endif %}\nc {% if true %}d{% endif %}");
        assert_eq!(render(template), expected);
        assert_eq!(expected.as_deref(), Ok("abc d"));
    }

    #[test]
    fn a_tag_without_an_end_is_left_as_it_is() {
        for template in ["a {%}", "{%} generation %}", "{% generation"] {
            assert_eq!(without_generation_tags(template), template);
        }
    }

    #[test]
    fn an_exception_raised_keeps_its_words() {
        let error = render("{{ raise_exception('roles must alternate') }}").unwrap_err();
        assert!(error.contains("roles must alternate"), "{error}");
        let error = render("{{ strftime_now('%Q') }}").unwrap_err();
        assert!(error.contains("does not know `%Q`"), "{error}");
    }
}
