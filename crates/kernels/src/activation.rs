//! Activation functions.

use std::f32::consts::FRAC_1_SQRT_2;
use std::mem::MaybeUninit;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Tensor, activation};
use rayon::prelude::*;

use crate::backward::Differentiable;
use crate::buffer::{assume_written, filled_in_parts, values_of};
use crate::composition::{Composition, compose};
use crate::simd::{exp, sigmoid, tanh, vectorised};
use crate::{CHUNK, has_kernels};

/// An elementwise nonlinearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x · Φ(x) with Φ the normal distribution function: exact, through the error function.
    Gelu,
    /// x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))).
    GeluTanh,
    /// x · σ(1.702 x), as CLIP has it.
    QuickGelu,
    /// x · σ(x).
    Silu,
    /// max(x, 0).
    Relu,
}

impl Activation {
    /// The function of every value of `input`.
    pub fn forward<const D: usize>(self, input: Tensor<D>) -> Tensor<D> {
        if !has_kernels(&input.device()) {
            let shape = input.dims();
            let width = shape[D - 1].max(1);
            let rows = shape.iter().product::<usize>() / width;
            return compose(vec![input.reshape([rows, width])], self).reshape(shape);
        }
        Tensor::from_dispatch(Dispatch::fused_activation(input.into_dispatch(), self))
    }

    pub(crate) fn composed<const D: usize>(self, input: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Gelu => activation::gelu(input),
            Self::GeluTanh => activation::gelu_approximate(input),
            Self::QuickGelu => input.clone() * activation::sigmoid(input * QUICK),
            Self::Silu => activation::silu(input),
            Self::Relu => activation::relu(input),
        }
    }

    /// The derivative at every value of `input`.
    pub(crate) fn composed_slope(self, input: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Gelu => {
                let density = (input.clone().square() * -0.5).exp() * NORMAL_DENSITY;
                let below = (input.clone() * FRAC_1_SQRT_2).erf() * 0.5 + 0.5;
                below + input * density
            }
            Self::GeluTanh => {
                let square = input.clone().square();
                let inner = input.clone() * (square.clone() * TANH_CUBIC + 1.0) * TANH_SCALE;
                let tanh = inner.tanh();
                let slope = (square * (3.0 * TANH_CUBIC) + 1.0) * TANH_SCALE;
                let along = input * (-tanh.clone().square() + 1.0) * slope;
                (tanh + along + 1.0) * 0.5
            }
            Self::QuickGelu => sigmoid_slope(input, QUICK),
            Self::Silu => sigmoid_slope(input, 1.0),
            Self::Relu => input.greater_elem(0.0).float(),
        }
    }
}

/// (x · σ(f · x))'
fn sigmoid_slope(input: Tensor<2>, factor: f32) -> Tensor<2> {
    let sigmoid = activation::sigmoid(input.clone() * factor);
    let along = input * (-sigmoid.clone() + 1.0) * factor;
    sigmoid * (along + 1.0)
}

impl Composition for Activation {
    type Kept = Tensor<2>;

    fn forward(&self, mut inputs: Vec<Tensor<2>>, _: bool) -> (Tensor<2>, Tensor<2>) {
        let input = inputs.remove(0);
        (self.composed(input.clone()), input)
    }

    fn backward(
        &self,
        input: Tensor<2>,
        gradient: Tensor<2>,
        _: &[bool],
    ) -> Vec<Option<Tensor<2>>> {
        vec![Some(self.composed_slope(input) * gradient)]
    }
}

#[backend_extension(Autodiff, Flex)]
pub(crate) trait ActivationForward: Backend {
    fn fused_activation(input: FloatTensor<Self>, function: Activation) -> FloatTensor<Self>;
}

pub(crate) trait ActivationBackward: Backend {
    /// g · f'(x).
    fn fused_activation_backward(
        input: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        function: Activation,
    ) -> FloatTensor<Self>;
}

impl ActivationForward for Flex {
    fn fused_activation(input: FlexTensor, function: Activation) -> FlexTensor {
        let input = input.to_contiguous();
        let parts = values_of(&input).par_chunks(CHUNK);
        let shape = input.layout().shape().clone();
        let write = |output: &mut [_], input: &[f32]| values(input, function, output);
        // SAFETY: a function has a value for each input.
        unsafe { filled_in_parts(shape, CHUNK, parts, write) }
    }
}

impl ActivationBackward for Flex {
    fn fused_activation_backward(
        input: FlexTensor,
        gradient: FlexTensor,
        function: Activation,
    ) -> FlexTensor {
        let (input, gradient) = (input.to_contiguous(), gradient.to_contiguous());
        let parts = values_of(&input)
            .par_chunks(CHUNK)
            .zip_eq(values_of(&gradient).par_chunks(CHUNK));
        let shape = input.layout().shape().clone();
        let write = |output: &mut [_], (input, gradient): (&[f32], &[f32])| {
            slopes(input, function, output);
            // SAFETY: a function has a slope for each input.
            multiply(gradient, unsafe { assume_written(output) });
        };
        // SAFETY: as above.
        unsafe { filled_in_parts(shape, CHUNK, parts, write) }
    }
}

impl<B: ActivationForward + ActivationBackward, C: CheckpointStrategy> ActivationForward
    for Autodiff<B, C>
{
    fn fused_activation(input: FloatTensor<Self>, function: Activation) -> FloatTensor<Self> {
        Self::differentiable(
            [input],
            |[input], _| {
                let output = B::fused_activation(input.clone(), function);
                (output, (input, function))
            },
            |(input, function), gradient, _| {
                let gradient = B::fused_activation_backward(input, gradient, function);
                vec![Some(gradient)]
            },
        )
    }
}

