//! Multi-head attention over packed sequences: rows of several sequences, one after the other,
//! without padding between them.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use rayon::prelude::*;

use crate::attention_rows::{backward, backward_scratch, forward, forward_scratch};
use crate::{empty_like, has_kernels};

/// Which rows belong to which sequence, and how a row is split into heads.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionShape {
    /// Sequence i holds the rows `offsets[i]..offsets[i + 1]`.
    pub offsets: Arc<[usize]>,
    pub n_heads: usize,
    /// The factor on the scores, usually 1 / √d_head.
    pub scale: f32,
}

/// softmax(scale · Q Kᵀ) V, for every head of every sequence; each row attends to all rows of its
/// own sequence.
///
/// # Shapes
/// - query, key, value: `[rows, n_heads · d_head]`
/// - output: `[rows, n_heads · d_head]`
///
/// # Panics
/// If the offsets do not cover the rows or the width is not a multiple of the heads.
pub fn attention(
    query: Tensor<2>,
    key: Tensor<2>,
    value: Tensor<2>,
    shape: &AttentionShape,
) -> Tensor<2> {
    let [rows, width] = query.dims();
    assert_eq!(
        shape.offsets.last(),
        Some(&rows),
        "offsets against {rows} rows"
    );
    assert!(
        width.is_multiple_of(shape.n_heads),
        "{width} in {} heads",
        shape.n_heads
    );
    if !has_kernels(&query.device()) {
        return composed(query, key, value, shape);
    }
    Tensor::from_dispatch(Dispatch::fused_attention(
        query.into_dispatch(),
        key.into_dispatch(),
        value.into_dispatch(),
        shape.clone(),
    ))
}

/// The same through padding: rows are gathered into `[sequences, longest]`, padding is masked out
/// of the scores, and the rows that exist are gathered back.
fn composed(
    query: Tensor<2>,
    key: Tensor<2>,
    value: Tensor<2>,
    shape: &AttentionShape,
) -> Tensor<2> {
    let [_, width] = query.dims();
    let device = query.device();
    let lengths: Vec<usize> = shape
        .offsets
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .collect();
    let (sequences, longest) = (lengths.len(), lengths.iter().copied().max().unwrap_or(0));
    let d_head = width / shape.n_heads;
    let mut padded = Vec::with_capacity(sequences * longest);
    let mut masked = Vec::with_capacity(sequences * longest);
    let mut present = Vec::new();
    for (sequence, &length) in lengths.iter().enumerate() {
        for position in 0..longest {
            padded.push((shape.offsets[sequence] + position.min(length - 1)) as i32);
            masked.push(if position < length {
                0.0f32
            } else {
                f32::MIN / 2.0
            });
            if position < length {
                present.push((sequence * longest + position) as i32);
            }
        }
    }
    let padded = indices(padded, &device);
    let heads = |rows: Tensor<2>| {
        rows.select(0, padded.clone())
            .reshape([sequences, longest, shape.n_heads, d_head])
            .swap_dims(1, 2)
    };
    let mask = Tensor::<4>::from_data(TensorData::new(masked, [sequences, 1, 1, longest]), &device);
    let scores = heads(query).matmul(heads(key).swap_dims(2, 3)) * shape.scale + mask;
    activation::softmax(scores, 3)
        .matmul(heads(value))
        .swap_dims(1, 2)
        .reshape([sequences * longest, width])
        .select(0, indices(present, &device))
}

fn indices(values: Vec<i32>, device: &Device) -> Tensor<1, Int> {
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

/// The gradients of query, key and value.
pub(crate) struct AttentionGradients<B: Backend> {
    query: FloatTensor<B>,
    key: FloatTensor<B>,
    value: FloatTensor<B>,
}

#[backend_extension(Autodiff, Flex)]
pub(crate) trait AttentionForward: Backend {
    fn fused_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        shape: AttentionShape,
    ) -> FloatTensor<Self>;
}

