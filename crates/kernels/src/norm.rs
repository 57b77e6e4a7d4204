//! Normalisation of rows, centred or not, with a frozen affine part.

use std::mem::MaybeUninit;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Shape, Tensor, module};
use rayon::prelude::*;

use crate::backward::Differentiable;
use crate::buffer::{filled_in_parts, values_of};
use crate::composed_norm::ComposedNorm;
use crate::composition::compose;
use crate::simd::{sum, vectorised};
use crate::{chunk_of_rows, has_kernels};

/// y = (x − mean) / √(variance + ε) · γ + β over the last dimension.
///
/// The kernel computes no gradients of γ and β; if one of them is trained, Burn's composed
/// operation runs.
///
/// # Shapes
/// - input: `[..., d]`
/// - gamma, beta: `[d]`
pub fn layer_norm<const D: usize>(
    input: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> Tensor<D> {
    if gamma.is_tracked() || beta.is_tracked() {
        return module::layer_norm(input, gamma, Some(beta), epsilon);
    }
    let centred = true;
    if !has_kernels(&input.device()) {
        let (shape, [width]) = (input.dims(), gamma.dims());
        let rows = shape.iter().product::<usize>() / width;
        let norm = ComposedNorm::new(gamma, Some(beta), centred, epsilon);
        return normalised(input.reshape([rows, width]), norm).reshape(shape);
    }
    fused(input, gamma, beta, centred, epsilon)
}

/// y = x / √(mean(x²) + ε) · γ over groups of as many values as γ has (arXiv 1910.07467): whole rows,
/// or each head of a row.
///
/// The kernel computes no gradient of γ; if it is trained, composed operations run.
///
/// # Shapes
/// - input: `[rows, n · d]`
/// - gamma: `[d]`
pub fn rms_norm(input: Tensor<2>, gamma: Tensor<1>, epsilon: f64) -> Tensor<2> {
    if gamma.is_tracked() {
        return composed_rms_norm(input, gamma, epsilon);
    }
    let centred = false;
    if !has_kernels(&input.device()) {
        let norm = ComposedNorm::new(gamma, None, centred, epsilon);
        return normalised(input, norm);
    }
    let beta = gamma.zeros_like();
    fused(input, gamma, beta, centred, epsilon)
}

fn normalised(input: Tensor<2>, norm: ComposedNorm) -> Tensor<2> {
    #[cfg(feature = "gpu")]
    if crate::computes_later(&input.device()) {
        return compose(vec![input], crate::gpu::LaunchedNorm(norm));
    }
    compose(vec![input], norm)
}

fn composed_rms_norm(input: Tensor<2>, gamma: Tensor<1>, epsilon: f64) -> Tensor<2> {
    let [rows, width] = input.dims();
    let [group] = gamma.dims();
    let input = input.reshape([rows * width / group, group]);
    let deviation = (input.clone().square().mean_dim(1) + epsilon).sqrt();
    (input / deviation * gamma.unsqueeze()).reshape([rows, width])
}

fn fused<const D: usize>(
    input: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    centred: bool,
    epsilon: f64,
) -> Tensor<D> {
    let epsilon = epsilon as f32;
    Tensor::from_dispatch(Dispatch::fused_norm(
        input.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        Statistics { centred, epsilon },
    ))
}

/// What a row is normalised by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statistics {
    /// Whether the mean is subtracted; otherwise it counts as zero.
    centred: bool,
    epsilon: f32,
}

#[backend_extension(Autodiff, Flex)]
pub(crate) trait NormForward: Backend {
    fn fused_norm(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        statistics: Statistics,
    ) -> FloatTensor<Self>;
}

/// With x̂ the normalised input, h = γ ⊙ g and means over the row:
/// dx = (h − mean(h) − x̂ · mean(h ⊙ x̂)) / √(variance + ε), without mean(h) if not centred.
pub(crate) trait NormBackward: Backend {
    fn fused_norm_backward(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        statistics: Statistics,
    ) -> FloatTensor<Self>;
}

impl NormForward for Flex {
    fn fused_norm(
        input: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        statistics: Statistics,
    ) -> FlexTensor {
        let input = input.to_contiguous();
        let (gamma, beta) = (gamma.to_contiguous(), beta.to_contiguous());
        let (gamma, beta) = (values_of(&gamma), values_of(&beta));
        let chunk = chunk_of_rows(gamma.len());
        let parts = values_of(&input).par_chunks(chunk);
        let shape = whole_rows(&input, gamma.len());
        let write = |output: &mut [_], input: &[f32]| {
            forward(input, gamma, beta, statistics, output);
        };
        // SAFETY: every row is written, and parts are whole rows.
        unsafe { filled_in_parts(shape, chunk, parts, write) }
    }
}

impl NormBackward for Flex {
    fn fused_norm_backward(
        input: FlexTensor,
        gamma: FlexTensor,
        gradient: FlexTensor,
        statistics: Statistics,
    ) -> FlexTensor {
        let (input, gradient) = (input.to_contiguous(), gradient.to_contiguous());
        let gamma = gamma.to_contiguous();
        let gamma = values_of(&gamma);
        let chunk = chunk_of_rows(gamma.len());
        let parts = values_of(&input)
            .par_chunks(chunk)
            .zip_eq(values_of(&gradient).par_chunks(chunk));
        let shape = whole_rows(&input, gamma.len());
        let write = |output: &mut [_], (input, gradient): (&[f32], &[f32])| {
            backward(input, gamma, gradient, statistics, output);
        };
        // SAFETY: every row is written, and parts are whole rows.
        unsafe { filled_in_parts(shape, chunk, parts, write) }
    }
}

