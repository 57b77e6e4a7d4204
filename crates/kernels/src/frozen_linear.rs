//! The product with a frozen weight that is stored in half precision.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, FloatDType, Tensor, bf16, f16};
use rayon::prelude::*;

use crate::buffer::unwritten;
use crate::few_rows::{FEW_ROWS, few_rows_product, widen_bf16, widen_f16};
use crate::{CHUNK, has_kernels};

/// x · Wᵀ, where W is stored in any float type and x is f32.
///
/// On the CPU, W is widened to f32 for the product and again for the gradient, and forgotten in
/// between: a model in half precision takes half the memory, and computes as the widened model does.
/// Of a few rows, such as a text that is being written, the time is what reading W takes: there each
/// row of W is read once, as it is stored. Elsewhere the product runs in W's own type. A weight that
/// is trained has to be f32.
///
/// # Shapes
/// - input: `[rows, d_in]`
/// - weight: `[d_out, d_in]`
/// - output: `[rows, d_out]`, f32
pub fn frozen_linear(input: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    if weight.dtype() == DType::F32 {
        return input.matmul(weight.transpose());
    }
    if has_kernels(&input.device()) {
        let (input, weight) = (input.into_dispatch(), weight.into_dispatch());
        return Tensor::from_dispatch(Dispatch::widened_linear(input, weight));
    }
    let stored = match weight.dtype() {
        DType::BF16 => FloatDType::BF16,
        _ => FloatDType::F16,
    };
    input
        .cast(stored)
        .matmul(weight.transpose())
        .cast(FloatDType::F32)
}

#[backend_extension(Autodiff, Flex)]
pub(crate) trait WidenedLinear: Backend {
    fn widened_linear(input: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;
}

pub(crate) trait WidenedLinearBackward: Backend {
    /// dx = dy · W.
    fn widened_linear_backward(
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

impl WidenedLinear for Flex {
    fn widened_linear(input: FlexTensor, weight: FlexTensor) -> FlexTensor {
        if input.layout().shape()[0] <= FEW_ROWS && weight.is_contiguous() {
            return few_rows_product(&input.to_contiguous(), &weight);
        }
        Self::float_matmul(input, widened(&weight).transpose(0, 1))
    }
}

impl WidenedLinearBackward for Flex {
    fn widened_linear_backward(weight: FlexTensor, gradient: FlexTensor) -> FlexTensor {
        Self::float_matmul(gradient, widened(&weight))
    }
}

/// The tensor in f32.
pub(crate) fn widened(tensor: &FlexTensor) -> FlexTensor {
    if !matches!(tensor.dtype(), DType::BF16 | DType::F16) {
        return tensor.clone();
    }
    let stored = tensor.to_contiguous();
    let mut wide = unwritten(stored.layout().shape().clone());
    let numbers = wide.storage_mut::<f32>();
    match stored.dtype() {
        DType::BF16 => convert(stored.storage::<bf16>(), widen_bf16, numbers),
        _ => convert(stored.storage::<f16>(), widen_f16, numbers),
    }
    wide
}

fn convert<E: Sync>(input: &[E], widen: impl Fn(&[E], &mut [f32]) + Sync, output: &mut [f32]) {
    output
        .par_chunks_mut(CHUNK)
        .zip(input.par_chunks(CHUNK))
        .for_each(|(output, input)| widen(input, output));
}

impl<B: WidenedLinear + WidenedLinearBackward, C: CheckpointStrategy> WidenedLinear
    for Autodiff<B, C>
{
    fn widened_linear(input: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Linear;

        impl<B: WidenedLinearBackward> Backward<B, 1> for Linear {
            type State = FloatTensor<B>;

            fn backward(
                self,
                ops: Ops<Self::State, 1>,
                gradients: &mut Gradients,
                _: &mut Checkpointer,
            ) {
                let gradient = gradients.consume::<B>(&ops.node);
                if let [Some(parent)] = ops.parents {
                    let gradient = B::widened_linear_backward(ops.state, gradient);
                    gradients.register::<B>(parent.id, gradient);
                }
            }
        }

        let node = input.node();
        let (input, weight) = (input.into_primitive(), weight.into_primitive());
        match Linear.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(preparation) => {
                let output = B::widened_linear(input, weight.clone());
                preparation.finish(weight, output)
            }
            OpsKind::UnTracked(preparation) => preparation.finish(B::widened_linear(input, weight)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    fn numbers(rows: usize, cols: usize, phase: f32, device: &Device) -> Tensor<2> {
        let values: Vec<f32> = (0..rows * cols)
            .map(|i| (i as f32 * 0.91 + phase).sin() * 2.0)
            .collect();
        Tensor::from_data(TensorData::new(values, [rows, cols]), device)
    }

    #[test]
    fn a_half_precision_weight_computes_as_its_widened_self() {
        let device = Device::flex().autodiff();
        for stored in [FloatDType::BF16, FloatDType::F16] {
            // More numbers than a chunk.
            let half = numbers(170, 130, 0.3, &device).cast(stored);
            let wide = half.clone().cast(FloatDType::F32);
            let weights = numbers(9, 170, 1.1, &device);
            for transposed in [false, true] {
                let place = |weight: &Tensor<2>| match transposed {
                    true => weight.clone().transpose().reshape([170, 130]),
                    false => weight.clone(),
                };
                let run = |weight: Tensor<2>| {
                    let input = numbers(9, 130, 0.0, &device).require_grad();
                    let output = frozen_linear(input.clone(), weight);
                    let gradients = (output.clone() * weights.clone()).sum().backward();
                    [output.inner(), input.grad(&gradients).unwrap()]
                };
                for (found, expected) in run(place(&half)).into_iter().zip(run(place(&wide))) {
                    // The same products in f32.
                    let difference = (found - expected).abs().max().into_scalar::<f32>();
                    assert!(difference < 1e-3, "{difference}");
                }
            }
        }
    }
}
