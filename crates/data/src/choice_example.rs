//! A multiple-choice question in tokens: one sequence for each choice, so that their likelihoods
//! compare.

use rayon::prelude::*;

use crate::error::DataError;
use crate::language_encoder::LanguageEncoder;
use crate::language_error::LanguageError;
use crate::language_row::{LanguageContent, LanguageRow};
use crate::multiple_choice::Question;
use crate::row::Place;

/// A question whose answer is the choice that the model finds most likely to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChoiceExample {
    /// `[tokens]`, at least one: what all choices are predicted from.
    pub prompt: Vec<u32>,
    /// `[choices][tokens]`, each at least one.
    pub choices: Vec<Vec<u32>>,
    /// The index of the right choice.
    pub answer: usize,
    /// Whether the prompt was cut at its beginning, to fit `max_length` with the longest choice.
    pub truncated: bool,
}

impl LanguageEncoder<'_> {
    /// Choices of every row, in their order.
    ///
    /// # Errors
    /// As [`LanguageEncoder::choices`].
    pub fn all_choices(&self, rows: &[LanguageRow]) -> Result<Vec<ChoiceExample>, DataError> {
        rows.par_iter().map(|row| self.choices(row)).collect()
    }

    /// The tokens of a question and of each choice after it.
    ///
    /// Blanks are those of lm-evaluation-harness: a choice begins with a blank unless it or the end
    /// of the prompt already is one, and blanks at the end of the prompt go with the choice. Prompt and
    /// choice are tokenised as one text; a token that straddles their border is the choice's. Where
    /// that leaves the prompt with other tokens before one choice than before another, what they do
    /// not have in common goes with the choices.
    ///
    /// # Errors
    /// When the row is no question, a choice has no tokens or leaves no room for one of the prompt, or
    /// the tokenizer fails.
    pub fn choices(&self, row: &LanguageRow) -> Result<ChoiceExample, DataError> {
        self.check_images(row)?;
        match &row.content {
            LanguageContent::MultipleChoice(question) => self.continuations(question, &row.place),
            _ => Err(LanguageError::NotAQuestion {
                place: row.place.clone(),
            }
            .into()),
        }
    }

    fn continuations(
        &self,
        question: &Question,
        place: &Place,
    ) -> Result<ChoiceExample, DataError> {
        let asked = self.worded(&question.prompt);
        let mut texts = Vec::with_capacity(question.choices.len());
        let mut borders = Vec::with_capacity(question.choices.len());
        for (index, choice) in question.choices.iter().enumerate() {
            let (prompt, continuation) = joint(&asked, choice);
            let text = [prompt, &continuation].concat();
            let spans = self.tokenizer.encode_spans(&text)?;
            let is_of_prompt = |token: &&std::ops::Range<usize>| token.end <= prompt.len();
            let border = spans.offsets.iter().take_while(is_of_prompt).count();
            if border == spans.ids.len() {
                let place = place.clone();
                let number = index + 1;
                return Err(LanguageError::NoChoiceTokens { place, number }.into());
            }
            texts.push(spans.ids);
            borders.push(border);
        }
        let common = common_beginning(&texts, &borders);
        let mut prompt = self.before(&texts[0][..common]).to_vec();
        prompt.extend_from_slice(&texts[0][..common]);
        if prompt.is_empty() {
            let first = self.tokenizer.bos_id().or(self.tokenizer.eos_id());
            let place = place.clone();
            prompt.push(first.ok_or(LanguageError::NoContext { place })?);
        }
        let choices: Vec<Vec<u32>> = texts.iter().map(|ids| ids[common..].to_vec()).collect();
        let mut prompt = self.expanded(prompt);
        let tokens = prompt.len();
        // Before the cut, which may leave a part of one.
        let has_images = self
            .images
            .as_ref()
            .is_some_and(|images| images.images(&prompt) > 0);
        let truncated = self.cut_beginning(&mut prompt, &choices, place)?;
        if truncated && has_images {
            let longest = choices.iter().map(Vec::len).max().unwrap_or_default();
            let place = place.clone();
            let tokens = tokens + longest;
            return Err(LanguageError::NoRoomForImages { place, tokens }.into());
        }
        Ok(ChoiceExample {
            prompt,
            choices,
            answer: question.answer,
            truncated,
        })
    }

    /// Cuts the prompt so that it fits with the longest choice.
    fn cut_beginning(
        &self,
        prompt: &mut Vec<u32>,
        choices: &[Vec<u32>],
        place: &Place,
    ) -> Result<bool, LanguageError> {
        for (index, choice) in choices.iter().enumerate() {
            if choice.len() >= self.max_length {
                return Err(LanguageError::ChoiceTooLong {
                    place: place.clone(),
                    number: index + 1,
                    tokens: choice.len(),
                    max_length: self.max_length,
                });
            }
        }
        let longest = choices.iter().map(Vec::len).max().unwrap_or_default();
        let excess = (prompt.len() + longest).saturating_sub(self.max_length);
        prompt.drain(..excess);
        Ok(excess > 0)
    }
}

/// A prompt and the continuation that a choice is, with the blanks at their border.
pub(crate) fn joint<'a>(prompt: &'a str, choice: &str) -> (&'a str, String) {
    let kept = prompt.trim_end();
    let blanks = &prompt[kept.len()..];
    let has_blank = !blanks.is_empty() || choice.starts_with(char::is_whitespace);
    let delimiter = if has_blank { "" } else { " " };
    (kept, [blanks, delimiter, choice].concat())
}

/// How many tokens the prompts have in common before all choices.
///
/// - texts: `[choices][tokens]`
/// - borders: `[choices]`, where the choice begins in its text
fn common_beginning(texts: &[Vec<u32>], borders: &[usize]) -> usize {
    let shortest = borders.iter().copied().min().unwrap_or_default();
    (0..shortest)
        .take_while(|index| texts.iter().all(|ids| ids[*index] == texts[0][*index]))
        .count()
}

#[cfg(test)]
#[path = "choice_example_tests.rs"]
mod tests;
