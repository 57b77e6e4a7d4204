//! Which tokens the loss counts: a model learns the answers and not the questions.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which tokens are targets of the loss: `data.train_on` in a training file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TrainOn {
    /// Completions, the assistant's turns and plain texts.
    #[default]
    Completion,
    /// As `completion`, but each of the assistant's turns is an example of its own that ends with it:
    /// for chat templates that write a turn otherwise once others follow (those that leave thoughts
    /// out of the history), at the price of more tokens.
    EachTurn,
    /// Everything, prompts and the turns of others too, but for messages of `weight` 0 or with
    /// `train` false.
    All,
}

impl TrainOn {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether each token reaches into one of the spans.
///
/// A token counts with the span that it straddles the beginning or the end of: it can only be
/// predicted whole.
///
/// - offsets: `[tokens]`, the bytes of the text that a token stands for
/// - spans: bytes of the text, in ascending order and apart
pub(crate) fn in_spans(offsets: &[Range<usize>], spans: &[Range<usize>]) -> Vec<bool> {
    let reaches_into = |token: &Range<usize>, span: &Range<usize>| {
        // A token of no bytes (a mark that the tokenizer adds to a word) is where it stands.
        let end = token.end.max(token.start + 1);
        token.start < span.end && end > span.start
    };
    offsets
        .iter()
        .map(|token| spans.iter().any(|span| reaches_into(token, span)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_count_with_the_span_they_reach_into() {
        let offsets = [0..3, 3..5, 5..8, 8..8, 8..9, 9..12];
        let span = 4..8;
        let marked = in_spans(&offsets, &[span]);
        assert_eq!(marked, [false, true, true, false, false, false]);
        let marked = in_spans(&offsets, &[1..2, 8..10]);
        assert_eq!(marked, [true, false, false, true, true, true]);
    }

    #[test]
    fn an_empty_span_marks_nothing() {
        let nothing = 3..3;
        assert_eq!(in_spans(&[0..3, 3..5], &[nothing]), [false, false]);
    }
}