const QUICK: f32 = 1.702;
/// 1 / √(2π).
const NORMAL_DENSITY: f32 = 0.398_942_3;
/// √(2/π).
const TANH_SCALE: f32 = 0.797_884_6;
const TANH_CUBIC: f32 = 0.044_715;

/// Φ(x) = (1 + erf(x / √2)) / 2; erf as a rational function of degree 13/8, which is accurate to
/// a few units in the last place of f32.
#[inline(always)]
fn normal_distribution(x: f32) -> f32 {
    // Beyond this, erf rounds to ±1.
    const LIMIT: f32 = 3.832_507;
    let z = (x * FRAC_1_SQRT_2).clamp(-LIMIT, LIMIT);
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

/// Writes every output.
#[inline(always)]
fn write(input: &[f32], output: &mut [MaybeUninit<f32>], function: impl Fn(f32) -> f32) {
    assert_eq!(output.len(), input.len(), "an output for each input");
    for (output, &x) in output.iter_mut().zip(input) {
        output.write(function(x));
    }
}

vectorised! {
    /// f(x), to every output.
    fn values(input: &[f32], function: Activation, output: &mut [MaybeUninit<f32>]) {
        match function {
            Activation::Gelu => write(input, output, |x| x * normal_distribution(x)),
            Activation::GeluTanh => write(input, output, |x| {
                0.5 * x * (1.0 + tanh(TANH_SCALE * (x + TANH_CUBIC * x * x * x)))
            }),
            Activation::QuickGelu => write(input, output, |x| x * sigmoid(QUICK * x)),
            Activation::Silu => write(input, output, |x| x * sigmoid(x)),
            Activation::Relu => write(input, output, |x| x.max(0.0)),
        }
    }
}

vectorised! {
    /// f'(x), to every output.
    fn slopes(input: &[f32], function: Activation, output: &mut [MaybeUninit<f32>]) {
        const DENSITY_AT_ZERO: f32 = 0.398_942_3;
        match function {
            Activation::Gelu => write(input, output, |x| {
                normal_distribution(x) + x * DENSITY_AT_ZERO * exp(-0.5 * x * x)
            }),
            Activation::GeluTanh => write(input, output, |x| {
                let tanh = tanh(TANH_SCALE * (x + TANH_CUBIC * x * x * x));
                let inner = TANH_SCALE * (1.0 + 3.0 * TANH_CUBIC * x * x);
                0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * inner
            }),
            Activation::QuickGelu => write(input, output, |x| {
                let sigmoid = sigmoid(QUICK * x);
                sigmoid * (1.0 + QUICK * x * (1.0 - sigmoid))
            }),
            Activation::Silu => write(input, output, |x| {
                let sigmoid = sigmoid(x);
                sigmoid * (1.0 + x * (1.0 - sigmoid))
            }),
            Activation::Relu => write(input, output, |x| f32::from(x > 0.0)),
        }
    }
}

vectorised! {
    fn multiply(factors: &[f32], output: &mut [f32]) {
        for (output, &factor) in output.iter_mut().zip(factors) {
            *output *= factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    const ALL: [Activation; 5] = [
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::QuickGelu,
        Activation::Silu,
        Activation::Relu,
    ];

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

    fn drawn(count: usize, phase: f32, device: &Device) -> Tensor<1> {
        let values: Vec<f32> = (0..count)
            .map(|i| (i as f32 * 0.37 + phase).sin() * 5.0)
            .collect();
        Tensor::from_data(TensorData::from(&values[..]), device)
    }

    fn largest<const D: usize>(difference: Tensor<D>) -> f32 {
        difference.abs().max().into_scalar::<f32>()
    }

    #[test]
    fn gelu_and_its_gradient_are_those_of_the_normal_distribution() {
        let device = Device::flex().autodiff();
        let inputs: Vec<f32> = REFERENCE.iter().map(|(x, _, _)| *x).collect();
        let input = Tensor::<1>::from_data(TensorData::from(&inputs[..]), &device).require_grad();
        let output = Activation::Gelu.forward(input.clone());
        let gradients = output.clone().sum().backward();
        let output = output.into_data().try_to_vec::<f32>().unwrap();
        let gradient = input.grad(&gradients).unwrap().into_data();
        let gradient = gradient.try_to_vec::<f32>().unwrap();
        for (index, (x, value, slope)) in REFERENCE.iter().enumerate() {
            assert!((output[index] - value).abs() < 4e-7, "gelu({x})");
            assert!((gradient[index] - slope).abs() < 4e-7, "gelu'({x})");
        }
    }

    #[test]
    fn every_function_and_gradient_agrees_with_the_composed_operation() {
        let device = Device::flex().autodiff();
        for function in ALL {
            let run = |fused: bool| {
                // More than a chunk holds, and not contiguous.
                let input = drawn(70_000, 0.1, &device).require_grad();
                let transposed = input.clone().reshape([100, 700]).transpose();
                let output = match fused {
                    true => function.forward(transposed),
                    false => function.composed(transposed),
                };
                let gradients = (output.clone() * 0.7).sum().backward();
                (output.inner(), input.grad(&gradients).unwrap())
            };
            let ((output, gradient), (value, slope)) = (run(true), run(false));
            // f32 rounding of values up to five.
            assert!(largest(output - value) < 2e-6, "{function:?}");
            assert!(largest(gradient - slope) < 3e-6, "{function:?}");
        }
    }
}
