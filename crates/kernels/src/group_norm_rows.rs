//! Sums over the pixels of images, and what group normalisation makes of every row.

use std::mem::MaybeUninit;

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use crate::GroupNormShape;
use crate::buffer::{filled_in_parts, values_of};
use crate::chunk_of_rows;
use crate::simd::{sigmoid, vectorised};

/// What every value is computed from: with it, z = x · scale + offset.
pub(crate) struct Affine {
    /// `[images, channels]`
    pub scale: Vec<f32>,
    pub offset: Vec<f32>,
    /// Mean, less the shift, and 1 / √(variance + ε): `[images, channels]`.
    mean: Vec<f32>,
    inverse: Vec<f32>,
    channels: usize,
}

/// An image of rows in chunks.
pub(crate) struct Image<'a> {
    values: &'a [f32],
    pixels: usize,
    pub channels: usize,
    shape: GroupNormShape,
}

impl<'a> Image<'a> {
    pub fn new(input: &'a FlexTensor, shape: GroupNormShape) -> Self {
        let (rows, channels) = (input.layout().shape()[0], input.layout().shape()[1]);
        Self {
            values: values_of(input),
            pixels: rows / shape.images,
            channels,
            shape,
        }
    }

    /// The values of all images, so many at a time, each with the image that it is of.
    pub fn chunks(&self) -> Vec<(usize, &'a [f32])> {
        let image = self.pixels * self.channels;
        let chunk = chunk_of_rows(self.channels);
        let images = self.values.chunks(image).enumerate();
        images
            .flat_map(|(index, image)| image.chunks(chunk).map(move |chunk| (index, chunk)))
            .collect()
    }

    /// Sums over the chunks of every image, in f64 and in order.
    pub fn sums<const N: usize>(
        &self,
        of_chunk: impl Fn(usize, usize, &'a [f32]) -> [Vec<f32>; N] + Sync,
    ) -> [Vec<f64>; N] {
        let chunks = self.chunks();
        let found: Vec<(usize, [Vec<f32>; N])> = chunks
            .par_iter()
            .enumerate()
            .map(|(index, &(image, chunk))| (image, of_chunk(index, image, chunk)))
            .collect();
        let mut sums = std::array::from_fn(|_| vec![0.0; self.shape.images * self.channels]);
        for (image, found) in found {
            for (sums, found) in sums.iter_mut().zip(found) {
                let sums = &mut sums[image * self.channels..][..self.channels];
                let pairs = sums.iter_mut().zip(found);
                pairs.for_each(|(sum, found)| *sum += f64::from(found));
            }
        }
        sums
    }

    /// The mean over the channels of each group of sums over its pixels, for every channel.
    pub fn group_means(&self, sums: &[f64]) -> Vec<f64> {
        let width = self.channels / self.shape.groups;
        let count = (width * self.pixels) as f64;
        let means = sums.chunks(width).flat_map(|group| {
            let mean = group.iter().sum::<f64>() / count;
            std::iter::repeat_n(mean, width)
        });
        means.collect()
    }

    /// - shift: `[images, channels]`
    pub fn affine(&self, shift: Option<&[f32]>, gamma: &[f32], beta: &[f32]) -> Affine {
        let count = self.shape.images * self.channels;
        let shift = |index: usize| shift.map_or(0.0, |shift| f64::from(shift[index]));
        let [sums] = self.sums(|_, _, chunk| [column_sums(chunk, self.channels)]);
        let shifted: Vec<f64> = (0..count)
            .map(|index| sums[index] + shift(index) * self.pixels as f64)
            .collect();
        let means = self.group_means(&shifted);
        // Of x itself: what of the group's mean is not the shift.
        let mean: Vec<f32> = (0..count)
            .map(|index| (means[index] - shift(index)) as f32)
            .collect();
        let [squares] = self.sums(|_, image, chunk| {
            let mean = &mean[image * self.channels..][..self.channels];
            [column_squares(chunk, mean)]
        });
        let variances = self.group_means(&squares);
        let inverse: Vec<f32> = variances
            .iter()
            .map(|variance| (1.0 / (variance + self.shape.epsilon).sqrt()) as f32)
            .collect();
        let scale: Vec<f32> = (0..count)
            .map(|index| inverse[index] * gamma[index % self.channels])
            .collect();
        let offset = (0..count)
            .map(|index| beta[index % self.channels] - mean[index] * scale[index])
            .collect();
        Affine {
            scale,
            offset,
            mean,
            inverse,
            channels: self.channels,
        }
    }
}

pub(crate) fn column_sums(chunk: &[f32], channels: usize) -> Vec<f32> {
    let mut sums = vec![0.0; channels];
    add_rows(chunk, &mut sums);
    sums
}

fn column_squares(chunk: &[f32], mean: &[f32]) -> Vec<f32> {
    let mut sums = vec![0.0; mean.len()];
    add_squares(chunk, mean, &mut sums);
    sums
}

vectorised! {
    fn add_rows(rows: &[f32], sums: &mut [f32]) {
        for row in rows.chunks_exact(sums.len()) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += value;
            }
        }
    }
}

vectorised! {
    fn add_squares(rows: &[f32], mean: &[f32], sums: &mut [f32]) {
        for row in rows.chunks_exact(sums.len()) {
            for ((sum, value), mean) in sums.iter_mut().zip(row).zip(mean) {
                *sum += (value - mean) * (value - mean);
            }
        }
    }
}

