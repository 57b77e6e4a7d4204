//! Rotary position embedding.

use burn::cubecl;
use burn::tensor::{Shape, Tensor};
use burn_cubecl::tensor::CubeTensor;
use cubecl::{calculate_cube_count_elemwise, prelude::*};

use crate::operation::{Operation, in_order, queued, run, tensor, unwritten};

/// Which heads of a row are turned, and which way.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// How many of the first heads are turned; the others stay as they are.
    pub heads: usize,
    /// Whether pairs are turned back, as gradients are.
    pub back: bool,
}

/// (a, b) → (a·cos − b·sin, b·cos + a·sin) for value i and value i + d_head/2 of each head (arXiv 2104.09864).
///
/// - input, output: `[rows, n · d_head]`
/// - cosines, sines: `[rows, d_head / 2]`
///
/// # Panics
/// If there is not an angle for each pair of each row, or there are fewer heads.
pub fn rotary(input: Tensor<2>, cosines: Tensor<2>, sines: Tensor<2>, turn: Turn) -> Tensor<2> {
    let ([rows, width], [_, half]) = (input.dims(), cosines.dims());
    for angles in [&cosines, &sines] {
        assert_eq!(
            angles.dims(),
            [rows, half],
            "an angle for each pair of {rows} rows"
        );
    }
    assert!(
        width.is_multiple_of(2 * half) && turn.heads * 2 * half <= width,
        "{} heads of {} in {width}",
        turn.heads,
        2 * half
    );
    let inputs = [input, cosines, sines].map(queued);
    tensor(run(turn, inputs.into()).remove(0))
}

impl Operation for Turn {
    const NAME: &'static str = "rotary";

    fn outputs(&self, inputs: &[Shape]) -> Vec<Shape> {
        vec![inputs[0].clone()]
    }

    fn run(&self, inputs: Vec<CubeTensor>) -> Vec<CubeTensor> {
        let inputs: Vec<CubeTensor> = inputs.into_iter().map(in_order).collect();
        let (input, cosines, sines) = (&inputs[0], &inputs[1], &inputs[2]);
        let [_, width] = input.meta.shape().dims();
        let [_, half] = cosines.meta.shape().dims();
        let output = unwritten(input, input.meta.shape().clone());
        let pairs = input.meta.num_elements() / 2;
        let units = CubeDim::new(&input.client, pairs);
        // SAFETY: the kernel looks whether there is a pair, and a row has an angle for each.
        unsafe {
            turn_pairs::launch_unchecked(
                &input.client,
                calculate_cube_count_elemwise(&input.client, pairs, units),
                units,
                input.clone().into_buffer_arg(),
                cosines.clone().into_buffer_arg(),
                sines.clone().into_buffer_arg(),
                output.clone().into_buffer_arg(),
                pairs,
                width,
                half,
                self.heads * half,
                if self.back { -1.0 } else { 1.0 },
            );
        }
        vec![output]
    }
}

/// - turned: how many pairs of a row are turned
#[cube(launch_unchecked)]
fn turn_pairs(
    input: &[f32],
    cosines: &[f32],
    sines: &[f32],
    output: &mut [f32],
    pairs: usize,
    width: usize,
    half: usize,
    turned: usize,
    sign: f32,
) {
    if ABSOLUTE_POS >= pairs {
        terminate!();
    }
    let row = ABSOLUTE_POS / (width / 2);
    let pair = ABSOLUTE_POS % (width / 2);
    let angle = pair % half;
    let first = row * width + pair / half * 2 * half + angle;
    let a = input[first];
    let b = input[first + half];
    if pair < turned {
        let cosine = cosines[row * half + angle];
        let sine = sines[row * half + angle] * sign;
        output[first] = a * cosine - b * sine;
        output[first + half] = b * cosine + a * sine;
    } else {
        output[first] = a;
        output[first + half] = b;
    }
}
