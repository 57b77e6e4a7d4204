//! Rotary position embedding: pairs of values of each head turned by an angle of the position.

use std::mem::MaybeUninit;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::backward::Differentiable;
use crate::buffer::{filled_in_parts, values_of};
use crate::composed_turn::ComposedTurn;
use crate::composition::compose;
use crate::simd::vectorised;
use crate::{chunk_of_rows, has_kernels};

/// Turns value i and value i + d_head/2 of each head by the row's angle i (RoFormer, arXiv
/// 2104.09864, with the halves ordered as in Hugging Face checkpoints): (a, b) → (a·cos − b·sin,
/// b·cos + a·sin).
///
/// # Shapes
/// - input, output: `[rows, n · d_head]`; only the first `heads` heads are turned, so that values
///   may be next to queries and keys
/// - cosines, sines: `[rows, d_head / 2]`, constants
pub fn rotary(input: Tensor<2>, cosines: Tensor<2>, sines: Tensor<2>, heads: usize) -> Tensor<2> {
    if !has_kernels(&input.device()) {
        #[cfg(feature = "gpu")]
        if crate::computes_later(&input.device()) {
            let turn = crate::gpu::LaunchedTurn::new(cosines, sines, heads);
            return compose(vec![input], turn);
        }
        return compose(vec![input], ComposedTurn::new(cosines, sines, heads));
    }
    Tensor::from_dispatch(Dispatch::fused_rotary(
        input.into_dispatch(),
        cosines.into_dispatch(),
        sines.into_dispatch(),
        Turn {
            heads,
            direction: Direction::Forth,
        },
    ))
}

#[cfg(test)]
fn composed(input: Tensor<2>, cosines: Tensor<2>, sines: Tensor<2>) -> Tensor<2> {
    let [rows, width] = input.dims();
    let [_, half] = cosines.dims();
    let heads = width / (2 * half);
    let input = input.reshape([rows, heads, 2, half]);
    let part = |index: usize| {
        input
            .clone()
            .slice([0..rows, 0..heads, index..index + 1, 0..half])
    };
    let (first, second) = (part(0), part(1));
    let (cosines, sines) = (
        cosines.reshape([rows, 1, 1, half]),
        sines.reshape([rows, 1, 1, half]),
    );
    let turned = [
        first.clone() * cosines.clone() - second.clone() * sines.clone(),
        second * cosines + first * sines,
    ];
    Tensor::cat(turned.to_vec(), 2).reshape([rows, width])
}

/// Which way pairs are turned; the gradient is turned back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Forth,
    Back,
}

/// What is done to every row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    heads: usize,
    direction: Direction,
}

#[backend_extension(Autodiff, Flex)]
pub(crate) trait Rotary: Backend {
    fn fused_rotary(
        input: FloatTensor<Self>,
        cosines: FloatTensor<Self>,
        sines: FloatTensor<Self>,
        turn: Turn,
    ) -> FloatTensor<Self>;
}

impl Rotary for Flex {
    fn fused_rotary(
        input: FlexTensor,
        cosines: FlexTensor,
        sines: FlexTensor,
        turn: Turn,
    ) -> FlexTensor {
        let [input, cosines, sines] = [input, cosines, sines].map(|tensor| tensor.to_contiguous());
        let half = cosines.layout().shape()[1];
        let (count, width) = (input.layout().shape()[0], input.layout().shape()[1]);
        for angles in [&cosines, &sines] {
            assert_eq!(
                angles.layout().shape()[..],
                [count, half],
                "an angle for each pair of {count} rows"
            );
        }
        let (rows, angles) = (chunk_of_rows(width), chunk_of_rows(width) / width * half);
        assert!(
            turn.heads * 2 * half <= width,
            "{} heads in {width}",
            turn.heads
        );
        let parts = values_of(&input)
            .par_chunks(rows)
            .zip_eq(values_of(&cosines).par_chunks(angles))
            .zip_eq(values_of(&sines).par_chunks(angles));
        let write = |output: &mut [_], ((input, cosines), sines): ((&[f32], &[f32]), &[f32])| {
            turn_rows(input, cosines, sines, half, width, turn, output);
        };
        // SAFETY: every row has its angles, and is written whole.
        unsafe { filled_in_parts(input.layout().shape().clone(), rows, parts, write) }
    }
}