pub(crate) trait AttentionBackward: Backend {
    fn fused_attention_backward(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        shape: &AttentionShape,
    ) -> AttentionGradients<Self>;
}

impl AttentionForward for Flex {
    fn fused_attention(
        query: FlexTensor,
        key: FlexTensor,
        value: FlexTensor,
        shape: AttentionShape,
    ) -> FlexTensor {
        let [query, key, value] = [query, key, value].map(|tensor| tensor.to_contiguous());
        let mut output = empty_like(&query);
        let sources = [&query, &key, &value].map(|tensor| tensor.storage::<f32>());
        let width = sources[0].len() / shape.offsets[shape.offsets.len() - 1].max(1);
        by_sequence(
            [output.storage_mut::<f32>()],
            &shape,
            width,
            |rows, [output]| {
                let [query, key, value] = sources.map(|source| &source[rows.clone()]);
                let mut scratch = vec![0.0; forward_scratch(rows.len() / width, width, &shape)];
                forward(
                    query,
                    key,
                    value,
                    width,
                    shape.n_heads,
                    shape.scale,
                    &mut scratch,
                    output,
                );
            },
        );
        output
    }
}

impl AttentionBackward for Flex {
    fn fused_attention_backward(
        query: FlexTensor,
        key: FlexTensor,
        value: FlexTensor,
        gradient: FlexTensor,
        shape: &AttentionShape,
    ) -> AttentionGradients<Self> {
        let inputs = [query, key, value, gradient].map(|tensor| tensor.to_contiguous());
        let [mut d_query, mut d_key, mut d_value] = [0, 1, 2].map(|i| empty_like(&inputs[i]));
        let sources = [0, 1, 2, 3].map(|i| inputs[i].storage::<f32>());
        let width = sources[0].len() / shape.offsets[shape.offsets.len() - 1].max(1);
        let outputs = [
            d_query.storage_mut::<f32>(),
            d_key.storage_mut::<f32>(),
            d_value.storage_mut::<f32>(),
        ];
        by_sequence(outputs, shape, width, |rows, [d_query, d_key, d_value]| {
            let [query, key, value, gradient] = sources.map(|source| &source[rows.clone()]);
            let mut scratch = vec![0.0; backward_scratch(rows.len() / width, width, shape)];
            backward(
                query,
                key,
                value,
                gradient,
                width,
                shape.n_heads,
                shape.scale,
                &mut scratch,
                d_query,
                d_key,
                d_value,
            );
        });
        AttentionGradients {
            query: d_query,
            key: d_key,
            value: d_value,
        }
    }
}

/// Runs `work` on every sequence in parallel, with the range of its numbers and its part of each
/// output.
fn by_sequence<const N: usize>(
    outputs: [&mut [f32]; N],
    shape: &AttentionShape,
    width: usize,
    work: impl Fn(std::ops::Range<usize>, [&mut [f32]; N]) + Sync,
) {
    let mut rest = outputs;
    let mut tasks = Vec::with_capacity(shape.offsets.len() - 1);
    for pair in shape.offsets.windows(2) {
        let numbers = pair[0] * width..pair[1] * width;
        let parts = std::array::from_fn(|i| {
            let (part, remaining) = std::mem::take(&mut rest[i]).split_at_mut(numbers.len());
            rest[i] = remaining;
            part
        });
        tasks.push((numbers, parts));
    }
    tasks
        .into_par_iter()
        .for_each(|(numbers, parts)| work(numbers, parts));
}

