//! A question with choices, read from the several shapes in which benchmarks publish theirs.

use serde_json::{Map, Value};

use crate::error::{DataError, quoted};
use crate::jsonl::{kind, required, string};
use crate::language_error::LanguageError;
use crate::row::Place;

/// A question with choices, one of which is the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What comes before a choice: the question, in `data.prompt_template` where there is one.
    pub prompt: String,
    pub choices: Vec<String>,
    /// The index of the right choice.
    pub answer: usize,
}

/// The choices of a row, with the names that the row gives them.
struct Choices {
    texts: Vec<String>,
    /// As in ARC: `{"text": […], "label": ["A", …]}`.
    names: Option<Vec<String>>,
}

impl Question {
    /// Reads a question from its columns; `choices` is a list of strings, or an object of the lists
    /// `text` and `label`.
    ///
    /// A string `answer` is, in this order, the name of a choice, the text of one, a letter from A
    /// on, or an index from 0 on in digits; a number is an index.
    ///
    /// - names: the columns of the question, the choices and the answer
    ///
    /// # Errors
    /// When a column is missing or of another type, there are fewer than two choices, or the answer
    /// is none of them.
    pub(crate) fn parse(
        columns: &Map<String, Value>,
        names: [&str; 3],
        place: &Place,
    ) -> Result<Self, DataError> {
        let [question, choices, answer] = names;
        let prompt = string(columns, "data.columns.question", question, place)?;
        let value = required(columns, "data.columns.choices", choices, place)?;
        let parsed = parse_choices(value, choices, place)?;
        let value = required(columns, "data.columns.answer", answer, place)?;
        let found = find_answer(value, &parsed, answer, place)?;
        Ok(Self {
            prompt,
            choices: parsed.texts,
            answer: found,
        })
    }
}

fn parse_choices(value: &Value, column: &str, place: &Place) -> Result<Choices, DataError> {
    let bad_value = |found: String| DataError::BadValue {
        place: place.clone(),
        column: column.to_owned(),
        expected: "a list of at least 2 strings",
        found,
    };
    let strings = |value: &Value| {
        let Value::Array(values) = value else {
            return Err(bad_value(kind(value).to_owned()));
        };
        values
            .iter()
            .map(|value| match value {
                Value::String(text) => Ok(text.clone()),
                other => Err(bad_value(format!("a list with {}", kind(other)))),
            })
            .collect::<Result<Vec<String>, DataError>>()
    };
    let choices = match value {
        Value::Object(fields) => {
            let (Some(texts), Some(names)) = (fields.get("text"), fields.get("label")) else {
                return Err(bad_value("an object without `text` and `label`".to_owned()));
            };
            Choices {
                texts: strings(texts)?,
                names: Some(strings(names)?),
            }
        }
        value => Choices {
            texts: strings(value)?,
            names: None,
        },
    };
    match choices.texts.len() {
        0 => return Err(bad_value("an empty list".to_owned())),
        1 => return Err(bad_value("a list of one".to_owned())),
        _ => {}
    }
    if let Some(names) = &choices.names
        && names.len() != choices.texts.len()
    {
        let found = format!(
            "an object with {} of `text` and {} of `label`",
            choices.texts.len(),
            names.len()
        );
        return Err(bad_value(found));
    }
    Ok(choices)
}

fn find_answer(
    value: &Value,
    choices: &Choices,
    column: &str,
    place: &Place,
) -> Result<usize, DataError> {
    let (found, shown) = match value {
        Value::Number(number) => {
            let index = number
                .as_u64()
                .or_else(|| number.as_f64().and_then(whole))
                .and_then(|index| usize::try_from(index).ok());
            (index, number.to_string())
        }
        Value::String(answer) => (index_of(answer, choices), answer.clone()),
        other => {
            return Err(DataError::BadValue {
                place: place.clone(),
                column: column.to_owned(),
                expected: "an index, a letter or the text of a choice",
                found: kind(other).to_owned(),
            });
        }
    };
    let count = choices.texts.len();
    found.filter(|index| *index < count).ok_or_else(|| {
        LanguageError::UnknownAnswer {
            place: place.clone(),
            column: column.to_owned(),
            answer: shown,
            choices: quoted(&choices.texts),
            count,
        }
        .into()
    })
}

