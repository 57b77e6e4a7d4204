//! Normalisation of rows, forward and backward, each in one pass.

use burn::cubecl;
use burn::tensor::{Shape, Tensor};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::operation::{Operation, in_order, queued, run, tensor, unwritten};
use crate::reduction::{cubes_for, sum_of_units, units_for};

/// Groups of as many values as γ has, of rows `[rows, n · d]`.
#[derive(Clone, Debug)]
pub struct Norm {
    /// `[1, d]`
    pub gamma: Tensor<2>,
    /// `[1, d]`
    pub beta: Option<Tensor<2>>,
    /// Whether the mean is subtracted.
    pub centred: bool,
    /// ε
    pub epsilon: f32,
}

/// γ ⊙ (x − mean) / √(variance + ε) + β of each group; without the mean if it is not centred.
///
/// - input, output: `[rows, n · d]`
///
/// # Panics
/// If rows are no whole number of groups.
pub fn norm(input: Tensor<2>, norm: Norm) -> Tensor<2> {
    let ([_, width], [_, group]) = (input.dims(), norm.gamma.dims());
    assert!(width.is_multiple_of(group), "groups of {group} in {width}");
    let mut inputs = vec![queued(input), queued(norm.gamma)];
    let has_beta = norm.beta.is_some();
    inputs.extend(norm.beta.map(queued));
    let rule = Rule {
        centred: norm.centred,
        epsilon: norm.epsilon,
    };
    tensor(run(Forward { rule, has_beta }, inputs).remove(0))
}

/// The gradient of [`norm`] by its input. With x̂ the normalised input, h = γ ⊙ g and means over the group:
/// dx = (h − mean(h) − x̂ · mean(h ⊙ x̂)) / √(variance + ε), without mean(h) if it is not centred.
pub fn norm_gradient(input: Tensor<2>, gradient: Tensor<2>, norm: Norm) -> Tensor<2> {
    let rule = Rule {
        centred: norm.centred,
        epsilon: norm.epsilon,
    };
    let inputs = [input, norm.gamma, gradient].map(queued);
    tensor(run(Backward { rule }, inputs.into()).remove(0))
}

#[derive(Clone, Copy, Debug)]
struct Rule {
    centred: bool,
    epsilon: f32,
}

#[derive(Debug)]
struct Forward {
    rule: Rule,
    has_beta: bool,
}

#[derive(Debug)]
struct Backward {
    rule: Rule,
}

/// How many groups there are, and how long they are.
fn groups(input: &CubeTensor, gamma: &CubeTensor) -> [usize; 2] {
    let width = gamma.meta.num_elements();
    [input.meta.num_elements() / width, width]
}

impl Operation for Forward {
    const NAME: &'static str = "norm";

    fn outputs(&self, inputs: &[Shape]) -> Vec<Shape> {
        vec![inputs[0].clone()]
    }

    fn run(&self, inputs: Vec<CubeTensor>) -> Vec<CubeTensor> {
        let inputs: Vec<CubeTensor> = inputs.into_iter().map(in_order).collect();
        let (input, gamma) = (&inputs[0], &inputs[1]);
        let [count, width] = groups(input, gamma);
        let output = unwritten(input, input.meta.shape().clone());
        let beta = inputs.get(2).unwrap_or(gamma);
        let units = units_for(width);
        // SAFETY: the kernel stays within the groups, which are as many and as long as it is told.
        unsafe {
            norm_forward::launch_unchecked(
                &input.client,
                cubes_for(count),
                CubeDim::new_1d(units as u32),
                input.clone().into_buffer_arg(),
                gamma.clone().into_buffer_arg(),
                beta.clone().into_buffer_arg(),
                output.clone().into_buffer_arg(),
                count,
                width,
                self.rule.epsilon,
                units,
                self.rule.centred,
                self.has_beta,
            );
        }
        vec![output]
    }
}

impl Operation for Backward {
    const NAME: &'static str = "norm_gradient";

    fn outputs(&self, inputs: &[Shape]) -> Vec<Shape> {
        vec![inputs[0].clone()]
    }

