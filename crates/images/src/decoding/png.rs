//! PNG through zune-png, with checksums verified and 16-bit samples narrowed as Pillow does it.

use std::io::{Read, Seek};

use zune_png::PngDecoder;
use zune_png::zune_core::bytestream::ZCursor;
use zune_png::zune_core::options::DecoderOptions;
use zune_png::zune_core::result::DecodingResult;

use super::malformed;
use super::source::Source;
use crate::error::ImageError;
use crate::header::ImageHeader;
use crate::orientation::Orientation;
use crate::rgb_image::{RgbImage, checked_area};

/// What follows the content of a chunk has as many bytes.
const CHECKSUM: u32 = 4;

pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage, ImageError> {
    const LONGEST_SIDE: usize = 1 << 20;
    let options = DecoderOptions::default()
        .set_max_width(LONGEST_SIDE)
        .set_max_height(LONGEST_SIDE)
        .png_set_confirm_crc(true)
        .inflate_set_confirm_adler(true)
        .png_set_decode_animated(false);
    let mut decoder = PngDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder
        .decode_headers()
        .map_err(|source| malformed("PNG", format!("{source:?}")))?;
    let (width, height) = decoder
        .dimensions()
        .ok_or_else(|| malformed("PNG", "it does not say its size"))?;
    let area = checked_area(width, height)?;
    let samples = decoder
        .decode()
        .map_err(|source| malformed("PNG", format!("{source:?}")))?;
    // The decoder has looked up palettes and spread fewer bits than 8 over the whole range.
    let pixels = match samples {
        DecodingResult::U8(samples) => rgb(&samples, area, |value| value, |value| value),
        DecodingResult::U16(samples) => rgb(&samples, area, upper_byte, cut_off),
        _ => None,
    };
    pixels
        .map(|pixels| RgbImage::new(width, height, pixels))
        .ok_or_else(|| malformed("PNG", "it has fewer pixels than it says"))
}

/// What the chunks say; EXIF may come after the pixels.
pub(super) fn header(mut file: Source<impl Read + Seek>) -> Result<ImageHeader, ImageError> {
    let _signature: [u8; 8] = file.array()?;
    let _length: [u8; 4] = file.array()?;
    if file.array()? != *b"IHDR" {
        return Err(malformed("PNG", "it does not say its size"));
    }
    let width = u32::from_be_bytes(file.array()?) as usize;
    let height = u32::from_be_bytes(file.array()?) as usize;
    checked_area(width, height)?;
    // Depth, colours, compression, filter, interlacing and a checksum.
    let _rest: [u8; 9] = file.array()?;
    let mut orientation = Orientation::UPRIGHT;
    loop {
        let length = u32::from_be_bytes(file.array()?);
        let kind: [u8; 4] = file.array()?;
        match &kind {
            b"IEND" => break,
            b"eXIf" => {
                orientation = Orientation::of_exif(&file.bytes(length as usize)?);
                file.skip(CHECKSUM)?;
            }
            _ => {
                file.skip(length)?;
                file.skip(CHECKSUM)?;
            }
        }
    }
    Ok(ImageHeader {
        width,
        height,
        orientation,
    })
}

/// Three bytes a pixel of samples of which every pixel has as many.
///
/// - narrow, narrow_grey: make a byte of a sample, and of one that is a pixel by itself
fn rgb<T: Copy>(
    samples: &[T],
    area: usize,
    narrow: impl Fn(T) -> u8,
    narrow_grey: impl Fn(T) -> u8,
) -> Option<Vec<u8>> {
    let channels = samples.len() / area;
    let pixels = samples.chunks_exact(channels.max(1)).take(area);
    let is_whole = pixels.len() == area;
    let pixels = match channels {
        1 => pixels
            .flat_map(|pixel| [narrow_grey(pixel[0]); 3])
            .collect(),
        2 => pixels.flat_map(|pixel| [narrow(pixel[0]); 3]).collect(),
        3 | 4 => pixels
            .flat_map(|pixel| [narrow(pixel[0]), narrow(pixel[1]), narrow(pixel[2])])
            .collect(),
        _ => return None,
    };
    is_whole.then_some(pixels)
}

fn upper_byte(value: u16) -> u8 {
    value.to_be_bytes()[0]
}

/// Greys of 16 bits are not scaled but cut off: Pillow's convert("RGB") does so, and a model that was
/// trained through it has seen such images almost white.
fn cut_off(value: u16) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}