impl<B: Rotary, C: CheckpointStrategy> Rotary for Autodiff<B, C> {
    fn fused_rotary(
        input: FloatTensor<Self>,
        cosines: FloatTensor<Self>,
        sines: FloatTensor<Self>,
        turn: Turn,
    ) -> FloatTensor<Self> {
        let [cosines, sines] = [cosines, sines].map(|tensor| tensor.into_primitive());
        Self::differentiable(
            [input],
            |[input], _| {
                let output = B::fused_rotary(input, cosines.clone(), sines.clone(), turn);
                (output, (cosines, sines, turn.heads))
            },
            |(cosines, sines, heads), gradient, _| {
                let direction = Direction::Back;
                let turn = Turn { heads, direction };
                vec![Some(B::fused_rotary(gradient, cosines, sines, turn))]
            },
        )
    }
}

vectorised! {
    /// Writes as many rows as there are in all of them.
    fn turn_rows(
        input: &[f32],
        cosines: &[f32],
        sines: &[f32],
        half: usize,
        width: usize,
        turn: Turn,
        output: &mut [MaybeUninit<f32>],
    ) {
        let sign = match turn.direction {
            Direction::Forth => 1.0,
            Direction::Back => -1.0,
        };
        let angles = cosines.chunks_exact(half).zip(sines.chunks_exact(half));
        let rows = output.chunks_exact_mut(width).zip(input.chunks_exact(width));
        let turned = turn.heads * 2 * half;
        for ((output, input), (cosines, sines)) in rows.zip(angles) {
            let (output, output_rest) = output.split_at_mut(turned);
            let (input, input_rest) = input.split_at(turned);
            output_rest.write_copy_of_slice(input_rest);
            let heads = output.chunks_exact_mut(2 * half).zip(input.chunks_exact(2 * half));
            for (output, input) in heads {
                let (first, second) = input.split_at(half);
                let (first_out, second_out) = output.split_at_mut(half);
                for i in 0..half {
                    let (cos, sin) = (cosines[i], sign * sines[i]);
                    first_out[i].write(first[i] * cos - second[i] * sin);
                    second_out[i].write(second[i] * cos + first[i] * sin);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waves::of_size_two as values;
    use burn::tensor::Device;

    #[test]
    fn values_and_gradients_agree_with_the_composed_operation() {
        let device = Device::flex().autodiff();
        let (rows, heads, half) = (800, 3, 10);
        let angles = values(rows, half, 0.5, &device);
        let (cosines, sines) = (angles.clone().cos(), angles.sin());
        let weights = values(rows, heads * 2 * half, 1.9, &device);
        for turned in [heads, heads - 1] {
            let run = |operation: &dyn Fn(Tensor<2>, Tensor<2>, Tensor<2>) -> Tensor<2>| {
                let input = values(rows, heads * 2 * half, 0.0, &device).require_grad();
                let output = operation(input.clone(), cosines.clone(), sines.clone());
                let gradients = (output.clone() * weights.clone()).sum().backward();
                (output.inner(), input.grad(&gradients).unwrap())
            };
            let (output, gradient) =
                run(&|input, cosines, sines| rotary(input, cosines, sines, turned));
            let (value, slope) = run(&|input, cosines, sines| {
                let (width, turned) = (heads * 2 * half, turned * 2 * half);
                let part = |from, to| input.clone().slice([0..rows, from..to]);
                let first = composed(part(0, turned), cosines, sines);
                match turned == width {
                    true => first,
                    false => Tensor::cat(vec![first, part(turned, width)], 1),
                }
            });
            // Two products of values of size one.
            assert!((output - value).abs().max().into_scalar::<f32>() < 1e-6);
            assert!((gradient - slope).abs().max().into_scalar::<f32>() < 1e-5);
        }
    }

    #[test]
    fn turning_keeps_lengths_and_relative_angles() {
        let device = Device::flex();
        let row = values(1, 8, 0.3, &device);
        let turned = |angle: f32| {
            let angle = Tensor::<2>::full([1, 4], angle, &device);
            rotary(row.clone(), angle.clone().cos(), angle.sin(), 1)
        };
        let product = |left: Tensor<2>, right: Tensor<2>| (left * right).sum().into_scalar::<f32>();
        let length = product(row.clone(), row.clone());
        assert!((product(turned(0.8), turned(0.8)) - length).abs() < 1e-4);
        let difference = product(turned(0.8), turned(0.5)) - product(turned(1.8), turned(1.5));
        assert!(difference.abs() < 1e-4, "{difference}");
    }
}
