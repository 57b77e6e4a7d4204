//! What a file says of its image before its pixels: the size and how the camera was held.

use std::io::{Read, Seek};

use crate::decoding;
use crate::error::ImageError;
use crate::orientation::Orientation;
use crate::rgb_image::RgbImage;

/// The size and the orientation of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageHeader {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) orientation: Orientation,
}

impl ImageHeader {
    /// Reads the header of a JPEG, PNG, WebP, GIF or BMP file. Pixels are skipped, so that damage in them
    /// is not noticed.
    ///
    /// # Errors
    /// When the file is of none of these formats, ends before its pixels, or has no or too many of them.
    pub fn read(file: impl Read + Seek) -> Result<Self, ImageError> {
        decoding::header(file)
    }

    /// The size of the upright image: height and width.
    pub fn size(&self) -> [usize; 2] {
        match self.orientation.swaps_sides() {
            true => [self.width, self.height],
            false => [self.height, self.width],
        }
    }

    /// How the camera was held.
    pub fn orientation(&self) -> Orientation {
        self.orientation
    }
}

/// Decodes an image and turns it upright, if EXIF says how the camera was held: as
/// `ImageOps.exif_transpose(Image.open(…)).convert("RGB")` of Pillow.
///
/// # Errors
/// As [`decode`](crate::decode).
pub fn decode_upright(bytes: &[u8]) -> Result<RgbImage, ImageError> {
    let header = ImageHeader::read(std::io::Cursor::new(bytes))?;
    Ok(header.orientation.upright(decoding::decode(bytes)?))
}
