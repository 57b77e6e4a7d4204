//! The gate of a gated linear unit.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::activation::{multiply, slopes, values};
use crate::backward::Differentiable;
use crate::buffer::{assume_written, filled_in_parts, values_of};
use crate::composition::{Composition, compose};
use crate::{Activation, chunk_of_rows, has_kernels};

impl Activation {
    /// f(gate) ⊙ up, as SwiGLU and GeGLU have it (arXiv 2002.05202), of gate and up that are side
    /// by side, as [`adapted_linear`](crate::adapted_linear) returns them; so are their gradients.
    ///
    /// # Shapes
    /// - both: `[rows, 2 · width]`, each row the gate and then the value that it multiplies
    /// - output: `[rows, width]`
    ///
    /// # Panics
    /// If the width of the rows is odd.
    pub fn gate(self, both: Tensor<2>) -> Tensor<2> {
        gated(both, self.before_value())
    }

    /// [`Activation::gate`] of rows that are the value and then its gate, as diffusers' transformers
    /// have them.
    ///
    /// # Panics
    /// If the width of the rows is odd.
    pub fn gate_behind(self, both: Tensor<2>) -> Tensor<2> {
        gated(both, self.behind_value())
    }

    pub(crate) fn before_value(self) -> Gated {
        Gated {
            function: self,
            order: Order::GateFirst,
        }
    }

    pub(crate) fn behind_value(self) -> Gated {
        Gated {
            function: self,
            order: Order::ValueFirst,
        }
    }
}

/// A gate's function, and on which side of the value it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gated {
    function: Activation,
    order: Order,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    GateFirst,
    ValueFirst,
}

impl Gated {
    /// The two halves of a row as gate and value; the same halves the other way round give them back.
    fn sides<T>(self, [first, second]: [T; 2]) -> [T; 2] {
        match self.order {
            Order::GateFirst => [first, second],
            Order::ValueFirst => [second, first],
        }
    }

    #[cfg(feature = "gpu")]
    pub fn function(self) -> Activation {
        self.function
    }

    /// Whether the gate is behind the value.
    #[cfg(feature = "gpu")]
    pub fn is_behind(self) -> bool {
        self.order == Order::ValueFirst
    }

    fn composed(self, both: Tensor<2>) -> Tensor<2> {
        let [gate, up] = self.sides(halves(both));
        self.function.composed(gate) * up
    }
}

impl Composition for Gated {
    type Kept = Tensor<2>;

    fn forward(&self, mut inputs: Vec<Tensor<2>>, _: bool) -> (Tensor<2>, Tensor<2>) {
        let both = inputs.remove(0);
        (self.composed(both.clone()), both)
    }

    /// Of gate x and value u: g · u · f'(x) and g · f(x).
    fn backward(&self, both: Tensor<2>, gradient: Tensor<2>, _: &[bool]) -> Vec<Option<Tensor<2>>> {
        let [gate, up] = self.sides(halves(both));
        let d_gate = self.function.composed_slope(gate.clone()) * up * gradient.clone();
        let d_up = self.function.composed(gate) * gradient;
        vec![Some(Tensor::cat(self.sides([d_gate, d_up]).to_vec(), 1))]
    }
}

fn halves(both: Tensor<2>) -> [Tensor<2>; 2] {
    let [rows, width] = both.dims();
    let halves = [0..width / 2, width / 2..width];
    halves.map(|half| both.clone().slice([0..rows, half]))
}

fn gated(both: Tensor<2>, gated: Gated) -> Tensor<2> {
    let [_, width] = both.dims();
    assert!(width.is_multiple_of(2), "gate and up in {width}");
    if !has_kernels(&both.device()) {
        #[cfg(feature = "gpu")]
        if crate::computes_later(&both.device()) {
            return compose(vec![both], crate::gpu::LaunchedGate(gated));
        }
        return compose(vec![both], gated);
    }
    Tensor::from_dispatch(Dispatch::fused_gate(both.into_dispatch(), gated))
}

#[backend_extension(Autodiff, Flex)]
pub(crate) trait Gate: Backend {
    fn fused_gate(both: FloatTensor<Self>, gated: Gated) -> FloatTensor<Self>;
}

pub(crate) trait GateBackward: Backend {
    /// The gradients of gate x and up u, side by side: g · u · f'(x) and g · f(x).
    fn fused_gate_backward(
        both: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        gated: Gated,
    ) -> FloatTensor<Self>;
}

impl Gate for Flex {
    fn fused_gate(both: FlexTensor, gated: Gated) -> FlexTensor {
        let both = both.to_contiguous();
        let [rows, all] = [both.layout().shape()[0], both.layout().shape()[1]];
        let width = all / 2;
        let chunk = chunk_of_rows(all);
        let parts = values_of(&both).par_chunks(chunk);
        let write = |output: &mut [_], both: &[f32]| {
            for (output, both) in output.chunks_exact_mut(width).zip(both.chunks_exact(all)) {
                let [gate, up] = gated.sides(both.split_at(width).into());
                values(gate, gated.function, output);
                // SAFETY: a function has a value for each input.
                multiply(up, unsafe { assume_written(output) });
            }
        };
        // SAFETY: every row is written, and parts are whole rows.
        unsafe { filled_in_parts([rows, width], chunk / 2, parts, write) }
    }
}

