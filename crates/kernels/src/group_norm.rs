//! Group normalisation of images whose pixels are rows, with the activation that follows it.

use std::mem::MaybeUninit;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Tensor, activation};
use rayon::prelude::*;

use crate::backward::Differentiable;
use crate::buffer::{filled_in_parts, tensor, values_of};
use crate::simd::{sigmoid, vectorised};
use crate::tensor_list::TensorList;
use crate::{chunk_of_rows, has_kernels};

/// How the values of an image are normalised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNormShape {
    pub images: usize,
    /// Channels are divided into as many groups of neighbours.
    pub groups: usize,
    pub epsilon: f64,
    /// Whether x · σ(x) of the result is taken.
    pub silu: bool,
}

/// y = f((x + t − mean) / √(variance + ε) · γ + β), mean and variance over the pixels of an image and the
/// channels of a group, t a value for each channel of an image (the time embedding of a residual
/// block), f the identity or x · σ(x).
///
/// The kernel computes the gradients of x and t and keeps them alone; γ and β are frozen.
///
/// # Shapes
/// - input, output: `[images · pixels, channels]`
/// - shift: t, `[images, channels]`
/// - gamma, beta: `[channels]`
///
/// # Panics
/// If the rows cannot be divided into images, or the channels into groups.
pub fn group_norm(
    input: Tensor<2>,
    shift: Option<Tensor<2>>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    shape: GroupNormShape,
) -> Tensor<2> {
    let [rows, channels] = input.dims();
    assert!(
        rows.is_multiple_of(shape.images) && channels.is_multiple_of(shape.groups),
        "{rows} pixels of {} images, {channels} channels in {} groups",
        shape.images,
        shape.groups
    );
    if !has_kernels(&input.device()) {
        return composed(input, shift, gamma, beta, shape);
    }
    let shift = shift.map(Tensor::into_dispatch).into_iter().collect();
    Tensor::from_dispatch(Dispatch::fused_group_norm(
        input.into_dispatch(),
        TensorList::new(shift),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        shape,
    ))
}

fn composed(
    input: Tensor<2>,
    shift: Option<Tensor<2>>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    shape: GroupNormShape,
) -> Tensor<2> {
    let [rows, channels] = input.dims();
    let GroupNormShape { images, groups, .. } = shape;
    let mut values = input.reshape([images, rows / images, channels]);
    if let Some(shift) = shift {
        values = values + shift.reshape([images, 1, channels]);
    }
    let grouped = values
        .reshape([images, rows / images, groups, channels / groups])
        .swap_dims(1, 2)
        .reshape([images, groups, rows / images * (channels / groups)]);
    let centred = grouped.clone() - grouped.mean_dim(2);
    let deviation = (centred.clone().square().mean_dim(2) + shape.epsilon).sqrt();
    let normalised = (centred / deviation)
        .reshape([images, groups, rows / images, channels / groups])
        .swap_dims(1, 2)
        .reshape([rows, channels]);
    let output = normalised * gamma.unsqueeze::<2>() + beta.unsqueeze::<2>();
    match shape.silu {
        true => activation::silu(output),
        false => output,
    }
}

#[backend_extension(Autodiff, Flex)]
pub(crate) trait GroupNorm: Backend {
    fn fused_group_norm(
        input: FloatTensor<Self>,
        #[extension_type] shift: TensorList<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        shape: GroupNormShape,
    ) -> FloatTensor<Self>;
}

/// With x̂ the normalised input, z = γ x̂ + β, dz = g · f'(z), h = γ ⊙ dz and means over the group:
/// dx = (h − mean(h) − x̂ · mean(h ⊙ x̂)) / √(variance + ε), and dt its sum over the pixels.
pub(crate) trait GroupNormBackward: Backend {
    /// - affine: γ and β
    /// - wants_shift: whether the gradient of the shift is needed
    fn fused_group_norm_backward(
        input: FloatTensor<Self>,
        shift: Option<FloatTensor<Self>>,
        affine: [FloatTensor<Self>; 2],
        gradient: FloatTensor<Self>,
        shape: GroupNormShape,
        wants_shift: bool,
    ) -> [Option<FloatTensor<Self>>; 2];
}

/// What every value is computed from: with it, z = x · scale + offset.
struct Affine {
    /// `[images, channels]`
    scale: Vec<f32>,
    offset: Vec<f32>,
    /// Mean, less the shift, and 1 / √(variance + ε): `[images, channels]`.
    mean: Vec<f32>,
    inverse: Vec<f32>,
    channels: usize,
}

/// An image of rows in chunks.
struct Image<'a> {
    values: &'a [f32],
    pixels: usize,
    channels: usize,
    shape: GroupNormShape,
}

