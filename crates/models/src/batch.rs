//! What goes into a network.

use crate::{ImageBatch, TokenBatch};

/// The inputs of a batch: those that the model takes are there, others are not.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// One text for each example.
    pub texts: Option<TokenBatch>,
    /// Images; without texts, one for each example.
    pub images: Option<ImageBatch>,
}

impl From<TokenBatch> for Batch {
    fn from(texts: TokenBatch) -> Self {
        Self {
            texts: Some(texts),
            ..Self::default()
        }
    }
}

impl From<ImageBatch> for Batch {
    fn from(images: ImageBatch) -> Self {
        Self {
            images: Some(images),
            ..Self::default()
        }
    }
}

impl Batch {
    /// How many examples there are.
    pub fn examples(&self) -> usize {
        match (&self.texts, &self.images) {
            (Some(texts), _) => texts.sequences(),
            (None, Some(images)) => images.images(),
            (None, None) => 0,
        }
    }

    /// How many tokens there are; an image without a text counts as one.
    pub fn tokens(&self) -> usize {
        match &self.texts {
            Some(texts) => texts.tokens(),
            None => self.examples(),
        }
    }
}
