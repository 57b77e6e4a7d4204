//! A step of AdamW over all parameters at once.

use burn::cubecl;
use burn::tensor::{Shape, Tensor};
use burn_cubecl::tensor::CubeTensor;
use cubecl::{calculate_cube_count_elemwise, prelude::*};

use crate::operation::{Operation, in_order, queued, run, tensor, unwritten};

/// The numbers of a step, bias corrections included.
#[derive(Clone, Copy, Debug)]
pub struct AdamWNumbers {
    /// β₁ and β₂, each with what it leaves of one.
    pub beta_1: [f32; 2],
    pub beta_2: [f32; 2],
    /// 1 / (1 − β₁ᵗ) and 1 / (1 − β₂ᵗ).
    pub corrections: [f32; 2],
    /// ε
    pub epsilon: f32,
    /// η
    pub rate: f32,
    /// 1 − η λ
    pub decay: f32,
}

/// The parameter and its moments after the step (arXiv 1711.05101):
/// m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g²,
/// θ ← θ − η λ θ − η · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε)
///
/// - state: θ, m and v, `[count]` each
/// - gradient: `[count]`
///
/// # Panics
/// If lengths differ.
pub fn adamw(state: [Tensor<1>; 3], gradient: Tensor<1>, numbers: AdamWNumbers) -> [Tensor<1>; 3] {
    let lengths = [&state[1], &state[2], &gradient].map(|tensor| tensor.dims());
    assert_eq!(
        lengths,
        [state[0].dims(); 3],
        "lengths of a parameter's state"
    );
    let inputs = state.into_iter().chain([gradient]).map(queued).collect();
    let mut found = run(numbers, inputs).into_iter().map(tensor);
    [(); 3].map(|()| found.next().expect("a parameter and two moments"))
}

impl Operation for AdamWNumbers {
    const NAME: &'static str = "adamw";

    fn outputs(&self, inputs: &[Shape]) -> Vec<Shape> {
        inputs[..3].to_vec()
    }

    fn run(&self, inputs: Vec<CubeTensor>) -> Vec<CubeTensor> {
        let inputs: Vec<CubeTensor> = inputs.into_iter().map(in_order).collect();
        let outputs: Vec<CubeTensor> = inputs[..3]
            .iter()
            .map(|input| unwritten(input, input.meta.shape().clone()))
            .collect();
        let count = inputs[0].meta.num_elements();
        let client = &inputs[0].client;
        let units = CubeDim::new(client, count);
        let argument = |tensor: &CubeTensor| tensor.clone().into_buffer_arg();
        // SAFETY: the kernel looks whether there is a parameter.
        unsafe {
            adamw_step::launch_unchecked(
                client,
                calculate_cube_count_elemwise(client, count, units),
                units,
                argument(&inputs[0]),
                argument(&inputs[1]),
                argument(&inputs[2]),
                argument(&inputs[3]),
                argument(&outputs[0]),
                argument(&outputs[1]),
                argument(&outputs[2]),
                count,
                self.beta_1[0],
                self.beta_1[1],
                self.beta_2[0],
                self.beta_2[1],
                self.corrections[0],
                self.corrections[1],
                self.epsilon,
                self.rate,
                self.decay,
            );
        }
        outputs
    }
}

#[cube(launch_unchecked)]
fn adamw_step(
    parameter: &[f32],
    first: &[f32],
    second: &[f32],
    gradient: &[f32],
    stepped: &mut [f32],
    stepped_first: &mut [f32],
    stepped_second: &mut [f32],
    count: usize,
    beta_1: f32,
    rest_1: f32,
    beta_2: f32,
    rest_2: f32,
    correction_1: f32,
    correction_2: f32,
    epsilon: f32,
    rate: f32,
    decay: f32,
) {
    let place = ABSOLUTE_POS;
    if place >= count {
        terminate!();
    }
    let slope = gradient[place];
    let mean = beta_1 * first[place] + rest_1 * slope;
    let square = beta_2 * second[place] + rest_2 * slope * slope;
    let direction = mean * correction_1 / ((square * correction_2).sqrt() + epsilon);
    stepped[place] = parameter[place] * decay - rate * direction;
    stepped_first[place] = mean;
    stepped_second[place] = square;
}
