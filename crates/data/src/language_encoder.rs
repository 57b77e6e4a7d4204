//! Rows → tokens and loss masks for a language model.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use crate::chat_template::ChatTemplate;
use crate::choice_example::joint;
use crate::config::DataConfig;
use crate::error::DataError;
use crate::image_tokens::ImageText;
use crate::language_error::LanguageError;
use crate::language_example::LanguageExample;
use crate::language_row::{LanguageContent, LanguageRow};
use crate::loss_mask::{TrainOn, in_spans};
use crate::message::Message;
use crate::tokenization::{Frame, TextTokenizer};

/// Puts rows into tokens for a language model, with a mask of what is learnt.
///
/// | row | text | targets by default |
/// |---|---|---|
/// | conversation | the chat template's, which carries its own special tokens | the assistant's turns, tool calls among them, each with what the template ends it with |
/// | prompt and completion | one after the other, as the tokenizer frames a text, and the end token | completion and end token |
/// | multiple choice | the question and the right choice, as prompt and completion | the choice and the end token |
/// | text | as the tokenizer frames it, and the end token | all |
///
/// A text is tokenised as a whole; a token that straddles the beginning of a completion counts with it.
/// What is longer than `max_length` is cut at its end, except for plain texts: they are split into
/// consecutive examples, each of which begins with the last token of the one before.
pub struct LanguageEncoder<'a> {
    pub(crate) tokenizer: &'a TextTokenizer,
    pub(crate) frame: Frame,
    pub(crate) template: Option<ChatTemplate>,
    pub(crate) train_on: TrainOn,
    pub(crate) max_length: usize,
    /// How images stand in texts, if they may have any.
    pub(crate) images: Option<ImageText>,
    /// Whether the end of a conversation is marked, as its chat template does not mark it.
    pub(crate) marks_end: bool,
}