vectorised! {
    /// f(x · scale + offset), to every output.
    fn write(
        rows: &[f32],
        scale: &[f32],
        offset: &[f32],
        silu: bool,
        output: &mut [MaybeUninit<f32>],
    ) {
        let channels = scale.len();
        let offset = &offset[..channels];
        for (output, row) in output.chunks_exact_mut(channels).zip(rows.chunks_exact(channels)) {
            match silu {
                true => for channel in 0..channels {
                    let z = row[channel] * scale[channel] + offset[channel];
                    output[channel].write(z * sigmoid(z));
                },
                false => for channel in 0..channels {
                    output[channel].write(row[channel] * scale[channel] + offset[channel]);
                },
            }
        }
    }
}

/// The values that one image's gradient is computed from, a value for each channel.
#[derive(Clone, Copy)]
pub(crate) struct Slopes<'a> {
    scale: &'a [f32],
    offset: &'a [f32],
    mean: &'a [f32],
    inverse: &'a [f32],
    silu: bool,
}

impl Slopes<'_> {
    /// dz and x̂.
    #[inline(always)]
    fn of(&self, channel: usize, x: f32, gradient: f32) -> (f32, f32) {
        let normalised = (x - self.mean[channel]) * self.inverse[channel];
        if !self.silu {
            return (gradient, normalised);
        }
        let z = x * self.scale[channel] + self.offset[channel];
        let sigmoid = sigmoid(z);
        (gradient * sigmoid * (1.0 + z * (1.0 - sigmoid)), normalised)
    }
}

vectorised! {
    /// Adds dz and dz ⊙ x̂ of every row.
    fn add_slopes(
        rows: &[f32],
        gradient: &[f32],
        slopes: Slopes<'_>,
        sums: &mut [f32],
        products: &mut [f32],
    ) {
        let channels = sums.len();
        let products = &mut products[..channels];
        let slopes = Slopes {
            scale: &slopes.scale[..channels],
            offset: &slopes.offset[..channels],
            mean: &slopes.mean[..channels],
            inverse: &slopes.inverse[..channels],
            ..slopes
        };
        for (row, gradient) in rows.chunks_exact(channels).zip(gradient.chunks_exact(channels)) {
            for channel in 0..channels {
                let (slope, normalised) = slopes.of(channel, row[channel], gradient[channel]);
                sums[channel] += slope;
                products[channel] += slope * normalised;
            }
        }
    }
}

vectorised! {
    /// dx = scale · dz − inverse · (mean(h) + x̂ · mean(h ⊙ x̂)), to every output.
    ///
    /// - mean_h, mean_hx: of the group of each channel
    fn write_slopes(
        rows: &[f32],
        gradient: &[f32],
        slopes: Slopes<'_>,
        mean_h: &[f32],
        mean_hx: &[f32],
        output: &mut [MaybeUninit<f32>],
    ) {
        let channels = mean_h.len();
        let mean_hx = &mean_hx[..channels];
        let slopes = Slopes {
            scale: &slopes.scale[..channels],
            offset: &slopes.offset[..channels],
            mean: &slopes.mean[..channels],
            inverse: &slopes.inverse[..channels],
            ..slopes
        };
        let rows = rows.chunks_exact(channels).zip(gradient.chunks_exact(channels));
        for (output, (row, gradient)) in output.chunks_exact_mut(channels).zip(rows) {
            for channel in 0..channels {
                let (slope, normalised) = slopes.of(channel, row[channel], gradient[channel]);
                let subtracted = mean_h[channel] + normalised * mean_hx[channel];
                let slope = slopes.scale[channel] * slope - slopes.inverse[channel] * subtracted;
                output[channel].write(slope);
            }
        }
    }
}

impl Affine {
    /// The channels of an image.
    pub fn of<'v>(&self, image: usize, values: &'v [f32]) -> &'v [f32] {
        &values[image * self.channels..][..self.channels]
    }

    pub fn slopes(&self, image: usize, silu: bool) -> Slopes<'_> {
        Slopes {
            scale: self.of(image, &self.scale),
            offset: self.of(image, &self.offset),
            mean: self.of(image, &self.mean),
            inverse: self.of(image, &self.inverse),
            silu,
        }
    }
}

impl Image<'_> {
    /// A tensor of the same shape, of which `write` fills some rows of an image from their values and,
    /// if there are any, from those of `others` at the same place.
    pub fn filled(
        &self,
        others: Option<&[f32]>,
        write: impl Fn(usize, &[f32], &[f32], &mut [MaybeUninit<f32>]) + Sync,
    ) -> FlexTensor {
        let image = self.pixels * self.channels;
        let part = chunk_of_rows(self.channels);
        let others = others.unwrap_or(self.values);
        let sources = self
            .values
            .par_chunks(image)
            .zip_eq(others.par_chunks(image));
        let write = |output: &mut [MaybeUninit<f32>],
                     (index, (values, others)): (usize, (&[f32], &[f32]))| {
            output
                .par_chunks_mut(part)
                .zip_eq(values.par_chunks(part).zip_eq(others.par_chunks(part)))
                .for_each(|(output, (values, others))| write(index, values, others, output));
        };
        let shape = [self.shape.images * self.pixels, self.channels];
        // SAFETY: every row is written, and parts are whole rows.
        unsafe { filled_in_parts(shape, image, sources.enumerate(), write) }
    }
}