impl<B: AttentionForward + AttentionBackward, C: CheckpointStrategy> AttentionForward
    for Autodiff<B, C>
{
    fn fused_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        shape: AttentionShape,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Attention;

        impl<B: AttentionBackward> Backward<B, 3> for Attention {
            type State = ([FloatTensor<B>; 3], AttentionShape);

            fn backward(
                self,
                ops: Ops<Self::State, 3>,
                gradients: &mut Gradients,
                _: &mut Checkpointer,
            ) {
                let gradient = gradients.consume::<B>(&ops.node);
                let ([query, key, value], shape) = ops.state;
                let found = B::fused_attention_backward(query, key, value, gradient, &shape);
                let found = [found.query, found.key, found.value];
                for (parent, gradient) in ops.parents.into_iter().zip(found) {
                    if let Some(parent) = parent {
                        gradients.register::<B>(parent.id, gradient);
                    }
                }
            }
        }

        let nodes = [query.node(), key.node(), value.node()];
        let [query, key, value] = [query, key, value].map(|tensor| tensor.into_primitive());
        match Attention.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(preparation) => {
                let inputs = [query.clone(), key.clone(), value.clone()];
                let output = B::fused_attention(query, key, value, shape.clone());
                preparation.finish((inputs, shape), output)
            }
            OpsKind::UnTracked(preparation) => {
                preparation.finish(B::fused_attention(query, key, value, shape))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(rows: usize, width: usize, phase: f32, device: &Device) -> Tensor<2> {
        let values: Vec<f32> = (0..rows * width)
            .map(|i| (i as f32 * 0.73 + phase).sin() * 1.5)
            .collect();
        Tensor::from_data(TensorData::new(values, [rows, width]), device)
    }

    /// Lengths on both sides of a vector, of a register block and of a block of queries.
    const LENGTHS: [usize; 5] = [1, 7, 70, 131, 16];

    fn shape(n_heads: usize) -> AttentionShape {
        let mut offsets = vec![0];
        for length in LENGTHS {
            offsets.push(offsets[offsets.len() - 1] + length);
        }
        AttentionShape {
            offsets: offsets.into(),
            n_heads,
            scale: 0.37,
        }
    }

    #[test]
    fn values_and_gradients_agree_with_the_composed_operation() {
        let device = Device::flex().autodiff();
        let rows = LENGTHS.iter().sum();
        for (n_heads, width) in [(3, 15), (2, 64)] {
            let shape = shape(n_heads);
            let weights = numbers(rows, width, 3.0, &device);
            let run =
                |operation: fn(Tensor<2>, Tensor<2>, Tensor<2>, &AttentionShape) -> Tensor<2>| {
                    let inputs = [0.0, 1.0, 2.0]
                        .map(|phase| numbers(rows, width, phase, &device).require_grad());
                    let [query, key, value] = inputs.clone();
                    let output = operation(query, key, value, &shape);
                    let gradients = (output.clone() * weights.clone()).sum().backward();
                    let [query, key, value] =
                        inputs.map(|input| input.grad(&gradients).expect("a gradient"));
                    [output.inner(), query, key, value]
                };
            for (found, expected) in run(attention).into_iter().zip(run(composed)) {
                // f32 sums over up to 131 terms of size one, in another order.
                let difference = (found - expected).abs().max().into_scalar::<f32>();
                assert!(difference < 5e-5, "{difference}");
            }
        }
    }

    #[test]
    fn a_sequence_does_not_see_its_neighbours() {
        let device = Device::flex();
        let (rows, width) = (LENGTHS.iter().sum::<usize>(), 12);
        let shape = shape(3);
        let [query, key, value] = [0.0, 1.0, 2.0].map(|phase| numbers(rows, width, phase, &device));
        let together = attention(query.clone(), key.clone(), value.clone(), &shape);
        let (start, end) = (shape.offsets[2], shape.offsets[3]);
        let part = |rows: Tensor<2>| rows.slice([start..end, 0..width]);
        let alone = attention(
            part(query),
            part(key),
            part(value),
            &AttentionShape {
                offsets: [0, end - start].into(),
                ..shape.clone()
            },
        );
        let difference = (part(together) - alone).abs().max().into_scalar::<f32>();
        assert_eq!(difference, 0.0);
    }
}
