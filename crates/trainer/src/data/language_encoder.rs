use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use super::chat_template::ChatTemplate;
use super::config::DataConfig;
use super::error::DataError;
use super::language_error::LanguageError;
use super::language_example::LanguageExample;
use super::language_row::{LanguageContent, LanguageRow};
use super::loss_mask::{TrainOn, in_spans};
use super::message::Message;
use super::tokenization::{Frame, TextTokenizer};

/// Puts rows into tokens for a language model, with a mask of what is learnt.
///
/// | row | text | targets by default |
/// |---|---|---|
/// | conversation | the chat template's, which carries its own special tokens | the assistant's turns, each up to and with what the template ends it with |
/// | prompt and completion | one after the other, as the tokenizer frames a text, and the end token | completion and end token |
/// | multiple choice | the question and the right choice, as prompt and completion | the choice and the end token |
/// | text | as the tokenizer frames it, and the end token | all |
///
/// A text is tokenised as a whole; a token that straddles the beginning of a completion counts with it.
pub struct LanguageEncoder<'a> {
    pub(super) tokenizer: &'a TextTokenizer,
    pub(super) frame: Frame,
    template: Option<ChatTemplate>,
    train_on: TrainOn,
    pub(super) max_length: usize,
}

/// Rows in tokens, as far as they have something to learn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LanguageExamples {
    /// In the order of the rows; a long text is several.
    pub examples: Vec<LanguageExample>,
    /// How many rows had no target within `max_length` and were left out.
    pub dropped: usize,
    /// How many examples were cut at `max_length`.
    pub truncated: usize,
}

impl<'a> LanguageEncoder<'a> {
    /// An encoder for these rows: it loads a chat template if one of them is a conversation.
    ///
    /// # Errors
    /// When `data.max_length` is below 2, or there is no usable template where one is needed.
    pub fn for_rows(
        tokenizer: &'a TextTokenizer,
        model_dir: &Path,
        config: &DataConfig,
        rows: &[LanguageRow],
    ) -> Result<Self, DataError> {
        let template = match rows.iter().any(LanguageRow::is_conversation) {
            true => Some(ChatTemplate::load(
                model_dir,
                config.chat_template.as_deref(),
            )?),
            false => None,
        };
        Self::new(tokenizer, template, config)
    }

    /// - template: for conversations; without it they are refused
    ///
    /// # Errors
    /// When `data.max_length` is below 2.
    pub fn new(
        tokenizer: &'a TextTokenizer,
        template: Option<ChatTemplate>,
        config: &DataConfig,
    ) -> Result<Self, DataError> {
        if config.max_length < 2 {
            let found = config.max_length;
            return Err(LanguageError::MaxLengthTooShort { found }.into());
        }
        Ok(Self {
            tokenizer,
            frame: tokenizer.frame()?,
            template,
            train_on: config.train_on,
            max_length: config.max_length,
        })
    }

    /// Examples of every row, in their order.
    ///
    /// # Errors
    /// As [`LanguageEncoder::encode`], and when no row has a target.
    pub fn encode_all(&self, rows: &[LanguageRow]) -> Result<LanguageExamples, DataError> {
        let encoded: Vec<Vec<LanguageExample>> = rows
            .par_iter()
            .map(|row| self.encode(row))
            .collect::<Result<_, _>>()?;
        let dropped = encoded.iter().filter(|of_row| of_row.is_empty()).count();
        let examples: Vec<LanguageExample> = encoded.into_iter().flatten().collect();
        if examples.is_empty() {
            return Err(LanguageError::NothingTrained {
                rows: rows.len(),
                max_length: self.max_length,
            }
            .into());
        }
        let truncated = examples.iter().filter(|example| example.truncated).count();
        Ok(LanguageExamples {
            examples,
            dropped,
            truncated,
        })
    }

    /// The examples of a row: one, of a long text several, and none where `max_length` leaves no
    /// target.
    ///
    /// # Errors
    /// When the tokenizer fails, or the chat template is missing or does not take the conversation.
    pub fn encode(&self, row: &LanguageRow) -> Result<Vec<LanguageExample>, DataError> {
        let example = match &row.content {
            LanguageContent::Text(text) => return self.text(text),
            LanguageContent::PromptCompletion { prompt, completion } => {
                self.completion(prompt, completion)?
            }
            LanguageContent::MultipleChoice(question) => {
                let choice = &question.choices[question.answer];
                let (prompt, continuation) = super::choice_example::joint(&question.prompt, choice);
                self.completion(prompt, &continuation)?
            }
            LanguageContent::Conversation {
                messages,
                completion_start,
            } => {
                let (text, turns) = self
                    .turns(messages, *completion_start)
                    .map_err(|source| in_row(row, source))?;
                let spans = self.tokenizer.encode_spans(&text)?;
                let trained = in_spans(&spans.offsets, &turns);
                LanguageExample::cut(&spans.ids, &trained, self.max_length)
            }
        };
        Ok(example.into_iter().collect())
    }

