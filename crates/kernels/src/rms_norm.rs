//! Root-mean-square normalisation with a frozen scale.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::simd::{sum, vectorised};
use crate::{chunk_of_rows, empty_like, has_kernels};

/// y = x / √(mean(x²) + ε) · γ over groups of as many numbers as γ has (arXiv 1910.07467): whole rows,
/// or each head of a row.
///
/// The kernel gives no gradient to γ: where it is trained, composed operations run.
///
/// # Shapes
/// - input: `[rows, n · d]`
/// - gamma: `[d]`
pub fn rms_norm(input: Tensor<2>, gamma: Tensor<1>, epsilon: f64) -> Tensor<2> {
    if !has_kernels(&input.device()) || gamma.is_tracked() {
        return composed(input, gamma, epsilon);
    }
    Tensor::from_dispatch(Dispatch::fused_rms_norm(
        input.into_dispatch(),
        gamma.into_dispatch(),
        epsilon as f32,
    ))
}

fn composed(input: Tensor<2>, gamma: Tensor<1>, epsilon: f64) -> Tensor<2> {
    let [rows, width] = input.dims();
    let [group] = gamma.dims();
    let input = input.reshape([rows * width / group, group]);
    let deviation = (input.clone().square().mean_dim(1) + epsilon).sqrt();
    (input / deviation * gamma.unsqueeze()).reshape([rows, width])
}

#[backend_extension(Autodiff, Flex)]
pub(crate) trait RmsNormForward: Backend {
    fn fused_rms_norm(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self>;
}

/// With r = 1 / √(mean(x²) + ε) and h = γ ⊙ g: dx = r · (h − x · r² · mean(h ⊙ x)).
pub(crate) trait RmsNormBackward: Backend {
    fn fused_rms_norm_backward(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self>;
}

impl RmsNormForward for Flex {
    fn fused_rms_norm(input: FlexTensor, gamma: FlexTensor, epsilon: f32) -> FlexTensor {
        let (input, gamma) = (input.to_contiguous(), gamma.to_contiguous());
        let gamma = gamma.storage::<f32>();
        let mut output = empty_like(&input);
        let chunk = chunk_of_rows(gamma.len());
        output
            .storage_mut::<f32>()
            .par_chunks_mut(chunk)
            .zip(input.storage::<f32>().par_chunks(chunk))
            .for_each(|(output, input)| forward(input, gamma, epsilon, output));
        output
    }
}

impl RmsNormBackward for Flex {
    fn fused_rms_norm_backward(
        input: FlexTensor,
        gamma: FlexTensor,
        gradient: FlexTensor,
        epsilon: f32,
    ) -> FlexTensor {
        let [input, gamma, gradient] =
            [input, gamma, gradient].map(|tensor| tensor.to_contiguous());
        let gamma = gamma.storage::<f32>();
        let mut output = empty_like(&input);
        let chunk = chunk_of_rows(gamma.len());
        output
            .storage_mut::<f32>()
            .par_chunks_mut(chunk)
            .zip(input.storage::<f32>().par_chunks(chunk))
            .zip(gradient.storage::<f32>().par_chunks(chunk))
            .for_each(|((output, input), gradient)| {
                backward(input, gamma, gradient, epsilon, output);
            });
        output
    }
}

impl<B: RmsNormForward + RmsNormBackward, C: CheckpointStrategy> RmsNormForward for Autodiff<B, C> {
    fn fused_rms_norm(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct RmsNorm;

        impl<B: RmsNormBackward> Backward<B, 1> for RmsNorm {
            type State = (FloatTensor<B>, FloatTensor<B>, f32);

            fn backward(
                self,
                ops: Ops<Self::State, 1>,
                gradients: &mut Gradients,
                _: &mut Checkpointer,
            ) {
                let gradient = gradients.consume::<B>(&ops.node);
                let (input, gamma, epsilon) = ops.state;
                if let [Some(parent)] = ops.parents {
                    let gradient = B::fused_rms_norm_backward(input, gamma, gradient, epsilon);
                    gradients.register::<B>(parent.id, gradient);
                }
            }
        }

        let node = input.node();
        let (input, gamma) = (input.into_primitive(), gamma.into_primitive());
        match RmsNorm.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(preparation) => {
                let output = B::fused_rms_norm(input.clone(), gamma.clone(), epsilon);
                preparation.finish((input, gamma, epsilon), output)
            }
            OpsKind::UnTracked(preparation) => {
                preparation.finish(B::fused_rms_norm(input, gamma, epsilon))
            }
        }
    }
}

/// 1 / √(mean(x²) + ε).
#[inline(always)]
fn inverse_root(row: &[f32], epsilon: f32) -> f32 {
    let mean = sum(row.len(), |i| row[i] * row[i]) / row.len() as f32;
    1.0 / (mean + epsilon).sqrt()
}

vectorised! {
    fn forward(input: &[f32], gamma: &[f32], epsilon: f32, output: &mut [f32]) {
        let width = gamma.len();
        for (output, input) in output.chunks_exact_mut(width).zip(input.chunks_exact(width)) {
            let inverse = inverse_root(input, epsilon);
            for i in 0..width {
                output[i] = input[i] * inverse * gamma[i];
            }
        }
    }
}

vectorised! {
    fn backward(input: &[f32], gamma: &[f32], gradient: &[f32], epsilon: f32, output: &mut [f32]) {
        let width = gamma.len();
        let rows = input.chunks_exact(width).zip(gradient.chunks_exact(width));
        for (output, (input, gradient)) in output.chunks_exact_mut(width).zip(rows) {
            let inverse = inverse_root(input, epsilon);
            let mean = sum(width, |i| gradient[i] * gamma[i] * input[i]) / width as f32;
            let along = inverse * inverse * mean;
            for i in 0..width {
                output[i] = inverse * (gradient[i] * gamma[i] - input[i] * along);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    fn numbers(count: usize, phase: f32, device: &Device) -> Tensor<1> {
        let values: Vec<f32> = (0..count)
            .map(|i| (i as f32 * 1.7 + phase).sin() * 2.0)
            .collect();
        Tensor::from_data(TensorData::from(&values[..]), device)
    }

    #[test]
    fn values_and_gradients_agree_with_the_composed_operation() {
        let device = Device::flex().autodiff();
        // Whole rows, and three heads a row; more rows than a chunk holds.
        for (group, width) in [(37, 37), (16, 48)] {
            let rows = 700;
            let gamma = numbers(group, 0.3, &device) + 1.5;
            let weights = numbers(rows * width, 2.0, &device).reshape([rows, width]);
            let run = |operation: fn(Tensor<2>, Tensor<1>, f64) -> Tensor<2>| {
                let input = numbers(rows * width, 0.0, &device).require_grad();
                let output = operation(input.clone().reshape([rows, width]), gamma.clone(), 1e-5);
                let gradients = (output.clone() * weights.clone()).sum().backward();
                (output.inner(), input.grad(&gradients).unwrap())
            };
            let ((output, gradient), (value, slope)) = (run(rms_norm), run(composed));
            // f32 sums over at most 37 numbers of size one.
            assert!((output - value).abs().max().into_scalar::<f32>() < 1e-5);
            assert!((gradient - slope).abs().max().into_scalar::<f32>() < 1e-5);
        }
    }
}
