//! BMP, read as Pillow reads it.
//!
//! Not through zune-bmp, the sibling of the decoders of PNG and JPEG: of our ten reference files,
//! version 0.5.2 reads three otherwise than Pillow (1 bit a pixel, and 16 bits with either usual mask).
//! Lines of 1 and 4 bits whose width does not fill a byte are shifted, those of 16 bits are shifted where
//! the first is the lowest, colours of 5 bits are rounded up where Pillow rounds down, and an index past
//! the palette is black in place of grey. And it does not notice the end of a file: 3,360 of the 4,654
//! ways to cut off one of the ten gave an image, filled up with black.

use std::io::Read;

use super::palette_color;
use super::source::failure;
use crate::error::ImageError;
use crate::header::ImageHeader;
use crate::orientation::Orientation;
use crate::rgb_image::{RgbImage, checked_area};

const RAW: u32 = 0;
const RUN_LENGTHS_8: u32 = 1;
const RUN_LENGTHS_4: u32 = 2;
const BIT_FIELDS: u32 = 3;

/// The part of the header before the one that names its own length.
const FILE_HEADER: usize = 14;
/// The length of the information header of OS/2, whose sizes have 16 bits.
const CORE_HEADER: usize = 12;

pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage, ImageError> {
    let file = Bytes(bytes);
    let header = Header::read(file)?;
    let samples = bytes
        .get(header.offset..)
        .ok_or(ImageError::Truncated { format: "BMP" })?;
    let lines = match header.compression {
        RUN_LENGTHS_8 | RUN_LENGTHS_4 => header.run_lengths(samples, &header.palette(file)?)?,
        _ => header.lines(samples, file)?,
    };
    let mut pixels = lines;
    if !header.top_down {
        let width = 3 * header.width;
        pixels = pixels.rchunks_exact(width).flatten().copied().collect();
    }
    Ok(RgbImage::new(header.width, header.height, pixels))
}

/// The size; BMP has no EXIF.
pub(super) fn header(file: impl Read) -> Result<ImageHeader, ImageError> {
    let mut bytes = Vec::new();
    // Nothing of a header is read that stands behind its first 40 bytes.
    let begun = file.take(FILE_HEADER as u64 + 40).read_to_end(&mut bytes);
    begun.map_err(|source| failure(source, "BMP"))?;
    let Header { width, height, .. } = Header::read(Bytes(&bytes))?;
    Ok(ImageHeader {
        width,
        height,
        orientation: Orientation::UPRIGHT,
    })
}

