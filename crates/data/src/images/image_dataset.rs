use eigenmix_images::{Augmentation, Draw, ImagePreprocessor};
use rayon::prelude::*;

use super::image_row::ImageRow;
use crate::error::DataError;

/// Pictures that are decoded when they are wanted: in memory are their places and, from parquet
/// files, their encoded bytes.
#[derive(Clone, Debug)]
pub struct ImageDataset {
    rows: Vec<ImageRow>,
    preprocessor: ImagePreprocessor,
}

/// Which showing of the training pictures a batch belongs to, and what changes them.
#[derive(Clone, Copy, Debug)]
pub struct Showing {
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

    /// A picture as the model takes it: `[3, height, width]`.
    ///
    /// # Errors
    /// When the picture cannot be read or decoded; the error names the row.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn load(&self, index: usize) -> Result<Vec<f32>, DataError> {
        let row = &self.rows[index];
        let image = row.decode()?;
        self.preprocessor
            .preprocess(&image)
            .map_err(|source| row.bad_picture(source))
    }

    /// A picture as training shows it in an epoch: `[3, height, width]`. The same arguments give the
    /// same numbers, so a resumed run sees what it would have seen.
    ///
    /// # Errors
    /// As [`ImageDataset::load`].
    ///
    /// # Panics
    /// When there is no such row.
    pub fn load_augmented(&self, index: usize, showing: Showing) -> Result<Vec<f32>, DataError> {
        let row = &self.rows[index];
        let image = row.decode()?;
        let draw = Draw {
            seed: showing.seed,
            epoch: showing.epoch as u64,
            index: index as u64,
        };
        self.preprocessor
            .preprocess_augmented(&image, &showing.augmentation, draw)
            .map_err(|source| row.bad_picture(source))
    }

    /// Pictures side by side, decoded in parallel: `[batch, 3, height, width]`.
    ///
    /// - showing: `None` for evaluations, which change nothing
    ///
    /// # Errors
    /// As [`ImageDataset::load`].
    ///
    /// # Panics
    /// When there is no such row.
    pub fn load_batch(
        &self,
        examples: &[usize],
        showing: Option<Showing>,
    ) -> Result<Vec<f32>, DataError> {
        let size = self.preprocessor.values_per_image();
        let mut batch = vec![0.0; examples.len() * size];
        batch
            .par_chunks_exact_mut(size)
            .zip(examples)
            .try_for_each(|(values, &index)| {
                let image = match showing {
                    Some(showing) => self.load_augmented(index, showing),
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
