//! The examples of a classifier as it takes them.

use eigenmix_data::{Encoding, EpochAugmentation, ImageDataset};
use eigenmix_models::{Batch, ImageBatch, TokenBatch};

use crate::TrainerError;

/// Texts or images.
pub enum Inputs {
    Texts(Vec<Encoding>),
    Images(ImageDataset),
}

impl Inputs {
    /// How many examples there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Texts(encodings) => encodings.len(),
            Self::Images(images) => images.rows().len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How long each example is, in tokens; an image counts as one.
    pub fn lengths(&self) -> Vec<usize> {
        match self {
            Self::Texts(encodings) => encodings.iter().map(|one| one.ids.len()).collect(),
            Self::Images(images) => vec![1; images.rows().len()],
        }
    }

    /// How many examples were cut to fit.
    pub fn truncated(&self) -> usize {
        match self {
            Self::Texts(encodings) => encodings.iter().filter(|one| one.truncated).count(),
            Self::Images(_) => 0,
        }
    }

    /// Examples as one batch.
    ///
    /// - augmented: how training varies images; `None` for evaluations
    ///
    /// # Errors
    /// If an image can't be read.
    pub fn batch(
        &self,
        examples: &[usize],
        augmented: Option<EpochAugmentation>,
    ) -> Result<Batch, TrainerError> {
        match self {
            Self::Texts(encodings) => {
                let sequences = examples.iter().map(|&example| {
                    let encoding = &encodings[example];
                    (&encoding.ids[..], &encoding.type_ids[..])
                });
                Ok(Batch::Tokens(TokenBatch::from_sequences(sequences)))
            }
            Self::Images(images) => {
                let pixels = images.load_batch(examples, augmented)?;
                let [height, _] = images.preprocessor().size();
                let shape = [examples.len(), CHANNELS, height];
                Ok(Batch::Images(ImageBatch::new(pixels, shape)))
            }
        }
    }
}

/// Preprocessing makes red, green and blue of every image.
pub(crate) const CHANNELS: usize = 3;
