//! Resizing with Pillow's filters, fixed-point arithmetic and order of passes: other libraries
//! round otherwise.

use crate::rgb_image::RgbImage;

/// Bits after the point of a weight: a byte times a weight, summed, stays within 32 bits.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// Pillow writes these two as 32-bit constants.
const HAMMING: [f64; 2] = [0.54_f32 as f64, 0.46_f32 as f64];

/// How a resized image gets its values, numbered as Pillow numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    Nearest,
    Lanczos,
    Bilinear,
    Bicubic,
    Box,
    Hamming,
}

impl Filter {
    /// The filter that Pillow's `Resampling` and transformers' `resample` call by this number.
    pub fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::Nearest,
            1 => Self::Lanczos,
            2 => Self::Bilinear,
            3 => Self::Bicubic,
            4 => Self::Box,
            5 => Self::Hamming,
            _ => return None,
        })
    }

    /// Beyond this distance from its centre the kernel is zero; in source pixels at scale 1.
    fn support(self) -> f64 {
        match self {
            Self::Nearest | Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn kernel(self, x: f64) -> f64 {
        match self {
            Self::Nearest | Self::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Self::Bilinear => (1.0 - x.abs()).max(0.0),
            Self::Hamming => match x.abs() {
                0.0 => 1.0,
                distance if distance >= 1.0 => 0.0,
                distance => {
                    let angle = distance * std::f64::consts::PI;
                    angle.sin() / angle * (HAMMING[0] + HAMMING[1] * angle.cos())
                }
            },
            Self::Bicubic => bicubic(x.abs()),
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

/// Keys' cubic convolution with a = −1/2.
fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// sin(πx)/(πx)
fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let angle = x * std::f64::consts::PI;
    angle.sin() / angle
}

/// Resizes as Pillow's `Image.resize` does, byte for byte.
///
/// All filters but `Nearest` are convolutions whose kernel widens with the reduction, so that nothing
/// aliases: first along lines, then along columns, each rounded to 8 bits; since Pillow 13.0 along columns
/// first where an image loses more than twice as many lines as columns, which moves values by a few units.
///
/// # Panics
/// If the image or the target size is empty.
pub fn resize(image: &RgbImage, width: usize, height: usize, filter: Filter) -> RgbImage {
    let found = [image.width(), image.height(), width, height];
    assert!(!found.contains(&0), "no pixels: {found:?}");
    if (image.width(), image.height()) == (width, height) {
        return image.clone();
    }
    if filter == Filter::Nearest {
        return nearest(image, width, height);
    }
    let across = |image: &RgbImage| match image.width() == width {
        true => image.clone(),
        false => convolve_lines(image, &weights(image.width(), width, filter)),
    };
    let down = |image: &RgbImage| match image.height() == height {
        true => image.clone(),
        false => convolve_columns(image, &weights(image.height(), height, filter)),
    };
    match takes_columns_first([image.width(), image.height()], [width, height]) {
        true => across(&down(image)),
        false => down(&across(image)),
    }
}

/// Whether the pass along columns comes before that along lines. Found by comparing Pillow 13.0.0 with its
/// two passes one by one: of 6215 pairs of sizes from 4 to 1500 where the orders differ, this is its own.
fn takes_columns_first([width, height]: [usize; 2], [new_width, new_height]: [usize; 2]) -> bool {
    // No columns are lost where an image becomes wider.
    let lines = height.saturating_sub(new_height);
    let columns = width.saturating_sub(new_width);
    lines > 2 * columns
}

/// Which source pixels make a target pixel, and how much of each.
struct Weights {
    first: usize,
    /// With [`PRECISION_BITS`] bits after the point.
    fixed: Vec<i32>,
}

/// The weights of each target pixel along an axis of `found` source pixels.
fn weights(found: usize, wanted: usize, filter: Filter) -> Vec<Weights> {
    let scale = found as f64 / wanted as f64;
    let filter_scale = scale.max(1.0);
    let support = filter.support() * filter_scale;
    let step = 1.0 / filter_scale;
    (0..wanted)
        .map(|target| {
            let center = (target as f64 + 0.5) * scale;
            // Casts truncate and saturate, so what lies before the first pixel becomes the first.
            let first = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(found);
            let raw: Vec<f64> = (0..end - first)
                .map(|index| {
                    let position = (index + first) as f64;
                    filter.kernel((position - center + 0.5) * step)
                })
                .collect();
            let sum: f64 = raw.iter().sum();
            let fixed = raw.iter().map(|weight| {
                let weight = if sum == 0.0 { *weight } else { weight / sum };
                let scaled = weight * f64::from(1 << PRECISION_BITS);
                (scaled + 0.5_f64.copysign(scaled)) as i32
            });
            Weights {
                first,
                fixed: fixed.collect(),
            }
        })
        .collect()
}

/// Half a unit, so that the shift that ends a sum rounds.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

fn rounded(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

fn convolve_lines(image: &RgbImage, weights: &[Weights]) -> RgbImage {
    let mut pixels = Vec::with_capacity(3 * weights.len() * image.height());
    for y in 0..image.height() {
        let (line, _) = image.line(y).as_chunks::<3>();
        for weights in weights {
            let mut sums = [HALF; 3];
            for (pixel, weight) in line[weights.first..].iter().zip(&weights.fixed) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(*value) * weight;
                }
            }
            pixels.extend(sums.map(rounded));
        }
    }
    RgbImage::new(weights.len(), image.height(), pixels)
}

fn convolve_columns(image: &RgbImage, weights: &[Weights]) -> RgbImage {
    let mut pixels = Vec::with_capacity(3 * image.width() * weights.len());
    let mut sums = vec![HALF; 3 * image.width()];
    for weights in weights {
        sums.fill(HALF);
        for (offset, weight) in weights.fixed.iter().enumerate() {
            let line = image.line(weights.first + offset);
            for (sum, value) in sums.iter_mut().zip(line) {
                *sum += i32::from(*value) * weight;
            }
        }
        pixels.extend(sums.iter().map(|sum| rounded(*sum)));
    }
    RgbImage::new(image.width(), weights.len(), pixels)
}

fn nearest(image: &RgbImage, width: usize, height: usize) -> RgbImage {
    let columns = nearest_positions(image.width(), width);
    let mut pixels = Vec::with_capacity(3 * width * height);
    for y in nearest_positions(image.height(), height) {
        let (line, _) = image.line(y).as_chunks::<3>();
        for &x in &columns {
            pixels.extend_from_slice(&line[x]);
        }
    }
    RgbImage::new(width, height, pixels)
}

/// The source pixel of each target pixel.
///
/// Pillow adds up steps instead of multiplying; its rounding decides where a position is near a whole
/// number.
fn nearest_positions(found: usize, wanted: usize) -> Vec<usize> {
    let step = found as f64 / wanted as f64;
    let mut position = step * 0.5;
    (0..wanted)
        .map(|_| {
            let source = (position as usize).min(found - 1);
            position += step;
            source
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILTERS: [Filter; 6] = [
        Filter::Nearest,
        Filter::Lanczos,
        Filter::Bilinear,
        Filter::Bicubic,
        Filter::Box,
        Filter::Hamming,
    ];

    #[test]
    fn the_weights_of_a_pixel_sum_to_one() {
        for filter in FILTERS {
            for (found, wanted) in [(64, 224), (97, 31), (5, 4), (1, 9), (300, 1)] {
                for weights in weights(found, wanted, filter) {
                    let sum: i32 = weights.fixed.iter().sum();
                    // Each weight is rounded to half a unit.
                    let tolerance = weights.fixed.len() as i32;
                    assert!(
                        (sum - (1 << PRECISION_BITS)).abs() <= tolerance,
                        "{filter:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn one_color_stays_that_color() {
        let image = RgbImage::new(11, 6, [200, 3, 77].repeat(66));
        for filter in FILTERS {
            let resized = resize(&image, 29, 4, filter);
            assert_eq!(resized.pixels(), [200, 3, 77].repeat(29 * 4), "{filter:?}");
        }
    }

    #[test]
    fn boxes_of_a_whole_reduction_are_means() {
        let pixels = vec![10, 0, 0, 20, 0, 0, 30, 0, 0, 41, 0, 0];
        let resized = resize(&RgbImage::new(4, 1, pixels), 2, 1, Filter::Box);
        assert_eq!(resized.pixels(), [15, 0, 0, 36, 0, 0]);
    }

    #[test]
    fn other_numbers_are_no_filter() {
        assert_eq!(Filter::from_number(3), Some(Filter::Bicubic));
        assert_eq!(Filter::from_number(6), None);
    }
}
