//! An image with its label before it is decoded: rows stay small until a batch needs their pixels.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{BufReader, Cursor};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use eigenmix_images::{ImageHeader, RgbImage};

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
        eigenmix_images::decode(&self.bytes()?).map_err(|source| self.bad_image(source))
    }

    /// The image turned as the camera was held, if EXIF says how.
    ///
    /// # Errors
    /// As [`ImageRow::decode`].
    pub fn decode_upright(&self) -> Result<RgbImage, DataError> {
        eigenmix_images::decode_upright(&self.bytes()?).map_err(|source| self.bad_image(source))
    }

    /// The image as it is encoded.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>, DataError> {
        match &self.source {
            ImageSource::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
            ImageSource::File(path) => match fs::read(path) {
                Ok(content) => Ok(Cow::Owned(content)),
                Err(source) => Err(self.missing(path, source)),
            },
        }
    }

    /// What the image's header says; its pixels are not read.
    ///
    /// # Errors
    /// When the file cannot be read or what it begins with is not an image.
    pub fn header(&self) -> Result<ImageHeader, DataError> {
        let header = match &self.source {
            ImageSource::Bytes(bytes) => ImageHeader::read(Cursor::new(bytes)),
            ImageSource::File(path) => {
                let file = File::open(path).map_err(|source| self.missing(path, source))?;
                ImageHeader::read(BufReader::new(file))
            }
        };
        header.map_err(|source| self.bad_image(source))
    }

    fn missing(&self, path: &Path, source: std::io::Error) -> DataError {
        DataError::MissingImage {
            place: self.place.clone(),
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn bad_image(&self, source: eigenmix_images::ImageError) -> DataError {
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
