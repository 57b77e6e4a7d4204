//! GIF through gif: the first frame on its canvas.

use ::gif::{ColorOutput, DecodeOptions, DecodingError, MemoryLimit};

use super::{malformed, palette_color};
use crate::error::ImageError;
use crate::rgb_image::{RgbImage, checked_area};

/// The first frame on its canvas.
///
/// As in Pillow, the canvas grows where the frame does not fit, and what the frame leaves free has the
/// transparent index, or index 0.
pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage, ImageError> {
    let failure = |source: DecodingError| match source {
        DecodingError::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            ImageError::Truncated { format: "GIF" }
        }
        source => malformed("GIF", source),
    };
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    // The size is checked before anything is read into memory.
    options.set_memory_limit(MemoryLimit::Unlimited);
    let mut decoder = options.read_info(bytes).map_err(failure)?;
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
    let area = checked_area(width, height)?;
    let mut indices = vec![0; decoder.buffer_size()];
    decoder.read_into_buffer(&mut indices).map_err(failure)?;

    let palette = decoder.palette().unwrap_or_default();
    let mut pixels = palette_color(palette, background).repeat(area);
    for (y, line) in indices.chunks_exact(columns.max(1)).enumerate() {
        let target = &mut pixels[3 * (width * (top + y) + left)..][..3 * columns];
        for (pixel, index) in target.as_chunks_mut::<3>().0.iter_mut().zip(line) {
            *pixel = palette_color(palette, *index);
        }
    }
    Ok(RgbImage::new(width, height, pixels))
}
