//! The images that stand in the texts of a language model.

use eigenmix_data::{ImageDataset, ImageRow, ImageText, LanguageRow};
use eigenmix_images::ImagePreprocessor;
use eigenmix_models::ImageBatch;

use crate::TrainerError;

/// Preprocessing converts every image to RGB.
const CHANNELS: usize = 3;

/// The images of the rows of a split, decoded when a batch needs them.
pub(super) struct ExampleImages {
    dataset: ImageDataset,
    /// The index of the first image of each row.
    first: Vec<usize>,
    text: ImageText,
}

impl ExampleImages {
    pub fn new(rows: &[LanguageRow], preprocessor: ImagePreprocessor, text: ImageText) -> Self {
        let images = images_of(rows);
        let mut next = 0;
        let first = rows.iter().map(|row| {
            let first = next;
            next += row.images.len();
            first
        });
        Self {
            first: first.collect(),
            dataset: ImageDataset::new(images, preprocessor),
            text,
        }
    }

    /// How many images the tokens of a text have.
    pub fn count(&self, ids: &[u32]) -> usize {
        self.text.images(ids)
    }

    /// The images of texts, one text after the other; `None` where there are none.
    ///
    /// - texts: each with the row that it is of, whose first images it has
    ///
    /// # Errors
    /// If an image can't be read.
    pub fn batch<'t>(
        &self,
        texts: impl IntoIterator<Item = (usize, &'t [u32])>,
    ) -> Result<Option<ImageBatch>, TrainerError> {
        let images: Vec<usize> = texts
            .into_iter()
            .flat_map(|(row, ids)| (self.first[row]..).take(self.count(ids)))
            .collect();
        if images.is_empty() {
            return Ok(None);
        }
        let pixels = self.dataset.load_batch(&images, None)?;
        let [height, _] = self.dataset.preprocessor().size();
        let shape = [images.len(), CHANNELS, height];
        Ok(Some(ImageBatch::new(pixels, shape)))
    }
}

/// The images of rows, each with the place of its row.
pub(super) fn images_of(rows: &[LanguageRow]) -> Vec<ImageRow> {
    let images = rows.iter().flat_map(|row| {
        row.images.iter().map(|source| ImageRow {
            source: source.clone(),
            label: None,
            place: row.place.clone(),
        })
    });
    images.collect()
}