/// Tables with a gap in an integer column are often saved as floats.
fn whole(number: f64) -> Option<u64> {
    (number.fract() == 0.0 && (0.0..1e9).contains(&number)).then_some(number as u64)
}

fn index_of(answer: &str, choices: &Choices) -> Option<usize> {
    let position = |names: &[String]| names.iter().position(|name| name == answer);
    let named = choices.names.as_deref().and_then(position);
    named
        .or_else(|| position(&choices.texts))
        .or_else(|| letter(answer))
        .or_else(|| answer.parse().ok())
}

/// `A` or `a` is 0, `B` is 1, and so on.
fn letter(answer: &str) -> Option<usize> {
    match answer.as_bytes() {
        [letter] if letter.is_ascii_alphabetic() => {
            Some(usize::from(letter.to_ascii_uppercase() - b'A'))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn parse(row: Value) -> Result<Question, String> {
        let place = Place {
            file: Path::new("test.jsonl").into(),
            line: 4,
        };
        let Value::Object(columns) = row else {
            panic!("a row is an object");
        };
        let names = ["question", "choices", "answer"];
        Question::parse(&columns, names, &place).map_err(|error| error.to_string())
    }

    fn answer(choices: Value, answer: Value) -> Result<usize, String> {
        let row = json!({"question": "Which?", "choices": choices, "answer": answer});
        parse(row).map(|question| question.answer)
    }

    #[test]
    fn an_answer_is_an_index_a_letter_or_a_text() {
        let choices = json!(["red", "green", "blue"]);
        for third in [
            json!(2),
            json!(2.0),
            json!("C"),
            json!("c"),
            json!("blue"),
            json!("2"),
        ] {
            assert_eq!(answer(choices.clone(), third.clone()), Ok(2), "{third}");
        }
    }

    #[test]
    fn the_text_of_a_choice_goes_before_letters_and_digits() {
        assert_eq!(answer(json!(["3", "2", "1"]), json!("2")), Ok(1));
        assert_eq!(answer(json!(["b", "a"]), json!("b")), Ok(0));
        assert_eq!(answer(json!(["3", "2", "1"]), json!(2)), Ok(2));
    }

    #[test]
    fn choices_with_names_are_answered_by_name() {
        let choices = json!({"text": ["red", "green", "blue"], "label": ["1", "2", "3"]});
        assert_eq!(answer(choices, json!("2")), Ok(1));
        let uneven = json!({"text": ["red", "green"], "label": ["1"]});
        let error = answer(uneven, json!("1")).unwrap_err();
        assert!(error.contains("2 of `text` and 1 of `label`"), "{error}");
    }

    #[test]
    fn an_answer_out_of_range_is_named_with_the_choices() {
        let choices = json!(["red", "green", "blue"]);
        for wrong in [json!(3), json!("D"), json!("violet"), json!(-1), json!(0.5)] {
            let error = answer(choices.clone(), wrong.clone()).unwrap_err();
            assert!(
                error.starts_with("test.jsonl:4: column `answer`: `"),
                "{error}"
            );
            let expected =
                "none of the choices `red`, `green`, `blue`; expected an index from 0 to 2";
            assert!(error.contains(expected), "{wrong}: {error}");
        }
        let error = answer(choices, json!(null)).unwrap_err();
        assert!(
            error.contains("or the text of a choice, found null"),
            "{error}"
        );
    }

    #[test]
    fn fewer_than_two_choices_are_refused() {
        let expected = "test.jsonl:4: column `choices`: expected a list of at least 2 strings, ";
        for (choices, found) in [
            (json!([]), "found an empty list"),
            (json!(["red"]), "found a list of one"),
            (json!("red"), "found a string"),
            (json!(["red", 5]), "found a list with a number"),
            (
                json!({"text": ["red"]}),
                "found an object without `text` and `label`",
            ),
        ] {
            assert_eq!(answer(choices, json!(0)), Err(format!("{expected}{found}")));
        }
    }

    #[test]
    fn a_missing_column_names_the_nearest() {
        let error = parse(json!({"question": "Which?", "choice": ["a", "b"], "answer": 0}));
        let expected = "did you mean `choice`? Set `data.columns.choices`";
        assert!(error.as_ref().unwrap_err().contains(expected), "{error:?}");
    }
}