    fn run(&self, inputs: Vec<CubeTensor>) -> Vec<CubeTensor> {
        let inputs: Vec<CubeTensor> = inputs.into_iter().map(in_order).collect();
        let (input, gamma, gradient) = (&inputs[0], &inputs[1], &inputs[2]);
        let [count, width] = groups(input, gamma);
        let output = unwritten(input, input.meta.shape().clone());
        let units = units_for(width);
        // SAFETY: as above.
        unsafe {
            norm_backward::launch_unchecked(
                &input.client,
                cubes_for(count),
                CubeDim::new_1d(units as u32),
                input.clone().into_buffer_arg(),
                gamma.clone().into_buffer_arg(),
                gradient.clone().into_buffer_arg(),
                output.clone().into_buffer_arg(),
                count,
                width,
                self.rule.epsilon,
                units,
                self.rule.centred,
            );
        }
        vec![output]
    }
}

/// The mean of a group, or zero if it is not centred.
#[cube]
fn mean(
    input: &[f32],
    start: usize,
    width: usize,
    shared: &mut Shared<[f32]>,
    #[comptime] units: usize,
    #[comptime] centred: bool,
) -> f32 {
    let mut mean = 0.0f32;
    if comptime!(centred) {
        let mut sum = 0.0f32;
        let mut place = UNIT_POS as usize;
        while place < width {
            sum += input[start + place];
            place += units;
        }
        mean = sum_of_units(sum, shared) / width as f32;
    }
    mean
}

/// 1 / √(variance + ε)
#[cube]
fn inverse(
    input: &[f32],
    start: usize,
    width: usize,
    mean: f32,
    epsilon: f32,
    shared: &mut Shared<[f32]>,
    #[comptime] units: usize,
) -> f32 {
    let mut sum = 0.0f32;
    let mut place = UNIT_POS as usize;
    while place < width {
        let distance = input[start + place] - mean;
        sum += distance * distance;
        place += units;
    }
    let variance = sum_of_units(sum, shared) / width as f32;
    1.0f32 / (variance + epsilon).sqrt()
}

#[cube(launch_unchecked)]
fn norm_forward(
    input: &[f32],
    gamma: &[f32],
    beta: &[f32],
    output: &mut [f32],
    count: usize,
    width: usize,
    epsilon: f32,
    #[comptime] units: usize,
    #[comptime] centred: bool,
    #[comptime] has_beta: bool,
) {
    let mut shared = Shared::<[f32]>::new_slice(units);
    let start = clamp_max(CUBE_POS, count - 1) * width;
    let mean = mean(input, start, width, &mut shared, units, centred);
    let inverse = inverse(input, start, width, mean, epsilon, &mut shared, units);
    let mut place = UNIT_POS as usize;
    while place < width {
        let mut value = (input[start + place] - mean) * inverse * gamma[place];
        if comptime!(has_beta) {
            value += beta[place];
        }
        output[start + place] = value;
        place += units;
    }
}

#[cube(launch_unchecked)]
fn norm_backward(
    input: &[f32],
    gamma: &[f32],
    gradient: &[f32],
    output: &mut [f32],
    count: usize,
    width: usize,
    epsilon: f32,
    #[comptime] units: usize,
    #[comptime] centred: bool,
) {
    let mut shared = Shared::<[f32]>::new_slice(units);
    let start = clamp_max(CUBE_POS, count - 1) * width;
    let mean = mean(input, start, width, &mut shared, units, centred);
    let inverse = inverse(input, start, width, mean, epsilon, &mut shared, units);
    let mut along = 0.0f32;
    let mut slopes = 0.0f32;
    let mut place = UNIT_POS as usize;
    while place < width {
        let slope = gradient[start + place] * gamma[place];
        along += slope * (input[start + place] - mean) * inverse;
        slopes += slope;
        place += units;
    }
    let along = sum_of_units(along, &mut shared) / width as f32;
    let mut level = 0.0f32;
    if comptime!(centred) {
        level = sum_of_units(slopes, &mut shared) / width as f32;
    }
    let mut place = UNIT_POS as usize;
    while place < width {
        let normalised = (input[start + place] - mean) * inverse;
        let slope = gradient[start + place] * gamma[place];
        output[start + place] = (slope - level - normalised * along) * inverse;
        place += units;
    }
}
