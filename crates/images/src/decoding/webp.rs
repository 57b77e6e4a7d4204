//! WebP through image-webp.

use std::io::Cursor;

use image_webp::{DecodingError, WebPDecoder};

use super::malformed;
use crate::error::ImageError;
use crate::rgb_image::{RgbImage, checked_area};

pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage, ImageError> {
    let failure = |source: DecodingError| match source {
        DecodingError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            ImageError::Truncated { format: "WebP" }
        }
        source => malformed("WebP", source),
    };
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(failure)?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    let area = checked_area(width, height)?;
    let channels = if decoder.has_alpha() { 4 } else { 3 };
    let mut samples = vec![0; channels * area];
    decoder.read_image(&mut samples).map_err(failure)?;
    if decoder.has_alpha() {
        let (pixels, _) = samples.as_chunks::<4>();
        samples = pixels
            .iter()
            .flat_map(|&[red, green, blue, _]| [red, green, blue])
            .collect();
    }
    Ok(RgbImage::new(width, height, samples))
}
