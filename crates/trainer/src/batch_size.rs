//! How much a training batch holds.

use std::fmt;
use std::num::NonZeroUsize;

use thiserror::Error;

/// The size of training batches, in examples or in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchSize {
    /// As many examples, the last batch of an epoch fewer.
    Examples(NonZeroUsize),
    /// As many examples as have together no more than this many tokens. Sequences lie one
    /// after the other without padding and do not see each other, so a batch of short texts holds
    /// more of them and needs no more memory. For images, patches count as tokens.
    Tokens(NonZeroUsize),
}

/// Why a configuration does not say the size of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BatchSizeError {
    #[error(
        "both `training.batch_size` and `training.tokens_per_batch` are set; a batch holds a number of examples or of tokens, so leave one out"
    )]
    Two,

    #[error("`training.batch_size` is missing; set it, or set `training.tokens_per_batch` instead")]
    Missing,

    #[error(
        "`training.batching.window` groups examples by length, which batches by `training.tokens_per_batch` do not need, since they have no padding; leave one out"
    )]
    Grouped,
}

impl BatchSizeError {
    /// The key of the configuration that the error is about.
    pub fn key(self) -> &'static str {
        match self {
            Self::Two => "training.tokens_per_batch",
            Self::Missing => "training.batch_size",
            Self::Grouped => "training.batching",
        }
    }
}

impl BatchSize {
    /// What a part of a batch holds that is divided into as many.
    pub(crate) fn divided(self, parts: NonZeroUsize) -> Self {
        let part = |whole: NonZeroUsize| {
            NonZeroUsize::new(whole.get().div_ceil(parts.get())).unwrap_or(NonZeroUsize::MIN)
        };
        match self {
            Self::Examples(examples) => Self::Examples(part(examples)),
            Self::Tokens(tokens) => Self::Tokens(part(tokens)),
        }
    }

    /// The size that a configuration with two optional keys asks for.
    ///
    /// # Errors
    /// When both are set, or neither.
    pub fn from_options(
        examples: Option<NonZeroUsize>,
        tokens: Option<NonZeroUsize>,
    ) -> Result<Self, BatchSizeError> {
        match (examples, tokens) {
            (Some(examples), None) => Ok(Self::Examples(examples)),
            (None, Some(tokens)) => Ok(Self::Tokens(tokens)),
            (Some(_), Some(_)) => Err(BatchSizeError::Two),
            (None, None) => Err(BatchSizeError::Missing),
        }
    }

    /// How many rows (tokens or patches) a batch has at most.
    ///
    /// - longest: the rows of the longest example, which is a batch of its own if it exceeds the
    ///   tokens of a batch
    pub fn most_rows(self, longest: usize) -> usize {
        match self {
            Self::Examples(examples) => examples.get() * longest,
            Self::Tokens(tokens) => tokens.get().max(longest),
        }
    }
}

/// `32`, or `4096 tokens`, as in "batches of …".
impl fmt::Display for BatchSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Examples(examples) => write!(formatter, "{examples}"),
            Self::Tokens(tokens) => write!(formatter, "{tokens} tokens"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_sized_in_examples_or_in_tokens() {
        let number = NonZeroUsize::new;
        let (four, many) = (number(4).unwrap(), number(1000).unwrap());
        let size = BatchSize::from_options;
        assert_eq!(size(Some(four), None), Ok(BatchSize::Examples(four)));
        assert_eq!(size(None, Some(many)), Ok(BatchSize::Tokens(many)));
        assert_eq!(size(Some(four), Some(many)), Err(BatchSizeError::Two));
        assert_eq!(size(None, None), Err(BatchSizeError::Missing));
    }

    #[test]
    fn a_batch_has_as_many_rows_as_its_examples_or_its_tokens_at_most() {
        let number = |number| NonZeroUsize::new(number).unwrap();
        assert_eq!(BatchSize::Examples(number(4)).most_rows(60), 240);
        assert_eq!(BatchSize::Tokens(number(100)).most_rows(60), 100);
        // An example that is longer is a batch of its own.
        assert_eq!(BatchSize::Tokens(number(40)).most_rows(60), 60);
    }
}
