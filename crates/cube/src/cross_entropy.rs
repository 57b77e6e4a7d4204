//! The cross-entropy of logits and its gradient, in one pass over each row.

use burn::cubecl;
use burn::tensor::{Int, IntDType, Shape, Tensor};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::operation::{Operation, in_order, queued, queued_numbers, run, tensor, unwritten};
use crate::reduction::{cubes_for, largest_of_units, sum_of_units, units_for};
use crate::tanh::tanh;

/// How losses follow from logits.
#[derive(Clone, Copy, Debug)]
pub struct LossRule {
    /// Logits x become c · tanh(x / c).
    pub softcap: Option<f32>,
    /// ε: the share of a target that is spread over all tokens.
    pub smoothing: f32,
}

/// (1 − ε) · −log p[target] + ε / vocabulary · Σ_v −log p[v] of each row, `[rows, 1]`, and if it is wanted its
/// gradient by the logits, which takes their place in memory if nothing else needs them.
///
/// - logits: `[rows, vocabulary]`
/// - targets: `[rows, 1]`, below the vocabulary
///
/// # Panics
/// If there are more or fewer targets than rows.
pub fn cross_entropy(
    logits: Tensor<2>,
    targets: Tensor<2, Int>,
    rule: LossRule,
    with_gradient: bool,
) -> (Tensor<2>, Option<Tensor<2>>) {
    let [rows, _] = logits.dims();
    assert_eq!(targets.dims(), [rows, 1], "a target for each row");
    let targets = queued_numbers(targets.cast(IntDType::I32));
    let operation = CrossEntropy {
        rule,
        with_gradient,
    };
    let mut found = run(operation, vec![queued(logits), targets]).into_iter();
    let losses = found.next().expect("losses");
    (tensor(losses), found.next().map(tensor))
}

#[derive(Debug)]
struct CrossEntropy {
    rule: LossRule,
    with_gradient: bool,
}

impl Operation for CrossEntropy {
    const NAME: &'static str = "cross_entropy";

    fn outputs(&self, inputs: &[Shape]) -> Vec<Shape> {
        let losses = Shape::new([inputs[0][0], 1]);
        match self.with_gradient {
            true => vec![losses, inputs[0].clone()],
            false => vec![losses],
        }
    }

    fn run(&self, inputs: Vec<CubeTensor>) -> Vec<CubeTensor> {
        let mut inputs = inputs.into_iter().map(in_order);
        let mut next = || inputs.next().expect("logits and targets");
        let (mut logits, targets) = (next(), next());
        if self.with_gradient && !logits.can_mut() {
            logits = in_order(logits.copy());
        }
        let [rows, vocabulary] = logits.meta.shape().dims();
        let losses = unwritten(&logits, [rows, 1]);
        let units = units_for(vocabulary);
        // SAFETY: the kernel stays within the rows, and targets are below the vocabulary.
        unsafe {
            loss_of_rows::launch_unchecked(
                &logits.client,
                cubes_for(rows),
                CubeDim::new_1d(units as u32),
                logits.clone().into_buffer_arg(),
                targets.into_buffer_arg(),
                losses.clone().into_buffer_arg(),
                rows,
                vocabulary,
                self.rule.softcap.unwrap_or(1.0),
                self.rule.smoothing,
                units,
                self.rule.softcap.is_some(),
                self.with_gradient,
            );
        }
        match self.with_gradient {
            true => vec![losses, logits],
            false => vec![losses],
        }
    }
}

#[cube]
fn capped(logit: f32, cap: f32, #[comptime] has_cap: bool) -> f32 {
    let mut value = logit;
    if comptime!(has_cap) {
        value = tanh(logit / cap) * cap;
    }
    value
}

/// Below every logit that there is.
const LOWEST: f32 = -3.0e38;

#[cube(launch_unchecked)]
fn loss_of_rows(
    logits: &mut [f32],
    targets: &[i32],
    losses: &mut [f32],
    rows: usize,
    vocabulary: usize,
    cap: f32,
    smoothing: f32,
    #[comptime] units: usize,
    #[comptime] has_cap: bool,
    #[comptime] with_gradient: bool,
) {
    let mut shared = Shared::<[f32]>::new_slice(units);
    // Cubes beyond the last row compute what the last one does, without writing.
    let row = clamp_max(CUBE_POS, rows - 1);
    let start = row * vocabulary;
    let unit = UNIT_POS as usize;
    let mut largest = f32::new(LOWEST);
    let mut total = 0.0f32;
    let mut place = unit;
    while place < vocabulary {
        let logit = capped(logits[start + place], cap, has_cap);
        if logit > largest {
            largest = logit;
        }
        total += logit;
        place += units;
    }
    let largest = largest_of_units(largest, &mut shared);
    let mut sum = 0.0f32;
    let mut place = unit;
    while place < vocabulary {
        sum += (capped(logits[start + place], cap, has_cap) - largest).exp();
        place += units;
    }
    let sum = sum_of_units(sum, &mut shared);
    let total = sum_of_units(total, &mut shared);
    // log Σ eˣ, so that log p = x − level.
    let level = largest + sum.ln();
    let target = targets[row] as usize;
    let of_target = capped(logits[start + target], cap, has_cap) - level;
    let spread = smoothing / vocabulary as f32;
    // The logit of the target has been read by all units before one of them writes its gradient.
    sync_cube();
    if CUBE_POS < rows {
        if unit == 0 {
            let everywhere = total - vocabulary as f32 * level;
            losses[row] = (smoothing - 1.0f32) * of_target - spread * everywhere;
        }
        if comptime!(with_gradient) {
            let mut place = unit;
            while place < vocabulary {
                let logit = capped(logits[start + place], cap, has_cap);
                let mut slope = (logit - level).exp() - spread;
                if place == target {
                    slope -= 1.0f32 - smoothing;
                }
                if comptime!(has_cap) {
                    slope *= 1.0f32 - logit * logit / (cap * cap);
                }
                logits[start + place] = slope;
                place += units;
            }
        }
    }
}