impl<'a> Image<'a> {
    fn new(input: &'a FlexTensor, shape: GroupNormShape) -> Self {
        let (rows, channels) = (input.layout().shape()[0], input.layout().shape()[1]);
        Self {
            values: values_of(input),
            pixels: rows / shape.images,
            channels,
            shape,
        }
    }

    /// The values of all images, so many at a time, each with the image that it is of.
    fn chunks(&self) -> Vec<(usize, &'a [f32])> {
        let image = self.pixels * self.channels;
        let chunk = chunk_of_rows(self.channels);
        let images = self.values.chunks(image).enumerate();
        images
            .flat_map(|(index, image)| image.chunks(chunk).map(move |chunk| (index, chunk)))
            .collect()
    }

    /// Sums over the chunks of every image, in f64 and in order.
    fn sums<const N: usize>(
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
    fn group_means(&self, sums: &[f64]) -> Vec<f64> {
        let width = self.channels / self.shape.groups;
        let count = (width * self.pixels) as f64;
        let means = sums.chunks(width).flat_map(|group| {
            let mean = group.iter().sum::<f64>() / count;
            std::iter::repeat_n(mean, width)
        });
        means.collect()
    }

    /// - shift: `[images, channels]`
    fn affine(&self, shift: Option<&[f32]>, gamma: &[f32], beta: &[f32]) -> Affine {
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

fn column_sums(chunk: &[f32], channels: usize) -> Vec<f32> {
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

impl GroupNorm for Flex {
    fn fused_group_norm(
        input: FlexTensor,
        shift: TensorList<Self>,
        gamma: FlexTensor,
        beta: FlexTensor,
        shape: GroupNormShape,
    ) -> FlexTensor {
        let input = input.to_contiguous();
        let shift = shift.into_vec().first().map(FlexTensor::to_contiguous);
        let (gamma, beta) = (gamma.to_contiguous(), beta.to_contiguous());
        let image = Image::new(&input, shape);
        let shift = shift.as_ref().map(values_of);
        let affine = image.affine(shift, values_of(&gamma), values_of(&beta));
        image.filled(None, |image, values, _, output| {
            let (scale, offset) = (
                affine.of(image, &affine.scale),
                affine.of(image, &affine.offset),
            );
            write(values, scale, offset, shape.silu, output);
        })
    }
}

impl GroupNormBackward for Flex {
    fn fused_group_norm_backward(
        input: FlexTensor,
        shift: Option<FlexTensor>,
        [gamma, beta]: [FlexTensor; 2],
        gradient: FlexTensor,
        shape: GroupNormShape,
        wants_shift: bool,
    ) -> [Option<FlexTensor>; 2] {
        let (input, gradient) = (input.to_contiguous(), gradient.to_contiguous());
        let shift = shift.map(|shift| shift.to_contiguous());
        let (gamma, beta) = (gamma.to_contiguous(), beta.to_contiguous());
        let image = Image::new(&input, shape);
        let (channels, gamma) = (image.channels, values_of(&gamma));
        let affine = image.affine(shift.as_ref().map(values_of), gamma, values_of(&beta));
        let gradients = Image::new(&gradient, shape).chunks();
        let [mut of_h, mut of_hx] = image.sums(|index, image, values| {
            let (mut sums, mut products) = (vec![0.0; channels], vec![0.0; channels]);
            let slopes = affine.slopes(image, shape.silu);
            add_slopes(values, gradients[index].1, slopes, &mut sums, &mut products);
            [sums, products]
        });
        for sums in [&mut of_h, &mut of_hx] {
            let channels = gamma.iter().cycle();
            sums.iter_mut()
                .zip(channels)
                .for_each(|(sum, &gamma)| *sum *= f64::from(gamma));
        }
        let means = [of_h, of_hx].map(|sums| {
            let means = image.group_means(&sums).into_iter();
            means.map(|mean| mean as f32).collect::<Vec<f32>>()
        });
        let values = values_of(&gradient);
        let found = image.filled(Some(values), |image, values, gradient, output| {
            let slopes = affine.slopes(image, shape.silu);
            let [mean_h, mean_hx] = [0, 1].map(|index: usize| affine.of(image, &means[index]));
            write_slopes(values, gradient, slopes, mean_h, mean_hx, output);
        });
        let of_shift = wants_shift.then(|| {
            let found = Image::new(&found, shape);
            let [sums] = found.sums(|_, _, values| [column_sums(values, channels)]);
            let sums = sums.into_iter().map(|sum| sum as f32).collect();
            tensor(sums, [shape.images, channels])
        });
        [Some(found), of_shift]
    }
}

impl Affine {
    /// The channels of an image.
    fn of<'v>(&self, image: usize, values: &'v [f32]) -> &'v [f32] {
        &values[image * self.channels..][..self.channels]
    }

    fn slopes(&self, image: usize, silu: bool) -> Slopes<'_> {
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
    fn filled(
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

impl<B: GroupNorm + GroupNormBackward, C: CheckpointStrategy> GroupNorm for Autodiff<B, C> {
    fn fused_group_norm(
        input: FloatTensor<Self>,
        shift: TensorList<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        shape: GroupNormShape,
    ) -> FloatTensor<Self> {
        let affine = [gamma.into_primitive(), beta.into_primitive()];
        let parents = std::iter::once(input).chain(shift.into_vec());
        Self::differentiable_list(
            parents.collect(),
            |mut parents, _| {
                let input = parents.remove(0);
                let kept = (
                    input.clone(),
                    parents.first().cloned(),
                    affine.clone(),
                    shape,
                );
                let [gamma, beta] = affine;
                let shift = TensorList::new(parents);
                (B::fused_group_norm(input, shift, gamma, beta, shape), kept)
            },
            |(input, shift, affine, shape), gradient, wanted| {
                let wants_shift = wanted.get(1).is_some_and(|&wanted| wanted);
                let found = B::fused_group_norm_backward(
                    input,
                    shift,
                    affine,
                    gradient,
                    shape,
                    wants_shift,
                );
                found.into_iter().take(wanted.len()).collect()
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waves::of_size_two;
    use burn::tensor::Device;

    #[test]
    fn outputs_and_gradients_agree_with_the_composed_operation() {
        let device = Device::flex().autodiff();
        // More pixels than a chunk holds, and few; with and without what is added and what follows.
        for (pixels, channels, groups) in [(700, 36, 4), (6, 10, 5), (600, 40, 1)] {
            for (silu, shifted) in [(true, true), (false, false), (true, false)] {
                let images = 2;
                let shape = GroupNormShape {
                    images,
                    groups,
                    epsilon: 1e-5,
                    silu,
                };
                let run = |fused: bool| {
                    let rows = images * pixels;
                    let input = of_size_two(rows, channels, 0.1, &device).require_grad();
                    let shift = of_size_two(images, channels, 0.7, &device).require_grad();
                    let gamma = of_size_two(1, channels, 0.3, &device).reshape([channels]) + 2.5;
                    let beta = of_size_two(1, channels, 0.9, &device).reshape([channels]);
                    let with = shifted.then(|| shift.clone());
                    // A mean much larger than the deviation of a group.
                    let far = input.clone() + 8.0;
                    let output = match fused {
                        true => group_norm(far, with, gamma, beta, shape),
                        false => composed(far, with, gamma, beta, shape),
                    };
                    let weights = of_size_two(rows, channels, 2.3, &device);
                    let gradients = (output.clone() * weights).sum().backward();
                    let mut found = vec![output.inner(), input.grad(&gradients).expect("dx")];
                    found.extend(shift.grad(&gradients));
                    found
                };
                for (found, expected) in run(true).into_iter().zip(run(false)) {
                    // f32 rounding of values of ten, times γ and σ up to nine: of one, and of all that the shift
                    // sums, which cancel.
                    let terms = match found.dims() {
                        [rows, _] if rows == images => pixels as f32,
                        _ => 1.0,
                    };
                    let difference = (found - expected).abs().max().into_scalar::<f32>();
                    let tolerance = 3e-5 + 3e-6 * terms;
                    assert!(difference < tolerance, "{shape:?}: {difference} of {terms}");
                }
            }
        }
    }

    #[test]
    fn a_group_of_an_image_has_mean_zero_and_variance_one() {
        let device = Device::flex();
        let shape = GroupNormShape {
            images: 2,
            groups: 3,
            epsilon: 0.0,
            silu: false,
        };
        let input = of_size_two(2 * 50, 12, 0.4, &device);
        let (ones, zeros) = (Tensor::ones([12], &device), Tensor::zeros([12], &device));
        let output = group_norm(input, None, ones, zeros, shape);
        let values = output.into_data().try_to_vec::<f32>().expect("f32");
        for (image, group) in [(0, 0), (0, 2), (1, 1)] {
            let of_group = |index: &usize| index / 600 == image && index % 12 / 4 == group;
            let group: Vec<f64> = (0..values.len())
                .filter(of_group)
                .map(|index| f64::from(values[index]))
                .collect();
            let mean = group.iter().sum::<f64>() / 200.0;
            let variance = group.iter().map(|value| value * value).sum::<f64>() / 200.0;
            assert!(
                mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-5,
                "{mean} {variance}"
            );
        }
    }
}
