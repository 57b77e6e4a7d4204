//! The exact GELU, `x · Φ(x)` with Φ the normal distribution function.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Tensor, activation};
use rayon::prelude::*;

use crate::simd::{exp, vectorised};
use crate::{CHUNK, empty_like, has_kernels};

/// GELU(x) = x · Φ(x), elementwise, with the error function and not its tanh approximation.
pub fn gelu<const D: usize>(input: Tensor<D>) -> Tensor<D> {
    if !has_kernels(&input.device()) {
        return activation::gelu(input);
    }
    Tensor::from_dispatch(Dispatch::fused_gelu(input.into_dispatch()))
}

#[backend_extension(Autodiff, Flex)]
pub(crate) trait GeluForward: Backend {
    fn fused_gelu(input: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// d GELU / dx = Φ(x) + x · φ(x).
pub(crate) trait GeluBackward: Backend {
    fn fused_gelu_backward(
        input: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

impl GeluForward for Flex {
    fn fused_gelu(input: FlexTensor) -> FlexTensor {
        let input = input.to_contiguous();
        let mut output = empty_like(&input);
        output
            .storage_mut::<f32>()
            .par_chunks_mut(CHUNK)
            .zip(input.storage::<f32>().par_chunks(CHUNK))
            .for_each(|(output, input)| forward(input, output));
        output
    }
}

impl GeluBackward for Flex {
    fn fused_gelu_backward(input: FlexTensor, gradient: FlexTensor) -> FlexTensor {
        let (input, gradient) = (input.to_contiguous(), gradient.to_contiguous());
        let mut output = empty_like(&input);
        output
            .storage_mut::<f32>()
            .par_chunks_mut(CHUNK)
            .zip(input.storage::<f32>().par_chunks(CHUNK))
            .zip(gradient.storage::<f32>().par_chunks(CHUNK))
            .for_each(|((output, input), gradient)| backward(input, gradient, output));
        output
    }
}

impl<B: GeluForward + GeluBackward, C: CheckpointStrategy> GeluForward for Autodiff<B, C> {
    fn fused_gelu(input: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Gelu;

        impl<B: GeluBackward> Backward<B, 1> for Gelu {
            type State = FloatTensor<B>;

            fn backward(
                self,
                ops: Ops<Self::State, 1>,
                gradients: &mut Gradients,
                _: &mut Checkpointer,
            ) {
                let gradient = gradients.consume::<B>(&ops.node);
                if let [Some(parent)] = ops.parents {
                    let gradient = B::fused_gelu_backward(ops.state, gradient);
                    gradients.register::<B>(parent.id, gradient);
                }
            }
        }

        match Gelu.prepare::<C>([input.node()]).compute_bound().stateful() {
            OpsKind::Tracked(preparation) => {
                let input = input.into_primitive();
                preparation.finish(input.clone(), B::fused_gelu(input))
            }
            OpsKind::UnTracked(preparation) => {
                preparation.finish(B::fused_gelu(input.into_primitive()))
            }
        }
    }
}

/// Φ(x) = (1 + erf(x / √2)) / 2; erf as a rational function of degree 13/8, which is accurate to
/// a few units in the last place of f32.
#[inline(always)]
fn normal_distribution(x: f32) -> f32 {
    // Beyond this, erf rounds to ±1.
    const LIMIT: f32 = 3.832_507;
    let z = (x * std::f32::consts::FRAC_1_SQRT_2).clamp(-LIMIT, LIMIT);
    let z2 = z * z;
    let numerator = ((((((-2.726_142_3e-10 * z2 + 2.770_681_4e-8) * z2 - 2.101_024e-6) * z2
        - 5.692_506_5e-5)
        * z2
        - 7.349_906_3e-4)
        * z2
        - 2.954_6e-3)
        * z2
        - 1.609_603_4e-2)
        * z;
    let denominator =
        (((-1.456_607_2e-5 * z2 - 2.133_740_6e-4) * z2 - 1.682_827e-3) * z2 - 7.373_329e-3) * z2
            - 1.426_473_9e-2;
    0.5 + 0.5 * (numerator / denominator)
}

vectorised! {
    fn forward(input: &[f32], output: &mut [f32]) {
        for (output, &x) in output.iter_mut().zip(input) {
            *output = x * normal_distribution(x);
        }
    }
}

vectorised! {
    fn backward(input: &[f32], gradient: &[f32], output: &mut [f32]) {
        const DENSITY_AT_ZERO: f32 = 0.398_942_3;
        for ((output, &x), &gradient) in output.iter_mut().zip(input).zip(gradient) {
            let density = DENSITY_AT_ZERO * exp(-0.5 * x * x);
            *output = gradient * (normal_distribution(x) + x * density);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    /// (x, x · Φ(x), Φ(x) + x · φ(x)) in float64, from Python: `c = 0.5 * math.erfc(-x / 2**0.5)`,
    /// `p = math.exp(-x * x / 2) / math.sqrt(2 * math.pi)`, `(x, x * c, c + x * p)`.
    const REFERENCE: [(f32, f32, f32); 7] = [
        (-6.0, -5.919_525_9e-9, -3.546_871e-8),
        (-2.0, -0.045_500_264, -0.085_231_8),
        (-0.5, -0.154_268_77, 0.132_504_88),
        (0.0, 0.0, 0.5),
        (0.3, 0.185_373_5, 0.732_327_8),
        (1.0, 0.841_344_7, 1.083_315_5),
        (4.0, 3.999_873_3, 1.000_503_7),
    ];

    #[test]
    fn values_and_gradients_are_those_of_the_normal_distribution() {
        let device = Device::flex().autodiff();
        let inputs: Vec<f32> = REFERENCE.iter().map(|(x, _, _)| *x).collect();
        let input = Tensor::<1>::from_data(TensorData::from(&inputs[..]), &device).require_grad();
        let output = gelu(input.clone());
        let gradients = output.clone().sum().backward();
        let output = output.into_data().try_to_vec::<f32>().unwrap();
        let gradient = input
            .grad(&gradients)
            .unwrap()
            .into_data()
            .try_to_vec::<f32>()
            .unwrap();
        for (index, (x, value, slope)) in REFERENCE.iter().enumerate() {
            assert!(
                (output[index] - value).abs() < 4e-7,
                "gelu({x}) = {}",
                output[index]
            );
            assert!(
                (gradient[index] - slope).abs() < 4e-7,
                "gelu'({x}) = {}",
                gradient[index]
            );
        }
    }

    #[test]
    fn a_large_transposed_tensor_agrees_with_the_composed_operation() {
        let device = Device::flex();
        let input = Tensor::<1>::from_data(
            TensorData::from(
                &(0..70_000)
                    .map(|i| (i as f32 * 0.37).sin() * 5.0)
                    .collect::<Vec<_>>()[..],
            ),
            &device,
        )
        .reshape([100, 700])
        .transpose();
        let difference = (gelu(input.clone()) - activation::gelu(input)).abs().max();
        assert!(difference.into_scalar::<f32>() < 2e-6);
    }
}
