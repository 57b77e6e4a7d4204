//! Images as batches for a model, decoded and augmented when a batch is made.

use eigenmix_images::{Augmentation, Draw, ImagePreprocessor};
use rayon::prelude::*;

use super::image_row::ImageRow;
use crate::error::DataError;

/// Images that are decoded when they are wanted: in memory are their places and, from parquet
/// files, their encoded bytes.
#[derive(Clone, Debug)]
pub struct ImageDataset {
    rows: Vec<ImageRow>,
    preprocessor: ImagePreprocessor,
}

/// How the training images are augmented in an epoch.
#[derive(Clone, Copy, Debug)]
pub struct EpochAugmentation {
    pub augmentation: Augmentation,
    pub seed: u64,
    pub epoch: usize,
}

impl ImageDataset {
    pub fn new(rows: Vec<ImageRow>, preprocessor: ImagePreprocessor) -> Self {
        Self { rows, preprocessor }
    }

    pub fn rows(&self) -> &[ImageRow] {
        &self.rows
    }

    pub fn preprocessor(&self) -> &ImagePreprocessor {
        &self.preprocessor
    }

    /// An image as the model takes it: `[3, height, width]`.
    ///
    /// # Errors
    /// When the image cannot be read or decoded; the error names the row.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn load(&self, index: usize) -> Result<Vec<f32>, DataError> {
        let row = &self.rows[index];
        let image = row.decode()?;
        self.preprocessor
            .preprocess(&image)
            .map_err(|source| row.bad_image(source))
    }

    /// An image augmented as in an epoch of training: `[3, height, width]`. The same arguments give
    /// the same values, so a resumed run sees what it would have seen.
    ///
    /// # Errors
    /// As [`ImageDataset::load`].
    ///
    /// # Panics
    /// When there is no such row.
    pub fn load_augmented(
        &self,
        index: usize,
        augmented: EpochAugmentation,
    ) -> Result<Vec<f32>, DataError> {
        let row = &self.rows[index];
        let image = row.decode()?;
        let draw = Draw {
            seed: augmented.seed,
            epoch: augmented.epoch as u64,
            index: index as u64,
        };
        self.preprocessor
            .preprocess_augmented(&image, &augmented.augmentation, draw)
            .map_err(|source| row.bad_image(source))
    }

    /// Images side by side, decoded in parallel: `[batch, 3, height, width]`.
    ///
    /// - augmented: how training varies the images; `None` for evaluations, which do not
    ///
    /// # Errors
    /// As [`ImageDataset::load`].
    ///
    /// # Panics
    /// When there is no such row.
    pub fn load_batch(
        &self,
        examples: &[usize],
        augmented: Option<EpochAugmentation>,
    ) -> Result<Vec<f32>, DataError> {
        let size = self.preprocessor.values_per_image();
        let mut batch = vec![0.0; examples.len() * size];
        batch
            .par_chunks_exact_mut(size)
            .zip(examples)
            .try_for_each(|(values, &index)| {
                let image = match augmented {
                    Some(augmented) => self.load_augmented(index, augmented),
                    None => self.load(index),
                }?;
                values.copy_from_slice(&image);
                Ok::<_, DataError>(())
            })?;
        Ok(batch)
    }
}

#[cfg(test)]
#[path = "image_dataset_tests.rs"]
mod tests;
