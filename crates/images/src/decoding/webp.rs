//! WebP through image-webp.

use std::io::{Cursor, Read, Seek};

use image_webp::{DecodingError, WebPDecoder};

use super::malformed;
use super::source::Source;
use crate::error::ImageError;
use crate::header::ImageHeader;
use crate::orientation::Orientation;
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

/// What the chunks say: the first is the canvas, or in a simple file the image itself. EXIF comes after
/// the pixels.
pub(super) fn header(mut file: Source<impl Read + Seek>) -> Result<ImageHeader, ImageError> {
    let _riff: [u8; 4] = file.array()?;
    // The length counts the word WEBP.
    let mut left = u64::from(u32::from_le_bytes(file.array()?)).saturating_sub(4);
    let _webp: [u8; 4] = file.array()?;
    let (kind, length) = chunk(&mut file)?;
    let beginning: [u8; 10] = match &kind {
        b"VP8L" => {
            let mut bytes = [0; 10];
            bytes[..5].copy_from_slice(&file.array::<5>()?);
            bytes
        }
        _ => file.array()?,
    };
    let [width, height] = match (&kind, beginning) {
        (b"VP8X", [_, _, _, _, sides @ ..]) => {
            let side = |bytes: [u8; 3]| {
                let [low, middle, high] = bytes.map(usize::from);
                1 + (low | middle << 8 | high << 16)
            };
            let [a, b, c, d, e, f] = sides;
            [side([a, b, c]), side([d, e, f])]
        }
        (b"VP8 ", [_, _, _, 0x9d, 0x01, 0x2a, sides @ ..]) => {
            // Above the 14 bits of a side is a scale, which decoders do not heed.
            let [a, b, c, d] = sides;
            [[a, b], [c, d]].map(|side| usize::from(u16::from_le_bytes(side) & 0x3fff))
        }
        (b"VP8L", [0x2f, a, b, c, d, ..]) => {
            let sides = u32::from_le_bytes([a, b, c, d]);
            [sides, sides >> 14].map(|side| 1 + (side & 0x3fff) as usize)
        }
        _ => return Err(malformed("WebP", "it does not say its size")),
    };
    checked_area(width, height)?;
    let mut orientation = Orientation::UPRIGHT;
    if kind == *b"VP8X" {
        file.skip(padded(length).saturating_sub(10))?;
        left = left.saturating_sub(8 + u64::from(padded(length)));
        while left >= 8 {
            let (kind, length) = chunk(&mut file)?;
            if kind == *b"EXIF" {
                orientation = Orientation::of_exif(&file.bytes(length as usize)?);
                break;
            }
            file.skip(padded(length))?;
            left = left.saturating_sub(8 + u64::from(padded(length)));
        }
    }
    Ok(ImageHeader {
        width,
        height,
        orientation,
    })
}

/// The kind of the next chunk and the length of its content.
fn chunk(file: &mut Source<impl Read + Seek>) -> Result<([u8; 4], u32), ImageError> {
    let kind = file.array()?;
    Ok((kind, u32::from_le_bytes(file.array()?)))
}

/// Chunks begin at even places.
fn padded(length: u32) -> u32 {
    length.saturating_add(length % 2)
}