impl GateBackward for Flex {
    fn fused_gate_backward(both: FlexTensor, gradient: FlexTensor, gated: Gated) -> FlexTensor {
        let (both, gradient) = (both.to_contiguous(), gradient.to_contiguous());
        let all = both.layout().shape()[1];
        let width = all / 2;
        let chunk = chunk_of_rows(all);
        let parts = values_of(&both)
            .par_chunks(chunk)
            .zip_eq(values_of(&gradient).par_chunks(chunk / 2));
        let shape = both.layout().shape().clone();
        let write = |output: &mut [_], (both, gradient): (&[f32], &[f32])| {
            let rows = both.chunks_exact(all).zip(gradient.chunks_exact(width));
            for (output, (both, gradient)) in output.chunks_exact_mut(all).zip(rows) {
                let [gate, up] = gated.sides(both.split_at(width).into());
                let [d_gate, d_up] = gated.sides(output.split_at_mut(width).into());
                slopes(gate, gated.function, d_gate);
                values(gate, gated.function, d_up);
                // SAFETY: a function has a slope and a value for each input.
                let (d_gate, d_up) = unsafe { (assume_written(d_gate), assume_written(d_up)) };
                multiply(up, d_gate);
                multiply(gradient, d_gate);
                multiply(gradient, d_up);
            }
        };
        // SAFETY: every row is written, and parts are whole rows.
        unsafe { filled_in_parts(shape, chunk, parts, write) }
    }
}

impl<B: Gate + GateBackward, C: CheckpointStrategy> Gate for Autodiff<B, C> {
    fn fused_gate(both: FloatTensor<Self>, gated: Gated) -> FloatTensor<Self> {
        Self::differentiable(
            [both],
            |[both], _| {
                let output = B::fused_gate(both.clone(), gated);
                (output, (both, gated))
            },
            |(both, gated), gradient, _| vec![Some(B::fused_gate_backward(both, gradient, gated))],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    fn drawn(rows: usize, cols: usize, phase: f32, device: &Device) -> Tensor<2> {
        let values: Vec<f32> = (0..rows * cols)
            .map(|i| (i as f32 * 0.37 + phase).sin() * 5.0)
            .collect();
        Tensor::from_data(TensorData::new(values, [rows, cols]), device)
    }

    #[test]
    fn a_gate_multiplies_and_passes_gradients_to_both_sides() {
        let device = Device::flex().autodiff();
        // More rows than a chunk holds, and a width that no vector divides.
        let (rows, width) = (700, 37);
        for function in [
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::QuickGelu,
            Activation::Silu,
            Activation::Relu,
        ] {
            for order in [Order::GateFirst, Order::ValueFirst] {
                let run = |operation: fn(Gated, Tensor<2>) -> Tensor<2>| {
                    let both = drawn(rows, 2 * width, 0.1, &device).require_grad();
                    let output = operation(Gated { function, order }, both.clone());
                    let weights = drawn(rows, width, 2.9, &device);
                    let gradients = (output.clone() * weights).sum().backward();
                    [output.inner(), both.grad(&gradients).expect("a gradient")]
                };
                let found = run(|function, both| gated(both, function));
                for (found, expected) in found.into_iter().zip(run(Gated::composed)) {
                    // f32 rounding of products up to 125.
                    let difference = (found - expected).abs().max().into_scalar::<f32>();
                    assert!(difference < 5e-5, "{function:?} {order:?}: {difference}");
                }
            }
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let device = Device::flex().autodiff();
        let (rows, width) = (3, 5);
        let weights = drawn(rows, width, 2.9, &device) * 0.2;
        let both = || drawn(rows, 2 * width, 0.4, &device) * 0.4;
        let loss = |both: Tensor<2>| (Activation::Silu.gate(both) * weights.clone()).sum();
        let tracked = both().require_grad();
        let gradients = loss(tracked.clone()).backward();
        let gradient = tracked.grad(&gradients).expect("a gradient");
        let gradient = gradient.into_data().try_to_vec::<f32>().expect("f32");
        for index in 0..rows * 2 * width {
            let shifted = |step: f32| {
                let mut shift = vec![0.0f32; rows * 2 * width];
                shift[index] = step;
                let shift = TensorData::new(shift, [rows, 2 * width]);
                let loss = loss(both() + Tensor::from_data(shift, &device));
                f64::from(loss.into_scalar::<f32>())
            };
            let expected = (shifted(1e-2) - shifted(-1e-2)) / 2e-2;
            // The third derivative times 1e-4, and losses of one in f32.
            let difference = (f64::from(gradient[index]) - expected).abs();
            assert!(difference < 1e-3, "{index}: {} {expected}", gradient[index]);
        }
    }
}
