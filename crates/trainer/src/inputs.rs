//! Examples as a model takes them.

use models::{Batch, TokenBatch};

use crate::TrainerError;
use crate::data::Encoding;

/// The inputs of a classifier's examples.
pub enum Inputs {
    Texts(Vec<Encoding>),
}

impl Inputs {
    /// How many examples there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Texts(encodings) => encodings.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How long each example is, in tokens; images are all as long.
    pub fn lengths(&self) -> Vec<usize> {
        match self {
            Self::Texts(encodings) => encodings.iter().map(|one| one.ids.len()).collect(),
        }
    }

    /// The examples that were cut to fit.
    pub fn truncated(&self) -> usize {
        match self {
            Self::Texts(encodings) => encodings.iter().filter(|one| one.truncated).count(),
        }
    }

    /// Examples as one batch.
    ///
    /// # Errors
    /// If an image can't be read.
    pub fn batch(&self, examples: &[usize]) -> Result<Batch, TrainerError> {
        match self {
            Self::Texts(encodings) => {
                let sequences = examples.iter().map(|&example| {
                    let encoding = &encodings[example];
                    (&encoding.ids[..], &encoding.type_ids[..])
                });
                Ok(Batch::Tokens(TokenBatch::from_sequences(sequences)))
            }
        }
    }
}