/// Rows in tokens, as far as they have something to learn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LanguageExamples {
    /// In the order of the rows; a long text is several, and so is a conversation of which each turn is
    /// to be one.
    pub examples: Vec<LanguageExample>,
    /// The index of the row of each.
    pub rows: Vec<usize>,
    /// How many examples had no target and were left out.
    pub dropped: usize,
    /// Those of them that are conversations without a turn of the assistant that is to be learnt.
    pub unanswered: usize,
    /// The roles in these, sorted.
    pub unanswered_roles: Vec<String>,
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
            images: None,
            marks_end: false,
        })
    }

    /// The same for a model whose texts have images. A conversation is then framed as the tokenizer frames
    /// a text, as processors do it; and if the chat template has no token for the end of an answer, the
    /// last one ends with the model's.
    ///
    /// - token: stands for images
    /// - per_image: how many of them an image takes
    ///
    /// # Errors
    /// When the tokenizer does not know the token, or fails.
    pub fn with_images(mut self, token: u32, per_image: usize) -> Result<Self, DataError> {
        let template = self.template.as_ref();
        self.images = Some(ImageText::new(token, per_image, self.tokenizer, template)?);
        self.marks_end = self.template.is_some() && self.turn_end()?.is_none();
        Ok(self)
    }

    /// How images stand in texts, if they may have any.
    pub fn images(&self) -> Option<&ImageText> {
        self.images.as_ref()
    }

    /// Examples of every row, in their order.
    ///
    /// # Errors
    /// As [`LanguageEncoder::encode`], and when no row has a target.
    pub fn encode_all(&self, rows: &[LanguageRow]) -> Result<LanguageExamples, DataError> {
        let encoded: Vec<Vec<Option<LanguageExample>>> = rows
            .par_iter()
            .map(|row| self.encode_or_drop(row))
            .collect::<Result<_, _>>()?;
        let dropped = encoded
            .iter()
            .flatten()
            .filter(|example| example.is_none())
            .count();
        let (mut unanswered, mut roles) = (0, BTreeSet::new());
        for (row, examples) in rows.iter().zip(&encoded) {
            if let LanguageContent::Conversation { messages, .. } = &row.content
                && examples.iter().all(Option::is_none)
                && !messages.iter().any(Message::is_learnt)
            {
                unanswered += examples.len();
                roles.extend(messages.iter().map(|message| message.role.clone()));
            }
        }
        let numbered = encoded.into_iter().enumerate();
        let of_rows = numbered.flat_map(|(row, found)| {
            let found = found.into_iter().flatten();
            found.map(move |example| (example, row))
        });
        let (examples, of_rows): (Vec<LanguageExample>, Vec<usize>) = of_rows.unzip();
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
            rows: of_rows,
            dropped,
            unanswered,
            unanswered_roles: roles.into_iter().collect(),
            truncated,
        })
    }

    /// The examples of a row: one, of a long text or of the turns of a conversation several, and none
    /// where `max_length` leaves no target.
    ///
    /// # Errors
    /// When the tokenizer fails, or the chat template is missing or does not take the conversation.
    pub fn encode(&self, row: &LanguageRow) -> Result<Vec<LanguageExample>, DataError> {
        let encoded = self.encode_or_drop(row)?;
        Ok(encoded.into_iter().flatten().collect())
    }

    /// The examples of a row, `None` for one without a target.
    fn encode_or_drop(&self, row: &LanguageRow) -> Result<Vec<Option<LanguageExample>>, DataError> {
        self.check_images(row)?;
        match &row.content {
            LanguageContent::Text(_) if !row.images.is_empty() => {
                let place = row.place.clone();
                Err(LanguageError::ImagesInText { place }.into())
            }
            LanguageContent::Text(text) => self.text(text),
            LanguageContent::PromptCompletion { prompt, completion } => {
                Ok(vec![self.completion(&self.worded(prompt), completion)?])
            }
            LanguageContent::MultipleChoice(question) => {
                let choice = &question.choices[question.answer];
                let prompt = self.worded(&question.prompt);
                let (prompt, continuation) = joint(&prompt, choice);
                Ok(vec![self.completion(prompt, &continuation)?])
            }
            LanguageContent::Conversation {
                messages,
                tools,
                completion_start,
            } => self
                .conversation(messages, tools, *completion_start)
                .map_err(|error| in_row(row, error)),
        }
    }

    /// What a model is given to continue: a row without its completion, its right choice or its last
    /// message, if that is the assistant's.
    ///
    /// # Errors
    /// As [`LanguageEncoder::encode`].
    pub fn prompt(&self, row: &LanguageRow) -> Result<Vec<u32>, DataError> {
        self.check_images(row)?;
        match &row.content {
            LanguageContent::Text(text) => {
                let prompt = self.text_prompt(&self.worded(text))?;
                Ok(self.expanded(prompt))
            }
            LanguageContent::PromptCompletion { prompt, completion } => {
                let prompt = self.prompt_before(&self.worded(prompt), completion)?;
                Ok(self.expanded(prompt))
            }
            LanguageContent::MultipleChoice(question) => {
                let prompt = self.text_prompt(&self.worded(&question.prompt))?;
                Ok(self.expanded(prompt))
            }
            LanguageContent::Conversation {
                messages, tools, ..
            } => {
                let asked = match messages.split_last() {
                    Some((last, before)) if last.is_of_assistant() => before,
                    _ => messages,
                };
                self.chat_prompt(asked, tools)
                    .map_err(|error| in_row(row, error))
            }
        }
    }

    /// # Errors
    /// As [`ImageText::check`], of a model whose texts have images.
    pub(crate) fn check_images(&self, row: &LanguageRow) -> Result<(), LanguageError> {
        let images = self.images.as_ref();
        images.map_or(Ok(()), |images| images.check(row))
    }

    /// A text with the model's own word for an image.
    pub(crate) fn worded<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match &self.images {
            Some(images) => Cow::Owned(images.text(text)),
            None => Cow::Borrowed(text),
        }
    }

    /// Tokens with as many for each image as it has features.
    pub(crate) fn expanded(&self, ids: Vec<u32>) -> Vec<u32> {
        match &self.images {
            Some(images) => images.expand(&ids, &vec![false; ids.len()]).0,
            None => ids,
        }
    }

    /// The example that these tokens are, cut at `max_length`.
    pub(crate) fn cut(&self, ids: &[u32], trained: &[bool]) -> Option<LanguageExample> {
        let Some(images) = &self.images else {
            return LanguageExample::cut(ids, trained, self.max_length);
        };
        let (ids, trained) = images.expand(ids, trained);
        let kept = images.whole(&ids, self.max_length);
        LanguageExample::cut(&ids, &trained, kept)
    }

    /// The tokens of a prompt as training has them: where blanks at its end are one token with what
    /// follows, that token is the completion's.
    fn prompt_before(&self, prompt: &str, completion: &str) -> Result<Vec<u32>, DataError> {
        let kept = prompt.trim_end();
        let spans = self
            .tokenizer
            .encode_spans(&[prompt, completion].concat())?;
        let is_of_prompt = |token: &&Range<usize>| token.end <= prompt.len();
        let border = spans.offsets.iter().take_while(is_of_prompt).count();
        let straddles = spans
            .offsets
            .get(border)
            .is_some_and(|token| token.start < prompt.len() && token.start >= kept.len());
        if !straddles {
            return self.text_prompt(prompt);
        }
        let content = &spans.ids[..border];
        Ok([self.before(content), content].concat())
    }

    /// The tokens of a text that the model is to continue; an image in it is one token.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn text_prompt(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let content = self.tokenizer.encode_spans(text)?.ids;
        Ok([self.before(&content), &content].concat())
    }

    /// The text of the chat template, if conversations are read.
    pub fn template_source(&self) -> Option<&str> {
        self.template.as_ref().map(ChatTemplate::source)
    }

    fn text(&self, text: &str) -> Result<Vec<Option<LanguageExample>>, DataError> {
        let spans = self.tokenizer.encode_spans(text)?;
        if spans.ids.is_empty() {
            return Ok(vec![None]);
        }
        let framed = self.framed(spans.ids, vec![true; spans.offsets.len()]);
        let chunks = LanguageExample::chunks(&framed.0, self.max_length);
        Ok(chunks.into_iter().map(Some).collect())
    }

    fn completion(
        &self,
        prompt: &str,
        completion: &str,
    ) -> Result<Option<LanguageExample>, DataError> {
        let text = [prompt, completion].concat();
        let spans = self.tokenizer.encode_spans(&text)?;
        let learnt = match self.train_on {
            TrainOn::Completion | TrainOn::EachTurn => prompt.len()..text.len(),
            TrainOn::All => 0..text.len(),
        };
        let trained = in_spans(&spans.offsets, &[learnt]);
        let (ids, trained) = self.framed(spans.ids, trained);
        Ok(self.cut(&ids, &trained))
    }

    /// The tokens of a text with the special tokens around it and, always, the end token if the model
    /// has one.
    fn framed(&self, content: Vec<u32>, trained: Vec<bool>) -> (Vec<u32>, Vec<bool>) {
        let (before, after) = (self.before(&content), &self.frame.after);
        let is_all = self.train_on == TrainOn::All;
        let ids = [before, &content, after].concat();
        let of_after = after.iter().map(|id| is_all || self.is_end(*id));
        let of_before = before.iter().map(|_| is_all);
        let trained = of_before.chain(trained).chain(of_after).collect();
        self.ended(ids, trained)
    }

    /// The special tokens to put before a text: none where it begins with them already, as texts do
    /// that were framed when they were written.
    pub(crate) fn before(&self, content: &[u32]) -> &[u32] {
        let before = self.frame.before.as_slice();
        match content.starts_with(before) {
            true => &[],
            false => before,
        }
    }

    pub(crate) fn ended(&self, mut ids: Vec<u32>, mut trained: Vec<bool>) -> (Vec<u32>, Vec<bool>) {
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
}

/// Says which row the chat template could not take.
fn in_row(row: &LanguageRow, error: DataError) -> DataError {
    match error {
        DataError::Language(source) => LanguageError::Conversation {
            place: row.place.clone(),
            source: Box::new(source),
        }
        .into(),
        other => other,
    }
}

#[cfg(test)]
#[path = "language_encoder_tests.rs"]
mod tests;
