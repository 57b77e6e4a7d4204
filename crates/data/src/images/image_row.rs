//! An image with its label before it is decoded: rows stay small until a batch needs their pixels.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use eigenmix_images::RgbImage;

use crate::error::DataError;
use crate::labelled::Labelled;
use crate::row::{Place, RawLabel};

/// One image as its data has it, not yet decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageRow {
    pub source: ImageSource,
    /// `None` only where [`LabelPolicy::Optional`](crate::LabelPolicy) allowed it.
    pub label: Option<RawLabel>,
    /// The row that names the image, or the image's own file.
    pub place: Place,
}

/// Where the encoded image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageSource {
    File(PathBuf),
    /// As a parquet file had it: a fraction of what its pixels would take.
    Bytes(Arc<[u8]>),
}

impl ImageRow {
    /// # Errors
    /// When the file cannot be read or what is in it is not an image.
    pub fn decode(&self) -> Result<RgbImage, DataError> {
        let content;
        let bytes = match &self.source {
            ImageSource::Bytes(bytes) => bytes.as_ref(),
            ImageSource::File(path) => {
                content = fs::read(path).map_err(|source| DataError::MissingImage {
                    place: self.place.clone(),
                    path: path.clone(),
                    source,
                })?;
                content.as_slice()
            }
        };
        eigenmix_images::decode(bytes).map_err(|source| self.bad_image(source))
    }

    pub(super) fn bad_image(&self, source: eigenmix_images::ImageError) -> DataError {
        DataError::BadImage {
            place: self.place.clone(),
            source,
        }
    }
}

impl Labelled for ImageRow {
    fn label(&self) -> Option<&RawLabel> {
        self.label.as_ref()
    }

    fn set_label(&mut self, label: Option<RawLabel>) {
        self.label = label;
    }

    fn place(&self) -> &Place {
        &self.place
    }
}
