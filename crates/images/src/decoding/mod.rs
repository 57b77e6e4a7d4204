//! One file per format: bytes → RGB, as Pillow's `Image.open(…).convert("RGB")`.
//!
//! Alpha is dropped, not blended; palettes are looked up; the orientation that a camera noted in EXIF
//! is not applied, because transformers does not apply it either (but
//! [`decode_upright`](crate::decode_upright) does, as diffusers' scripts). Of an animation the first
//! frame counts.

mod bmp;
mod gif;
mod jpeg;
mod png;
mod source;
mod webp;

use std::io::{Read, Seek, SeekFrom};

use self::source::{Source, failure};
use crate::error::ImageError;
use crate::header::ImageHeader;
use crate::rgb_image::RgbImage;

/// As many bytes as tell the formats apart.
const SIGNATURE: usize = 12;

#[derive(Clone, Copy)]
enum Format {
    Jpeg,
    Png,
    WebP,
    Gif,
    Bmp,
}

impl Format {
    /// The format that the first bytes of a file say.
    fn of(bytes: &[u8]) -> Result<Self, ImageError> {
        match bytes {
            [0xff, 0xd8, 0xff, ..] => Ok(Self::Jpeg),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Ok(Self::Png),
            [b'R', b'I', b'F', b'F', size @ ..] if size.get(4..8) == Some(b"WEBP") => {
                Ok(Self::WebP)
            }
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Ok(Self::Gif),
            [b'B', b'M', ..] => Ok(Self::Bmp),
            _ => Err(ImageError::UnknownFormat {
                found: beginning(bytes),
            }),
        }
    }
}

/// Decodes a JPEG, PNG, WebP, GIF or BMP file, whichever its first bytes say it is.
///
/// # Errors
/// When the bytes are of none of these formats, are damaged or cut off, or hold no or too many pixels.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, ImageError> {
    match Format::of(bytes)? {
        Format::Jpeg => jpeg::decode(bytes),
        Format::Png => png::decode(bytes),
        Format::WebP => webp::decode(bytes),
        Format::Gif => gif::decode(bytes),
        Format::Bmp => bmp::decode(bytes),
    }
}

/// The header of a file of any of the formats.
pub(crate) fn header(mut file: impl Read + Seek) -> Result<ImageHeader, ImageError> {
    let mut signature = Vec::with_capacity(SIGNATURE);
    let begun = (&mut file)
        .take(SIGNATURE as u64)
        .read_to_end(&mut signature);
    begun.map_err(|source| failure(source, "image"))?;
    let format = Format::of(&signature)?;
    let rewound = file.seek(SeekFrom::Start(0));
    rewound.map_err(|source| failure(source, "image"))?;
    match format {
        Format::Jpeg => jpeg::header(Source::new(file, "JPEG")),
        Format::Png => png::header(Source::new(file, "PNG")),
        Format::WebP => webp::header(Source::new(file, "WebP")),
        Format::Gif => gif::header(file),
        Format::Bmp => bmp::header(file),
    }
}

fn beginning(bytes: &[u8]) -> String {
    const SHOWN: usize = 8;
    if bytes.is_empty() {
        return "an empty file".to_owned();
    }
    format!(
        "a file that begins with {:02x?}",
        &bytes[..bytes.len().min(SHOWN)]
    )
}

fn malformed(
    format: &'static str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ImageError {
    let source = source.into();
    // Some decoders end their messages with a line break.
    let text = source.to_string();
    let trimmed = text.trim_end();
    ImageError::Malformed {
        format,
        source: match trimmed.len() == text.len() {
            true => source,
            false => trimmed.into(),
        },
    }
}

/// The colour of an index; past the end of a palette (`[colours, 3]`) Pillow's are greys.
fn palette_color(palette: &[u8], index: u8) -> [u8; 3] {
    let (colors, _) = palette.as_chunks::<3>();
    colors
        .get(usize::from(index))
        .copied()
        .unwrap_or([index; 3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_another_kind_are_shown() {
        let error = decode(b"<svg xmlns=").unwrap_err().to_string();
        assert!(error.contains("begins with [3c, 73, 76, 67"), "{error}");
        let error = decode(b"").unwrap_err().to_string();
        assert!(error.contains("found an empty file"), "{error}");
    }

    #[test]
    fn a_file_that_ends_too_early_is_told_in_one_line() {
        let whole = include_bytes!("../../../../tests/golden/llava/images/image-0.png");
        let error = decode(&whole[..whole.len() / 2]).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string);
        assert!(!source.unwrap_or_default().contains('\n'), "{error:?}");
    }

    #[test]
    fn an_index_past_the_palette_is_a_grey() {
        let palette = [1, 2, 3, 4, 5, 6];
        assert_eq!(palette_color(&palette, 1), [4, 5, 6]);
        assert_eq!(palette_color(&palette, 2), [2, 2, 2]);
    }
}
