//! The gate of a gated linear unit.

use burn::cubecl;
use burn::tensor::{Shape, Tensor};
use burn_cubecl::tensor::CubeTensor;
use cubecl::{calculate_cube_count_elemwise, prelude::*};

use crate::operation::{Operation, in_order, queued, run, tensor, unwritten};
use crate::tanh::tanh;

/// A nonlinearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// x · Φ(x)
    Gelu,
    /// x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))
    GeluTanh,
    /// x · σ(1.702 x)
    QuickGelu,
    /// x · σ(x)
    Silu,
    /// max(x, 0)
    Relu,
}

/// f(x) ⊙ u of rows that are x and u, or u and x, side by side.
///
/// - both: `[rows, 2 · width]`
/// - behind: whether the gate x is behind the value u
/// - output: `[rows, width]`
pub fn gate(both: Tensor<2>, function: Function, behind: bool) -> Tensor<2> {
    let operation = Forward(Gate { function, behind });
    tensor(run(operation, vec![queued(both)]).remove(0))
}

/// The gradient of [`gate`] by both sides: g · u · f'(x) and g · f(x).
pub fn gate_gradient(
    both: Tensor<2>,
    gradient: Tensor<2>,
    function: Function,
    behind: bool,
) -> Tensor<2> {
    let operation = Backward(Gate { function, behind });
    tensor(run(operation, [both, gradient].map(queued).into()).remove(0))
}

#[derive(Clone, Copy, Debug)]
struct Gate {
    function: Function,
    behind: bool,
}

#[derive(Debug)]
struct Forward(Gate);

#[derive(Debug)]
struct Backward(Gate);

impl Operation for Forward {
    const NAME: &'static str = "gate";

    fn outputs(&self, inputs: &[Shape]) -> Vec<Shape> {
        let [rows, width] = inputs[0].dims();
        vec![Shape::new([rows, width / 2])]
    }

    fn run(&self, inputs: Vec<CubeTensor>) -> Vec<CubeTensor> {
        let inputs = inputs.into_iter().map(in_order).collect::<Vec<_>>();
        let both = &inputs[0];
        let [rows, width] = both.meta.shape().dims();
        let output = unwritten(both, [rows, width / 2]);
        self.0.launch(both, both, &output, false);
        vec![output]
    }
}

impl Operation for Backward {
    const NAME: &'static str = "gate_gradient";

    fn outputs(&self, inputs: &[Shape]) -> Vec<Shape> {
        vec![inputs[0].clone()]
    }

    fn run(&self, inputs: Vec<CubeTensor>) -> Vec<CubeTensor> {
        let inputs = inputs.into_iter().map(in_order).collect::<Vec<_>>();
        let (both, gradient) = (&inputs[0], &inputs[1]);
        let output = unwritten(both, both.meta.shape().clone());
        self.0.launch(both, gradient, &output, true);
        vec![output]
    }
}

impl Gate {
    fn launch(self, both: &CubeTensor, gradient: &CubeTensor, output: &CubeTensor, back: bool) {
        let [rows, all] = both.meta.shape().dims();
        let pairs = rows * all / 2;
        let units = CubeDim::new(&both.client, pairs);
        // SAFETY: the kernel looks whether there is a pair.
        unsafe {
            gate_pairs::launch_unchecked(
                &both.client,
                calculate_cube_count_elemwise(&both.client, pairs, units),
                units,
                both.clone().into_buffer_arg(),
                gradient.clone().into_buffer_arg(),
                output.clone().into_buffer_arg(),
                pairs,
                all / 2,
                self.function,
                self.behind,
                back,
            );
        }
    }
}

#[cube(launch_unchecked)]
fn gate_pairs(
    both: &[f32],
    gradient: &[f32],
    output: &mut [f32],
    pairs: usize,
    width: usize,
    #[comptime] function: Function,
    #[comptime] behind: bool,
    #[comptime] back: bool,
) {
    if ABSOLUTE_POS >= pairs {
        terminate!();
    }
    let row = ABSOLUTE_POS / width;
    let place = row * 2 * width + ABSOLUTE_POS % width;
    let mut of_gate = place;
    let mut of_value = place + width;
    if comptime!(behind) {
        of_gate = place + width;
        of_value = place;
    }
    let x = both[of_gate];
    let value = function_of(x, function);
    if comptime!(back) {
        let slope = gradient[ABSOLUTE_POS];
        output[of_gate] = slope * both[of_value] * slope_of(x, function);
        output[of_value] = slope * value;
    } else {
        output[ABSOLUTE_POS] = value * both[of_value];
    }
}

/// 1 / √2
const HALF_ROOT: f32 = std::f32::consts::FRAC_1_SQRT_2;
/// 1 / √(2π)
const NORMAL_DENSITY: f32 = 0.398_942_3;
/// √(2/π)
const TANH_SCALE: f32 = 0.797_884_6;
const TANH_CUBIC: f32 = 0.044_715;
const QUICK: f32 = 1.702;

#[cube]
fn sigmoid(x: f32) -> f32 {
    1.0f32 / (1.0f32 + (-x).exp())
}

#[cube]
fn function_of(x: f32, #[comptime] function: Function) -> f32 {
    match comptime!(function) {
        Function::Gelu => x * 0.5f32 * (1.0f32 + Erf::erf(x * HALF_ROOT)),
        Function::GeluTanh => {
            let inner = TANH_SCALE * (x + TANH_CUBIC * x * x * x);
            0.5f32 * x * (1.0f32 + tanh(inner))
        }
        Function::QuickGelu => x * sigmoid(x * QUICK),
        Function::Silu => x * sigmoid(x),
        Function::Relu => clamp_min(x, 0.0f32),
    }
}

#[cube]
fn slope_of(x: f32, #[comptime] function: Function) -> f32 {
    match comptime!(function) {
        Function::Gelu => {
            let below = 0.5f32 * (1.0f32 + Erf::erf(x * HALF_ROOT));
            below + x * NORMAL_DENSITY * (x * x * -0.5f32).exp()
        }
        Function::GeluTanh => {
            let tanh = tanh(TANH_SCALE * (x + TANH_CUBIC * x * x * x));
            let inner = TANH_SCALE * (1.0f32 + 3.0f32 * TANH_CUBIC * x * x);
            0.5f32 * (1.0f32 + tanh) + 0.5f32 * x * (1.0f32 - tanh * tanh) * inner
        }
        Function::QuickGelu => {
            let sigmoid = sigmoid(x * QUICK);
            sigmoid * (1.0f32 + QUICK * x * (1.0f32 - sigmoid))
        }
        Function::Silu => {
            let sigmoid = sigmoid(x);
            sigmoid * (1.0f32 + x * (1.0f32 - sigmoid))
        }
        Function::Relu => {
            let mut slope = 0.0f32;
            if x > 0.0f32 {
                slope = 1.0f32;
            }
            slope
        }
    }
}
