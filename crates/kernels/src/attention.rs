//! Multi-head attention over packed sequences: rows of several sequences, one after the other,
//! without padding between them; bidirectional, causal or within a sliding window.

use std::ops::Range;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::attention_rows::{Heads, Sequence, backward, forward};
use crate::attention_shape::AttentionShape;
use crate::padded_attention::composed;
use crate::{empty_like, has_kernels};

/// softmax(scale · Q Kᵀ) V, for every head of every sequence, over the keys that each query sees.
///
/// # Shapes
/// - query: `[rows, n_heads · d_head]`
/// - key, value: `[key_rows, n_key_heads · d_head]`
/// - output: `[rows, n_heads · d_head]`
///
/// # Panics
/// If the offsets do not cover the rows, a width is not a multiple of its heads, or a sequence has
/// fewer keys than queries.
pub fn attention(
    query: Tensor<2>,
    key: Tensor<2>,
    value: Tensor<2>,
    shape: &AttentionShape,
) -> Tensor<2> {
    let ([rows, width], [key_rows, key_width]) = (query.dims(), key.dims());
    let (n_heads, n_key_heads) = (shape.n_heads, shape.n_key_heads);
    assert_eq!(
        (shape.offsets.last(), shape.key_offsets.last()),
        (Some(&rows), Some(&key_rows)),
        "offsets against {rows} queries and {key_rows} keys"
    );
    assert!(
        n_heads.is_multiple_of(n_key_heads)
            && width.is_multiple_of(n_heads)
            && key_width * n_heads == width * n_key_heads,
        "{width} in {n_heads} heads, {key_width} in {n_key_heads}"
    );
    let lengths = |offsets: &[usize]| -> Vec<usize> {
        offsets.windows(2).map(|pair| pair[1] - pair[0]).collect()
    };
    let (queries, keys) = (lengths(&shape.offsets), lengths(&shape.key_offsets));
    assert!(
        queries.len() == keys.len() && queries.iter().zip(&keys).all(|(query, key)| query <= key),
        "a key for every query of a sequence"
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
        let [query, key, value] = [&query, &key, &value].map(|tensor| tensor.storage::<f32>());
        let heads = Heads::new(&shape, query.len());
        let outputs = split(output.storage_mut::<f32>(), &shape.offsets, heads.width());
        let tasks: Vec<_> = shape.sequences().zip(outputs).collect();
        tasks
            .into_par_iter()
            .for_each(|((rows, key_rows), output)| {
                let sequence = Sequence {
                    query: &query[scaled(rows, heads.width())],
                    key: &key[scaled(key_rows.clone(), heads.key_width())],
                    value: &value[scaled(key_rows, heads.key_width())],
                };
                forward(&sequence, &heads, output);
            });
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
        let [query, key, value, gradient] = [0, 1, 2, 3].map(|i| inputs[i].storage::<f32>());
        let heads = Heads::new(shape, query.len());
        let (width, key_width) = (heads.width(), heads.key_width());
        let d_queries = split(d_query.storage_mut::<f32>(), &shape.offsets, width);
        let d_keys = split(d_key.storage_mut::<f32>(), &shape.key_offsets, key_width);
        let d_values = split(d_value.storage_mut::<f32>(), &shape.key_offsets, key_width);
        let tasks: Vec<_> = shape
            .sequences()
            .zip(d_queries)
            .zip(d_keys.into_iter().zip(d_values))
            .collect();
        tasks
            .into_par_iter()
            .for_each(|(((rows, key_rows), d_query), (d_key, d_value))| {
                let sequence = Sequence {
                    query: &query[scaled(rows.clone(), width)],
                    key: &key[scaled(key_rows.clone(), key_width)],
                    value: &value[scaled(key_rows, key_width)],
                };
                let gradient = &gradient[scaled(rows, width)];
                backward(&sequence, gradient, &heads, d_query, d_key, d_value);
            });
        AttentionGradients {
            query: d_query,
            key: d_key,
            value: d_value,
        }
    }
}

/// Each sequence's part of a tensor of rows.
fn split<'a>(mut rest: &'a mut [f32], offsets: &[usize], width: usize) -> Vec<&'a mut [f32]> {
    offsets
        .windows(2)
        .map(|pair| {
            let (part, remaining) =
                std::mem::take(&mut rest).split_at_mut((pair[1] - pair[0]) * width);
            rest = remaining;
            part
        })
        .collect()
}

/// The numbers of a range of rows.
fn scaled(rows: Range<usize>, width: usize) -> Range<usize> {
    rows.start * width..rows.end * width
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
#[path = "attention_tests.rs"]
mod tests;