    /// What a model is given to continue: a row without its completion, its right choice or its last
    /// message, if that is the assistant's.
    ///
    /// # Errors
    /// As [`LanguageEncoder::encode`].
    pub fn prompt(&self, row: &LanguageRow) -> Result<Vec<u32>, DataError> {
        match &row.content {
            LanguageContent::Text(text) => self.text_prompt(text),
            LanguageContent::PromptCompletion { prompt, .. } => self.text_prompt(prompt),
            LanguageContent::MultipleChoice(question) => self.text_prompt(&question.prompt),
            LanguageContent::Conversation { messages, .. } => {
                let asked = match messages.split_last() {
                    Some((last, before)) if last.is_of_assistant() => before,
                    _ => messages,
                };
                self.chat_prompt(asked).map_err(|error| match error {
                    DataError::Language(source) => in_row(row, source),
                    other => other,
                })
            }
        }
    }

    /// The tokens of a text that the model is to continue.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn text_prompt(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let content = self.tokenizer.encode_spans(text)?.ids;
        Ok([self.frame.before.as_slice(), &content].concat())
    }

    /// The tokens of a conversation up to where the assistant's next words begin.
    ///
    /// # Errors
    /// When the tokenizer fails, or the chat template is missing or does not take the conversation.
    pub fn chat_prompt(&self, messages: &[Message]) -> Result<Vec<u32>, DataError> {
        let text = self.chat_template()?.render(messages, true)?;
        Ok(self.tokenizer.encode_spans(&text)?.ids)
    }

    fn chat_template(&self) -> Result<&ChatTemplate, LanguageError> {
        self.template
            .as_ref()
            .ok_or(LanguageError::NoTemplateLoaded)
    }

    fn text(&self, text: &str) -> Result<Vec<LanguageExample>, DataError> {
        let spans = self.tokenizer.encode_spans(text)?;
        if spans.ids.is_empty() {
            return Ok(Vec::new());
        }
        let framed = self.framed(spans.ids, vec![true; spans.offsets.len()]);
        Ok(LanguageExample::chunks(&framed.0, self.max_length))
    }

    fn completion(
        &self,
        prompt: &str,
        completion: &str,
    ) -> Result<Option<LanguageExample>, DataError> {
        let text = [prompt, completion].concat();
        let spans = self.tokenizer.encode_spans(&text)?;
        let learnt = match self.train_on {
            TrainOn::Completion => prompt.len()..text.len(),
            TrainOn::All => 0..text.len(),
        };
        let trained = in_spans(&spans.offsets, &[learnt]);
        let (ids, trained) = self.framed(spans.ids, trained);
        Ok(LanguageExample::cut(&ids, &trained, self.max_length))
    }

    /// The tokens of a text with the special tokens around it and, always, the end token if the model
    /// has one.
    fn framed(&self, content: Vec<u32>, trained: Vec<bool>) -> (Vec<u32>, Vec<bool>) {
        let Frame { before, after } = &self.frame;
        let is_all = self.train_on == TrainOn::All;
        let ids = [before.as_slice(), &content, after].concat();
        let of_after = after.iter().map(|id| is_all || self.is_end(*id));
        let of_before = before.iter().map(|_| is_all);
        let trained = of_before.chain(trained).chain(of_after).collect();
        self.ended(ids, trained)
    }

    fn ended(&self, mut ids: Vec<u32>, mut trained: Vec<bool>) -> (Vec<u32>, Vec<bool>) {
        if let Some(end) = self.tokenizer.eos_id()
            && ids.last() != Some(&end)
        {
            ids.push(end);
            trained.push(true);
        }
        (ids, trained)
    }

    fn is_end(&self, id: u32) -> bool {
        self.tokenizer.eos_id() == Some(id)
    }

    /// The text of a conversation and the bytes of it that are learnt.
    ///
    /// A turn is what the conversation up to it has beyond the one before it with its generation
    /// prompt; both must be beginnings of the whole.
    fn turns(
        &self,
        messages: &[Message],
        completion_start: usize,
    ) -> Result<(String, Vec<Range<usize>>), LanguageError> {
        let template = self.chat_template()?;
        let whole = template.render(messages, false)?;
        if self.train_on == TrainOn::All {
            let everything = 0..whole.len();
            return Ok((whole, vec![everything]));
        }
        let mut turns = Vec::new();
        for (index, message) in messages.iter().enumerate().skip(completion_start) {
            if !message.is_of_assistant() {
                continue;
            }
            let beginning = |messages: &[Message], is_before: bool| {
                let text = template.render(messages, is_before)?;
                match whole.starts_with(&text) {
                    true => Ok(text.len()),
                    false => Err(LanguageError::RewrittenHistory {
                        path: template.path().to_owned(),
                        until: if is_before { "before it" } else { "up to it" },
                        number: index + 1,
                    }),
                }
            };
            let start = beginning(&messages[..index], true)?;
            let end = beginning(&messages[..=index], false)?;
            turns.push(start..end);
        }
        Ok((whole, turns))
    }
}

fn in_row(row: &LanguageRow, source: LanguageError) -> DataError {
    LanguageError::Conversation {
        place: row.place.clone(),
        source: Box::new(source),
    }
    .into()
}

#[cfg(test)]
#[path = "language_encoder_tests.rs"]
mod tests;
