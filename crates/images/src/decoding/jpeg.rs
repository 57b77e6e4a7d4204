//! JPEG through zune-jpeg, and a check that the file is whole: the decoder fills what is missing
//! with grey.

use std::io::{Read, Seek};

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::malformed;
use super::source::Source;
use crate::error::ImageError;
use crate::header::ImageHeader;
use crate::orientation::Orientation;
use crate::rgb_image::{RgbImage, checked_area};

const MARKER: u8 = 0xff;
const START_OF_SCAN: u8 = 0xda;
const END_OF_IMAGE: u8 = 0xd9;
/// The segment that EXIF is in.
const APPLICATION_1: u8 = 0xe1;

pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage, ImageError> {
    // The decoder fills what is missing with grey and says nothing.
    if scans(bytes).is_none_or(|scans| !has_end(scans)) {
        return Err(ImageError::Truncated { format: "JPEG" });
    }
    const LONGEST_SIDE: usize = u16::MAX as usize;
    let options = DecoderOptions::default()
        .set_max_width(LONGEST_SIDE)
        .set_max_height(LONGEST_SIDE)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder
        .decode_headers()
        .map_err(|source| malformed("JPEG", source))?;
    let (width, height) = decoder
        .dimensions()
        .ok_or_else(|| malformed("JPEG", "it does not say its size"))?;
    let area = checked_area(width, height)?;
    let pixels = decoder
        .decode()
        .map_err(|source| malformed("JPEG", source))?;
    if pixels.len() != 3 * area {
        return Err(ImageError::Unsupported {
            format: "JPEG",
            expected: "grey, RGB, YCbCr, CMYK or YCCK colours",
            found: format!("{:?} colours", decoder.input_colorspace()),
        });
    }
    Ok(RgbImage::new(width, height, pixels))
}

/// What the segments before the first scan say.
pub(super) fn header(mut file: Source<impl Read + Seek>) -> Result<ImageHeader, ImageError> {
    let _start_of_image: [u8; 2] = file.array()?;
    let mut size = None;
    let mut orientation = None;
    loop {
        while file.byte()? != MARKER {}
        let mut marker = MARKER;
        while marker == MARKER {
            marker = file.byte()?;
        }
        // Those that stand alone have no length.
        if matches!(marker, 0x00 | 0x01 | 0xd0..=0xd8) {
            continue;
        }
        if matches!(marker, START_OF_SCAN | END_OF_IMAGE) {
            break;
        }
        let length = u16::from_be_bytes(file.array()?).saturating_sub(2);
        match marker {
            // A frame, but for the tables of Huffman and arithmetic codes and an extension.
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let [_, high, low, left, right] = file.array()?;
                let sides = [[left, right], [high, low]].map(u16::from_be_bytes);
                size = Some(sides.map(usize::from));
                file.skip(u32::from(length).saturating_sub(5))?;
            }
            APPLICATION_1 => {
                let content = file.bytes(usize::from(length))?;
                if content.starts_with(b"Exif\0\0") && orientation.is_none() {
                    orientation = Some(Orientation::of_exif(&content));
                }
            }
            _ => file.skip(u32::from(length))?,
        }
    }
    let [width, height] = size.ok_or_else(|| malformed("JPEG", "it does not say its size"))?;
    checked_area(width, height)?;
    Ok(ImageHeader {
        width,
        height,
        orientation: orientation.unwrap_or(Orientation::UPRIGHT),
    })
}

/// What follows the header of the first scan, if the file reaches that far.
///
/// Segments are skipped by their lengths, because a thumbnail inside one has markers of its own.
fn scans(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.get(2..)?;
    loop {
        let (marker, after) = rest.split_first_chunk::<2>()?;
        match marker {
            [MARKER, START_OF_SCAN] => return Some(after),
            // Filling between segments, and the few markers that stand alone.
            [MARKER, MARKER] => rest = &rest[1..],
            [MARKER, 0x01 | 0xd0..=0xd8] => rest = after,
            [MARKER, _] => {
                let (length, _) = after.split_first_chunk::<2>()?;
                rest = after.get(usize::from(u16::from_be_bytes(*length)).max(2)..)?;
            }
            _ => rest = &rest[1..],
        }
    }
}

/// Whether the marker that ends an image is there; compressed data cannot contain it.
fn has_end(scans: &[u8]) -> bool {
    scans
        .windows(2)
        .any(|marker| marker == [MARKER, END_OF_IMAGE])
}
