//! Tokens → text while a model is still generating, without ever printing half a character.

use crate::error::DataError;
use crate::tokenization::TextTokenizer;

/// Turns tokens that come one after the other into text, as soon as a piece of it is final.
///
/// A character whose bytes are spread over several tokens is held back until its last byte is there.
pub struct IncrementalDecoder<'a> {
    tokenizer: &'a TextTokenizer,
    skip_special: bool,
    /// The tokens shown last, then those not shown yet: how a token is written may depend on the one
    /// before it.
    window: Vec<u32>,
    /// How many tokens of the window have been shown.
    shown: usize,
}

impl<'a> IncrementalDecoder<'a> {
    /// - skip_special: leave out tokens such as `<|im_end|>`
    pub fn new(tokenizer: &'a TextTokenizer, skip_special: bool) -> Self {
        Self {
            tokenizer,
            skip_special,
            window: Vec::new(),
            shown: 0,
        }
    }

    /// The text that the next token completes; empty where it ends within a character.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub fn push(&mut self, id: u32) -> Result<String, DataError> {
        self.window.push(id);
        let (text, is_whole) = self.unseen()?;
        if !is_whole {
            return Ok(String::new());
        }
        self.window.drain(..self.shown);
        self.shown = self.window.len();
        Ok(text)
    }

    /// What was held back, with U+FFFD for characters that were never completed.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub fn finish(self) -> Result<String, DataError> {
        Ok(self.unseen()?.0)
    }

    /// The text of the tokens not shown, and whether it ends with a whole character.
    fn unseen(&self) -> Result<(String, bool), DataError> {
        let decode = |ids: &[u32]| self.tokenizer.decode(ids, self.skip_special);
        let before = decode(&self.window[..self.shown])?;
        let all = decode(&self.window)?;
        let is_whole = !all.ends_with('\u{fffd}');
        let text = match all.strip_prefix(&before) {
            Some(text) => text.to_owned(),
            // Bytes that make no character together also undo the character before them.
            None => decode(&self.window[self.shown..])?,
        };
        Ok((text, is_whole))
    }
}

#[cfg(test)]
#[path = "incremental_decoder_tests.rs"]
mod tests;
