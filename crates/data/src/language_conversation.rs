//! Conversations → text by the chat template → tokens and loss masks.

use std::ops::Range;

use serde_json::Value;

use crate::chat_template::ChatTemplate;
use crate::error::DataError;
use crate::language_encoder::LanguageEncoder;
use crate::language_error::LanguageError;
use crate::language_example::LanguageExample;
use crate::loss_mask::{TrainOn, in_spans};
use crate::message::Message;

impl LanguageEncoder<'_> {
    /// The tokens of a conversation up to where the assistant's next words begin.
    ///
    /// - tools: as [`ChatTemplate::render`] takes them
    ///
    /// # Errors
    /// When the tokenizer fails, or the chat template is missing or does not take the conversation.
    pub fn chat_prompt(
        &self,
        messages: &[Message],
        tools: &[Value],
    ) -> Result<Vec<u32>, DataError> {
        let text = self.written(messages, tools, true)?;
        let ids = self.tokenizer.encode_spans(&text)?.ids;
        let before = self.before_conversation(&ids).to_vec();
        Ok(self.expanded([before, ids].concat()))
    }

    /// The examples of a conversation: one, or one for each turn that is learnt.
    ///
    /// - completion_start: the index of the first message that may be learnt
    pub(crate) fn conversation(
        &self,
        messages: &[Message],
        tools: &[Value],
        completion_start: usize,
    ) -> Result<Vec<Option<LanguageExample>>, DataError> {
        let is_learnt = |index: &usize| messages[*index].is_learnt();
        let turns: Vec<usize> = (completion_start..messages.len())
            .filter(is_learnt)
            .collect();
        if self.train_on == TrainOn::EachTurn && !turns.is_empty() {
            return turns
                .into_iter()
                .map(|turn| self.rendered(&messages[..=turn], tools, &[turn]))
                .collect();
        }
        Ok(vec![self.rendered(messages, tools, &turns)?])
    }

    /// The example that a whole conversation is, of which some turns are learnt.
    ///
    /// A turn is what the conversation up to it has beyond the one before it with its generation
    /// prompt; both must be beginnings of the whole.
    ///
    /// - turns: the indices of the assistant's messages
    fn rendered(
        &self,
        messages: &[Message],
        tools: &[Value],
        turns: &[usize],
    ) -> Result<Option<LanguageExample>, DataError> {
        let template = self.chat_template()?;
        let whole = self.written(messages, tools, false)?;
        let beginning = |messages: &[Message], turn: usize, is_before: bool| {
            let text = self.written(messages, tools, is_before)?;
            match whole.starts_with(&text) {
                true => Ok(text.len()),
                false => Err(LanguageError::RewrittenHistory {
                    path: template.path().to_owned(),
                    until: if is_before { "before it" } else { "up to it" },
                    number: turn + 1,
                }),
            }
        };
        let mut learnt: Vec<Range<usize>> = Vec::new();
        if self.train_on == TrainOn::All {
            // Everything but the messages that say that they are not to be learnt.
            let mut start = 0;
            for (index, message) in messages.iter().enumerate() {
                if !message.is_excluded() {
                    continue;
                }
                let before = match (index, message.is_of_assistant()) {
                    (0, false) => 0,
                    (_, is_answer) => beginning(&messages[..index], index, is_answer)?,
                };
                learnt.push(start..before);
                start = beginning(&messages[..=index], index, false)?;
            }
            learnt.push(start..whole.len());
        } else {
            for &turn in turns {
                let start = beginning(&messages[..turn], turn, true)?;
                learnt.push(start..beginning(&messages[..=turn], turn, false)?);
            }
        }
        let spans = self.tokenizer.encode_spans(&whole)?;
        let trained = in_spans(&spans.offsets, &learnt);
        let mut ids = spans.ids;
        let before = self.before_conversation(&ids).to_vec();
        let of_before = before.iter().map(|_| self.train_on == TrainOn::All);
        let mut trained: Vec<bool> = of_before.chain(trained).collect();
        ids.splice(0..0, before);
        let is_last = turns.last().is_some_and(|&turn| turn + 1 == messages.len());
        if self.marks_end && is_last {
            (ids, trained) = self.ended(ids, trained);
        }
        Ok(self.cut(&ids, &trained))
    }

    /// The special tokens to put before a conversation: none of a text, whose template has its own.
    fn before_conversation(&self, content: &[u32]) -> &[u32] {
        match self.images {
            Some(_) => self.before(content),
            None => &[],
        }
    }

    /// A conversation as the chat template writes it.
    pub(crate) fn written(
        &self,
        messages: &[Message],
        tools: &[Value],
        add_generation_prompt: bool,
    ) -> Result<String, LanguageError> {
        let template = self.chat_template()?;
        let Some(images) = &self.images else {
            return template.render(messages, tools, add_generation_prompt);
        };
        let messages = images.messages(messages);
        let text = template.render(&messages, tools, add_generation_prompt)?;
        let parts = messages.iter().filter_map(|message| message.parts.as_ref());
        let in_parts = parts.flatten().filter(|part| part.is_image()).count();
        let content = messages.iter().filter(|message| message.parts.is_none());
        let content = content.filter_map(|message| message.content.as_deref());
        let in_words: usize = content.map(|words| images.images_in(words)).sum();
        match images.images_in(&text) {
            found if found == in_parts + in_words => Ok(text),
            found => Err(LanguageError::TemplateImages {
                path: template.path().to_owned(),
                found,
                images: in_parts + in_words,
            }),
        }
    }

    fn chat_template(&self) -> Result<&ChatTemplate, LanguageError> {
        self.template
            .as_ref()
            .ok_or(LanguageError::NoTemplateLoaded)
    }
}
