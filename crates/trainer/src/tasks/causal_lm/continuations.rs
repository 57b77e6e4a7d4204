//! The continuations that exact-match compares, and the rows that have none.

use eigenmix_data::{DataError, LanguageContent, LanguageEncoder, LanguageRow, Split};

use super::examples::Continuation;

/// The continuations of the rows of a split.
#[derive(Debug, Default)]
pub(super) struct Continuations {
    pub compared: Vec<Continuation>,
    /// How many rows have nothing after a prompt to compare with.
    without: usize,
    /// How many have one that the model has no room for.
    too_long: usize,
}

impl Continuations {
    /// - room: how many tokens the model takes
    ///
    /// # Errors
    /// As [`LanguageEncoder::prompt`].
    pub fn of(
        encoder: &LanguageEncoder,
        rows: &[LanguageRow],
        room: usize,
    ) -> Result<Self, DataError> {
        let mut found = Self::default();
        for (index, row) in rows.iter().enumerate() {
            let Some(expected) = expected(row) else {
                found.without += 1;
                continue;
            };
            let continuation = Continuation {
                row: index,
                answers: match row.answers.is_empty() {
                    true => vec![expected.to_owned()],
                    false => row.answers.clone(),
                },
                prompt: encoder.prompt(row)?,
                expected: expected.to_owned(),
                expected_tokens: encoder.text_prompt(expected)?.len(),
            };
            match continuation.prompt.len() + continuation.expected_tokens < room {
                true => found.compared.push(continuation),
                false => found.too_long += 1,
            }
        }
        Ok(found)
    }

    /// What to say where not all rows are compared.
    ///
    /// - rows: how many there are
    /// - room: how many tokens the model takes
    pub fn note(&self, split: Split, rows: usize, room: usize) -> Option<String> {
        let reasons = [
            (self.without, "have no completion".to_owned()),
            (
                self.too_long,
                format!("are longer than the {room} tokens of the model"),
            ),
        ];
        let reasons = reasons.into_iter().filter(|(rows, _)| *rows > 0);
        let reasons: Vec<String> = reasons
            .map(|(rows, reason)| format!("{rows} {reason}"))
            .collect();
        (!reasons.is_empty()).then(|| {
            format!(
                "exact-match compares {} of {rows} rows of the {split} split: {}",
                self.compared.len(),
                reasons.join(", ")
            )
        })
    }
}

/// What the model is to say after a row's prompt.
fn expected(row: &LanguageRow) -> Option<&str> {
    match &row.content {
        LanguageContent::PromptCompletion { completion, .. } => Some(completion),
        LanguageContent::MultipleChoice(question) => Some(&question.choices[question.answer]),
        LanguageContent::Conversation { messages, .. } => {
            let last = messages.last()?;
            // A call is not compared: what the model writes for it is the template's.
            match last.role == "assistant" && !last.calls_tools() {
                true => last.content.as_deref(),
                false => None,
            }
        }
        LanguageContent::Text(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_not_compared_are_told_with_the_reasons() {
        let mut found = Continuations::default();
        assert_eq!(found.note(Split::Test, 0, 16), None);
        found.without = 2;
        let note = found.note(Split::Test, 2, 16).unwrap();
        let expected = "exact-match compares 0 of 2 rows of the test split: 2 have no completion";
        assert_eq!(note, expected);
        found.too_long = 1;
        let note = found.note(Split::Test, 3, 16).unwrap();
        assert!(
            note.ends_with("2 have no completion, 1 are longer than the 16 tokens of the model"),
            "{note}"
        );
    }
}