/// Values of a file, little-endian.
#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn range(self, start: usize, length: usize) -> Result<&'a [u8], ImageError> {
        self.0
            .get(start..)
            .and_then(|rest| rest.get(..length))
            .ok_or(ImageError::Truncated { format: "BMP" })
    }

    fn u16(self, start: usize) -> Result<u16, ImageError> {
        let bytes = self.range(start, 2)?;
        Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    fn u32(self, start: usize) -> Result<u32, ImageError> {
        let bytes = self.range(start, 4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }
}

struct Header {
    /// Of the information header.
    length: usize,
    width: usize,
    height: usize,
    top_down: bool,
    bits: usize,
    compression: u32,
    colors: usize,
    /// The offset of the pixels.
    offset: usize,
}

impl Header {
    fn read(file: Bytes) -> Result<Self, ImageError> {
        let length = file.u32(FILE_HEADER)? as usize;
        let at = |offset: usize| FILE_HEADER + offset;
        let mut header = match length {
            CORE_HEADER => Self {
                width: usize::from(file.u16(at(4))?),
                height: usize::from(file.u16(at(6))?),
                top_down: false,
                bits: usize::from(file.u16(at(10))?),
                compression: RAW,
                colors: 0,
                length,
                offset: file.u32(10)? as usize,
            },
            40.. => {
                let height = file.u32(at(8))?.cast_signed();
                Self {
                    width: file.u32(at(4))? as usize,
                    height: height.unsigned_abs() as usize,
                    top_down: height < 0,
                    bits: usize::from(file.u16(at(14))?),
                    compression: file.u32(at(16))?,
                    colors: file.u32(at(32))? as usize,
                    length,
                    offset: file.u32(10)? as usize,
                }
            }
            _ => return Err(unsupported("a header of 12 or at least 40 bytes", length)),
        };
        checked_area(header.width, header.height)?;
        let runs_fit = match header.compression {
            RAW | BIT_FIELDS => matches!(header.bits, 1 | 4 | 8 | 16 | 24 | 32),
            RUN_LENGTHS_8 => header.bits == 8,
            RUN_LENGTHS_4 => header.bits == 4,
            other => return Err(unsupported("no compression or run lengths", other)),
        };
        if !runs_fit {
            return Err(unsupported("1, 4, 8, 16, 24 or 32 bits", header.bits));
        }
        if header.bits <= 8 && !(1..=256).contains(&header.colors) {
            header.colors = 1 << header.bits;
        }
        Ok(header)
    }

    /// The colours of the indices: `[colours, 3]`.
    fn palette(&self, file: Bytes) -> Result<Vec<u8>, ImageError> {
        let entry = if self.length == CORE_HEADER { 3 } else { 4 };
        let table = file.range(FILE_HEADER + self.length, entry * self.colors)?;
        Ok(table
            .chunks_exact(entry)
            .flat_map(|color| [color[2], color[1], color[0]])
            .collect())
    }

    /// The lines of an uncompressed file, in its order.
    fn lines(&self, samples: &[u8], file: Bytes) -> Result<Vec<u8>, ImageError> {
        // Each line is filled up to 32 bits.
        let stride = (self.width * self.bits).div_ceil(32) * 4;
        let length = stride
            .checked_mul(self.height)
            .ok_or(ImageError::Truncated { format: "BMP" })?;
        let samples = samples
            .get(..length)
            .ok_or(ImageError::Truncated { format: "BMP" })?;
        let mut pixels = Vec::with_capacity(3 * self.width * self.height);
        if self.bits <= 8 {
            let palette = self.palette(file)?;
            let mask = u8::MAX >> (8 - self.bits);
            for line in samples.chunks_exact(stride) {
                pixels.extend((0..self.width).flat_map(|x| {
                    let position = self.bits * x;
                    let shift = 8 - self.bits - position % 8;
                    palette_color(&palette, (line[position / 8] >> shift) & mask)
                }));
            }
            return Ok(pixels);
        }
        let masks = self.masks(file)?;
        for line in samples.chunks_exact(stride) {
            for pixel in line.chunks_exact(self.bits / 8).take(self.width) {
                let value = pixel
                    .iter()
                    .rfold(0, |value: u32, byte| (value << 8) | u32::from(*byte));
                pixels.extend(masks.map(|mask| channel(value, mask)));
            }
        }
        Ok(pixels)
    }

    /// Which bits of a pixel are red, green and blue.
    fn masks(&self, file: Bytes) -> Result<[u32; 3], ImageError> {
        let usual = if self.bits == 16 {
            [0x7c00, 0x03e0, 0x001f]
        } else {
            [0x00ff_0000, 0x0000_ff00, 0x0000_00ff]
        };
        if self.compression != BIT_FIELDS {
            return Ok(usual);
        }
        let start = FILE_HEADER + 40;
        let masks = [file.u32(start)?, file.u32(start + 4)?, file.u32(start + 8)?];
        let is_run = |mask: u32| {
            let run = mask >> mask.trailing_zeros().min(31);
            run != 0 && run & (run + 1) == 0 && run <= 0xff
        };
        match masks {
            [0, 0, 0] => Ok(usual),
            masks if masks.into_iter().all(is_run) => Ok(masks),
            _ => Err(unsupported(
                "up to 8 adjacent bits a colour",
                format!("{masks:x?}"),
            )),
        }
    }

    /// The lines of a file with run lengths, in its order; what no run reaches has index 0.
    fn run_lengths(&self, samples: &[u8], palette: &[u8]) -> Result<Vec<u8>, ImageError> {
        let mut indices = vec![0; self.width * self.height];
        let (mut x, mut y) = (0, 0);
        let mut rest = samples;
        let truncated = || ImageError::Truncated { format: "BMP" };
        while y < self.height {
            let ([count, value], after) = rest.split_first_chunk().ok_or_else(truncated)?;
            rest = after;
            let run = match (*count, *value) {
                (0, 0) => {
                    (x, y) = (0, y + 1);
                    continue;
                }
                (0, 1) => break,
                (0, 2) => {
                    let ([right, up], after) = rest.split_first_chunk().ok_or_else(truncated)?;
                    rest = after;
                    (x, y) = (x + usize::from(*right), y + usize::from(*up));
                    continue;
                }
                (0, count) => {
                    let count = usize::from(count);
                    let length = (count * self.bits).div_ceil(8);
                    let values = rest.get(..length).ok_or_else(truncated)?;
                    // Filled up to 16 bits.
                    rest = rest
                        .get(length.next_multiple_of(2)..)
                        .ok_or_else(truncated)?;
                    self.unpacked(values.iter().copied(), count)
                }
                (count, value) => self.unpacked(std::iter::repeat(value), usize::from(count)),
            };
            let line = &mut indices[self.width * y..][..self.width];
            for (target, index) in line.iter_mut().skip(x).zip(&run) {
                *target = *index;
            }
            x += run.len();
        }
        Ok(indices
            .into_iter()
            .flat_map(|index| palette_color(palette, index))
            .collect())
    }

    /// The first `count` indices in bytes that hold one each, or two with the upper half first.
    fn unpacked(&self, bytes: impl Iterator<Item = u8>, count: usize) -> Vec<u8> {
        if self.bits == 8 {
            return bytes.take(count).collect();
        }
        bytes
            .flat_map(|byte| [byte >> 4, byte & 0x0f])
            .take(count)
            .collect()
    }
}

/// A colour of a pixel, stretched to 0 … 255; Pillow's rounding is down.
fn channel(value: u32, mask: u32) -> u8 {
    let largest = mask >> mask.trailing_zeros();
    let value = (value & mask) >> mask.trailing_zeros();
    (value * 255 / largest) as u8
}

fn unsupported(expected: &'static str, found: impl std::fmt::Display) -> ImageError {
    ImageError::Unsupported {
        format: "BMP",
        expected,
        found: found.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 3 × 2 pixels of 24 bits without any header field that matters beyond.
    fn file(height: i32, bits: u16, compression: u32) -> Vec<u8> {
        let mut file = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0".to_vec();
        for number in [40, 3, height.cast_unsigned()] {
            file.extend(number.to_le_bytes());
        }
        file.extend(1_u16.to_le_bytes());
        file.extend(bits.to_le_bytes());
        file.extend(compression.to_le_bytes());
        file.extend([0; 20]);
        for line in [10_u8, 20] {
            file.extend([line, 1, 2, line, 4, 5, line, 7, 8, 0, 0, 0]);
        }
        file
    }

    #[test]
    fn the_first_line_is_the_lowest_unless_the_height_is_negative() {
        let upward = decode(&file(2, 24, 0)).unwrap();
        assert_eq!(upward.pixels()[..6], [2, 1, 20, 5, 4, 20]);
        let downward = decode(&file(-2, 24, 0)).unwrap();
        assert_eq!(downward.pixels()[..6], [2, 1, 10, 5, 4, 10]);
    }

    #[test]
    fn what_no_reader_knows_is_named() {
        let error = decode(&file(2, 7, 0)).unwrap_err().to_string();
        assert!(error.contains("has 7, expected 1, 4, 8"), "{error}");
        let error = decode(&file(2, 24, 4)).unwrap_err().to_string();
        assert!(error.contains("expected no compression"), "{error}");
    }

    #[test]
    fn every_cut_is_an_error_and_no_panic() {
        let whole = file(2, 24, 0);
        for length in 2..whole.len() {
            let error = decode(&whole[..length]).unwrap_err();
            assert!(matches!(error, ImageError::Truncated { .. }), "{length}");
        }
    }
}
