//! Decoded images: 8-bit RGB, cropped and mirrored without a change of values.

use crate::error::ImageError;

/// As many pixels as Pillow opens before it calls an image a decompression bomb.
const MOST_PIXELS: usize = 178_956_970;

/// An image in 8-bit RGB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RgbImage {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl RgbImage {
    /// - pixels: `[height, width, 3]`
    ///
    /// # Panics
    /// When `pixels` has another length than that.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Self {
        assert_eq!(pixels.len(), 3 * width * height, "{width} × {height} RGB");
        Self {
            width,
            height,
            pixels,
        }
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn height(&self) -> usize {
        self.height
    }

    /// - output: `[height, width, 3]`
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The bytes of one line: `[width, 3]`.
    pub(crate) fn line(&self, y: usize) -> &[u8] {
        &self.pixels[3 * self.width * y..][..3 * self.width]
    }

    /// The part from `left`, `top` on, which must lie inside.
    pub(crate) fn crop(&self, left: usize, top: usize, width: usize, height: usize) -> Self {
        let mut pixels = Vec::with_capacity(3 * width * height);
        for y in top..top + height {
            pixels.extend_from_slice(&self.line(y)[3 * left..][..3 * width]);
        }
        Self::new(width, height, pixels)
    }

    /// The image in the middle of a square of one colour; where the margin is odd, there is one line more
    /// behind it.
    pub(crate) fn padded_to_square(&self, colour: [u8; 3]) -> Self {
        let side = self.width.max(self.height);
        let (left, top) = ((side - self.width) / 2, (side - self.height) / 2);
        let mut pixels = colour.repeat(side * side);
        for y in 0..self.height {
            let start = 3 * (side * (top + y) + left);
            pixels[start..start + 3 * self.width].copy_from_slice(self.line(y));
        }
        Self::new(side, side, pixels)
    }

    /// The middle, with black around it where the image is smaller, as transformers'
    /// `center_crop` places it: where the margin is odd, a larger image loses one more at the end,
    /// a smaller one gets one more at the beginning.
    pub(crate) fn center_crop(&self, width: usize, height: usize) -> Self {
        let (from_x, to_x, columns) = centered(self.width, width);
        let (from_y, to_y, lines) = centered(self.height, height);
        let mut pixels = vec![0; 3 * width * height];
        for y in 0..lines {
            let target = 3 * (width * (to_y + y) + to_x);
            let source = &self.line(from_y + y)[3 * from_x..][..3 * columns];
            pixels[target..][..3 * columns].copy_from_slice(source);
        }
        Self::new(width, height, pixels)
    }

    pub(crate) fn mirrored(mut self) -> Self {
        for line in self.pixels.chunks_exact_mut(3 * self.width) {
            let (pixels, _) = line.as_chunks_mut::<3>();
            pixels.reverse();
        }
        self
    }
}

/// Along one axis: where to read, where to write, how much.
fn centered(found: usize, wanted: usize) -> (usize, usize, usize) {
    if found >= wanted {
        ((found - wanted) / 2, 0, wanted)
    } else {
        (0, (wanted - found).div_ceil(2), found)
    }
}

/// The number of pixels of an image that is neither empty nor absurdly large.
pub(crate) fn checked_area(width: usize, height: usize) -> Result<usize, ImageError> {
    width
        .checked_mul(height)
        .filter(|pixels| (1..=MOST_PIXELS).contains(pixels))
        .ok_or(ImageError::Size {
            width,
            height,
            most: MOST_PIXELS,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pixel `(x, y)` is `[x, y, 9]`.
    fn coordinates(width: usize, height: usize) -> RgbImage {
        let pixels = (0..height)
            .flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, 9]))
            .collect();
        RgbImage::new(width, height, pixels)
    }

    #[test]
    fn a_crop_is_the_part_asked_for() {
        let part = coordinates(7, 5).crop(2, 1, 3, 2);
        let expected = [2, 1, 9, 3, 1, 9, 4, 1, 9, 2, 2, 9, 3, 2, 9, 4, 2, 9];
        assert_eq!(part.pixels(), expected);
    }

    #[test]
    fn mirroring_swaps_left_and_right_and_twice_is_nothing() {
        let image = coordinates(5, 2);
        let mirrored = image.clone().mirrored();
        assert_eq!(mirrored.line(1)[..6], [4, 1, 9, 3, 1, 9]);
        assert_eq!(mirrored.mirrored(), image);
    }

    /// By hand from transformers' formula: 4 of 7 starts at ⌊3/2⌋, 5 in 8 starts at ⌈3/2⌉.
    #[test]
    fn odd_margins_go_where_transformers_puts_them() {
        let image = coordinates(7, 5).center_crop(4, 8);
        assert_eq!(image.line(1), [0; 12]);
        assert_eq!(image.line(2)[..6], [1, 0, 9, 2, 0, 9]);
        assert_eq!(image.line(6)[9..], [4, 4, 9]);
        assert_eq!(image.line(7), [0; 12]);
    }

    #[test]
    fn empty_and_absurd_sizes_are_refused() {
        assert_eq!(checked_area(40, 30).unwrap(), 1200);
        for (width, height) in [(0, 3), (3, 0), (65_000, 65_000), (usize::MAX, 2)] {
            let error = checked_area(width, height).unwrap_err().to_string();
            assert!(
                error.contains(&format!("{width} × {height} pixels")),
                "{error}"
            );
        }
    }
}