impl<B: NormForward + NormBackward, C: CheckpointStrategy> NormForward for Autodiff<B, C> {
    fn fused_norm(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        statistics: Statistics,
    ) -> FloatTensor<Self> {
        let (gamma, beta) = (gamma.into_primitive(), beta.into_primitive());
        Self::differentiable(
            [input],
            |[input], _| {
                let output = B::fused_norm(input.clone(), gamma.clone(), beta, statistics);
                (output, (input, gamma, statistics))
            },
            |(input, gamma, statistics), gradient, _| {
                let gradient = B::fused_norm_backward(input, gamma, gradient, statistics);
                vec![Some(gradient)]
            },
        )
    }
}

/// The shape of the output.
///
/// # Panics
/// If the input cannot be divided into rows of `width` values.
fn whole_rows(input: &FlexTensor, width: usize) -> Shape {
    let shape = input.layout().shape();
    let count = shape.num_elements();
    assert!(count.is_multiple_of(width), "{count} in rows of {width}");
    shape.clone()
}

/// The row's mean, or 0, and 1 / √(mean((x − mean)²) + ε).
#[inline(always)]
fn moments(row: &[f32], statistics: Statistics) -> (f32, f32) {
    let width = row.len();
    let mean = match statistics.centred {
        true => sum(width, |i| row[i]) / width as f32,
        false => 0.0,
    };
    let variance = sum(width, |i| (row[i] - mean) * (row[i] - mean)) / width as f32;
    (mean, 1.0 / (variance + statistics.epsilon).sqrt())
}

vectorised! {
    fn forward(
        input: &[f32],
        gamma: &[f32],
        beta: &[f32],
        statistics: Statistics,
        output: &mut [MaybeUninit<f32>],
    ) {
        let width = gamma.len();
        let beta = &beta[..width];
        for (output, input) in output.chunks_exact_mut(width).zip(input.chunks_exact(width)) {
            let (mean, inverse_deviation) = moments(input, statistics);
            for i in 0..width {
                output[i].write((input[i] - mean) * inverse_deviation * gamma[i] + beta[i]);
            }
        }
    }
}

vectorised! {
    fn backward(
        input: &[f32],
        gamma: &[f32],
        gradient: &[f32],
        statistics: Statistics,
        output: &mut [MaybeUninit<f32>],
    ) {
        let width = gamma.len();
        let rows = input.chunks_exact(width).zip(gradient.chunks_exact(width));
        for (output, (input, gradient)) in output.chunks_exact_mut(width).zip(rows) {
            let (mean, inverse_deviation) = moments(input, statistics);
            let mean_h = match statistics.centred {
                true => sum(width, |i| gradient[i] * gamma[i]) / width as f32,
                false => 0.0,
            };
            let mean_hx = inverse_deviation
                * sum(width, |i| gradient[i] * gamma[i] * (input[i] - mean))
                / width as f32;
            for i in 0..width {
                let normalised = (input[i] - mean) * inverse_deviation;
                let slope = gradient[i] * gamma[i] - mean_h - normalised * mean_hx;
                output[i].write(inverse_deviation * slope);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    fn values(count: usize, phase: f32, device: &Device) -> Tensor<1> {
        let values: Vec<f32> = (0..count)
            .map(|i| (i as f32 * 1.7 + phase).sin() * 2.0)
            .collect();
        Tensor::from_data(TensorData::from(&values[..]), device)
    }

    #[test]
    fn layer_norms_agree_with_the_composed_operation() {
        let device = Device::flex().autodiff();
        // More rows than a chunk holds, and a width that is not a multiple of a vector.
        let (rows, width) = (700, 37);
        let gamma = values(width, 0.3, &device) + 1.5;
        let beta = values(width, 0.9, &device);
        let weights = values(rows * width, 2.0, &device).reshape([rows, width]);
        let run = |fused: bool| {
            let input = values(rows * width, 0.0, &device)
                .reshape([rows, width])
                .require_grad();
            let output = if fused {
                layer_norm(input.clone(), gamma.clone(), beta.clone(), 1e-5)
            } else {
                module::layer_norm(input.clone(), gamma.clone(), Some(beta.clone()), 1e-5)
            };
            let gradients = (output.clone() * weights.clone()).sum().backward();
            (output.inner(), input.grad(&gradients).unwrap())
        };
        let ((output, gradient), (expected_output, expected_gradient)) = (run(true), run(false));
        // Both take f32 sums over 37 values of size one.
        assert!((output - expected_output).abs().max().into_scalar::<f32>() < 1e-5);
        assert!(
            (gradient - expected_gradient)
                .abs()
                .max()
                .into_scalar::<f32>()
                < 1e-5
        );
    }

    #[test]
    fn rms_norms_of_rows_and_heads_agree_with_the_composed_operation() {
        let device = Device::flex().autodiff();
        // Whole rows, and three heads per row; more rows than a chunk holds.
        for (group, width) in [(37, 37), (16, 48)] {
            let rows = 700;
            let gamma = values(group, 0.3, &device) + 1.5;
            let weights = values(rows * width, 2.0, &device).reshape([rows, width]);
            let run = |operation: fn(Tensor<2>, Tensor<1>, f64) -> Tensor<2>| {
                let input = values(rows * width, 0.0, &device).require_grad();
                let output = operation(input.clone().reshape([rows, width]), gamma.clone(), 1e-5);
                let gradients = (output.clone() * weights.clone()).sum().backward();
                (output.inner(), input.grad(&gradients).unwrap())
            };
            let ((output, gradient), (value, slope)) = (run(rms_norm), run(composed_rms_norm));
            // f32 sums over at most 37 values of size one.
            assert!((output - value).abs().max().into_scalar::<f32>() < 1e-5);
            assert!((gradient - slope).abs().max().into_scalar::<f32>() < 1e-5);
        }
    }
}
