//! The tokens at which the answer of a language model ends.

use serde_json::{Map, json};

use crate::error::DataError;
use crate::language_encoder::LanguageEncoder;
use crate::message::Message;

impl LanguageEncoder<'_> {
    /// The token with which the chat template ends an answer: the first special one behind it.
    /// Training teaches it, so generation has to end there even where the model's own files name
    /// other ends, as those of base models do.
    ///
    /// Nothing without a template, or with one that ends answers in plain text or refuses the
    /// question that is tried.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn turn_end(&self) -> Result<Option<u32>, DataError> {
        const ANSWER: &str = "Yes";
        if self.template.is_none() {
            return Ok(None);
        }
        let messages = [
            Message::new("user", "Is it?"),
            Message::new("assistant", ANSWER),
        ];
        let Ok(text) = self.written(&messages, &[], false) else {
            return Ok(None);
        };
        let Some(start) = text.rfind(ANSWER) else {
            return Ok(None);
        };
        let end = start + ANSWER.len();
        let spans = self.tokenizer.encode_spans(&text)?;
        let behind = spans.ids.iter().zip(&spans.offsets);
        let mut behind = behind.filter(|(_, span)| span.start >= end);
        Ok(behind
            .find(|(id, _)| self.tokenizer.is_added(**id))
            .map(|(id, _)| *id))
    }

    /// The token with which the chat template ends a turn that calls a tool: the last special one, as the
    /// call may be followed by one of its own. Some templates end such turns otherwise than answers.
    fn call_end(&self) -> Result<Option<u32>, DataError> {
        const NAME: &str = "look_up";
        if self.template.is_none() {
            return Ok(None);
        }
        let call = json!({
            "id": "abcdefgh1", "type": "function", "function": {"name": NAME, "arguments": {}},
        });
        let calling = Message {
            role: "assistant".to_owned(),
            content: None,
            parts: None,
            fields: Map::from_iter([("tool_calls".to_owned(), json!([call]))]),
        };
        let messages = [Message::new("user", "Is it?"), calling];
        let Ok(text) = self.written(&messages, &[], false) else {
            return Ok(None);
        };
        let Some(start) = text.rfind(NAME) else {
            return Ok(None);
        };
        let spans = self.tokenizer.encode_spans(&text)?;
        let behind = spans.ids.iter().zip(&spans.offsets).rev();
        let mut behind = behind.take_while(|(_, span)| span.start > start);
        Ok(behind
            .find(|(id, _)| self.tokenizer.is_added(**id))
            .map(|(id, _)| *id))
    }

    /// All tokens that end a generated answer, ascending: the model's own and the
    /// [end of a turn](Self::turn_end), whether of an answer or of a call of tools.
    ///
    /// # Errors
    /// As [`LanguageEncoder::turn_end`].
    pub fn stop_ids(&self) -> Result<Vec<u32>, DataError> {
        let mut stops = self.tokenizer.stop_ids().to_vec();
        stops.extend(self.turn_end()?);
        stops.extend(self.call_end()?);
        stops.sort_unstable();
        stops.dedup();
        Ok(stops)
    }
}
