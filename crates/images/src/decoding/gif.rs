//! GIF through gif: the first frame on its canvas.

use std::io::Read;

use ::gif::{ColorOutput, DecodeOptions, Decoder, DecodingError, MemoryLimit};

use super::{malformed, palette_color};
use crate::error::ImageError;
use crate::header::ImageHeader;
use crate::orientation::Orientation;
use crate::rgb_image::{RgbImage, checked_area};

/// A file up to its first frame.
struct FirstFrame<R: Read> {
    decoder: Decoder<R>,
    /// Where the frame begins: left and top.
    place: [usize; 2],
    columns: usize,
    /// Of its pixels, the one that shows the canvas, or 0.
    background: u8,
    /// Of the canvas.
    width: usize,
    height: usize,
}

/// The first frame on its canvas.
///
/// As in Pillow, the canvas grows where the frame does not fit, and what the frame leaves free has the
/// transparent index, or index 0.
pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage, ImageError> {
    let FirstFrame {
        mut decoder,
        place: [left, top],
        columns,
        background,
        width,
        height,
    } = FirstFrame::of(bytes)?;
    let mut indices = vec![0; decoder.buffer_size()];
    decoder.read_into_buffer(&mut indices).map_err(failure)?;

    let palette = decoder.palette().unwrap_or_default();
    let mut pixels = palette_color(palette, background).repeat(width * height);
    for (y, line) in indices.chunks_exact(columns.max(1)).enumerate() {
        let target = &mut pixels[3 * (width * (top + y) + left)..][..3 * columns];
        for (pixel, index) in target.as_chunks_mut::<3>().0.iter_mut().zip(line) {
            *pixel = palette_color(palette, *index);
        }
    }
    Ok(RgbImage::new(width, height, pixels))
}

/// The size of the canvas; GIF has no EXIF.
pub(super) fn header(file: impl Read) -> Result<ImageHeader, ImageError> {
    let FirstFrame { width, height, .. } = FirstFrame::of(file)?;
    Ok(ImageHeader {
        width,
        height,
        orientation: Orientation::UPRIGHT,
    })
}

impl<R: Read> FirstFrame<R> {
    fn of(file: R) -> Result<Self, ImageError> {
        let mut options = DecodeOptions::new();
        options.set_color_output(ColorOutput::Indexed);
        // The size is checked before anything is read into memory.
        options.set_memory_limit(MemoryLimit::Unlimited);
        let mut decoder = options.read_info(file).map_err(failure)?;
        let canvas = (decoder.width(), decoder.height());
        let frame = decoder
            .next_frame_info()
            .map_err(failure)?
            .ok_or_else(|| malformed("GIF", "it has no frame"))?;
        let [left, top, columns, lines] =
            [frame.left, frame.top, frame.width, frame.height].map(usize::from);
        let background = frame.transparent.unwrap_or(0);
        let width = usize::from(canvas.0).max(left + columns);
        let height = usize::from(canvas.1).max(top + lines);
        checked_area(width, height)?;
        Ok(Self {
            decoder,
            place: [left, top],
            columns,
            background,
            width,
            height,
        })
    }
}

fn failure(source: DecodingError) -> ImageError {
    match source {
        DecodingError::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            ImageError::Truncated { format: "GIF" }
        }
        source => malformed("GIF", source),
    }
}
