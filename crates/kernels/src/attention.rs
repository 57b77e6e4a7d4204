//! Multi-head attention over packed sequences: rows of several sequences, one after the other,
//! without padding between them; bidirectional, causal or within a sliding window.

use std::ops::Range;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use rayon::prelude::*;

use crate::attention_rows::{Heads, Sequence, backward, forward};
use crate::{empty_like, has_kernels};

/// Which rows belong to which sequence, how a row is split into heads, and who sees whom.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionShape {
    /// The queries of sequence i are the rows `offsets[i]..offsets[i + 1]`.
    pub offsets: Arc<[usize]>,
    /// Its keys and values are the rows `key_offsets[i]..key_offsets[i + 1]`: as many as queries, or
    /// more where earlier tokens come from a cache. The last query stands at the last key.
    pub key_offsets: Arc<[usize]>,
    pub n_heads: usize,
    /// Heads of keys and values; each serves `n_heads / n_key_heads` heads of queries (grouped-query
    /// attention).
    pub n_key_heads: usize,
    /// The factor on the scores, usually 1 / √d_head.
    pub scale: f32,
    pub visibility: Visibility,
    /// Scores x become c · tanh(x / c) (Gemma 2).
    pub softcap: Option<f32>,
}

/// Which keys of its sequence a query attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// All of them.
    Everything,
    /// Those up to its own position.
    Causal,
    /// The last so many up to its own position: a sliding window.
    Window(usize),
}

impl AttentionShape {
    /// Bidirectional attention within each sequence, scaled by 1 / √d_head.
    ///
    /// # Panics
    /// If `d_model` is not a multiple of the heads.
    pub fn bidirectional(offsets: Arc<[usize]>, n_heads: usize, d_model: usize) -> Self {
        assert!(
            d_model.is_multiple_of(n_heads),
            "{d_model} in {n_heads} heads"
        );
        Self {
            key_offsets: offsets.clone(),
            offsets,
            n_heads,
            n_key_heads: n_heads,
            scale: 1.0 / ((d_model / n_heads) as f32).sqrt(),
            visibility: Visibility::Everything,
            softcap: None,
        }
    }
}

impl Visibility {
    /// The keys that a query at `position` sees, out of `keys`.
    #[inline(always)]
    pub(crate) fn of(self, position: usize, keys: usize) -> Range<usize> {
        match self {
            Self::Everything => 0..keys,
            Self::Causal => 0..position + 1,
            Self::Window(width) => (position + 1).saturating_sub(width)..position + 1,
        }
    }
}

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

/// The same through padding: rows are gathered into `[sequences, longest]`, what is not seen is
/// masked out of the scores, and the rows that exist are gathered back.
fn composed(
    query: Tensor<2>,
    key: Tensor<2>,
    value: Tensor<2>,
    shape: &AttentionShape,
) -> Tensor<2> {
    let [_, width] = query.dims();
    let device = query.device();
    let d_head = width / shape.n_heads;
    let group = shape.n_heads / shape.n_key_heads;
    let queries = Padded::new(&shape.offsets);
    let keys = Padded::new(&shape.key_offsets);
    let sequences = queries.lengths.len();
    let mut mask = vec![f32::MIN / 2.0; sequences * queries.longest * keys.longest];
    for (sequence, (&length, &key_length)) in queries.lengths.iter().zip(&keys.lengths).enumerate()
    {
        for row in 0..queries.longest {
            // Rows of padding see what the last query sees; nobody reads them.
            let position = key_length - length + row.min(length - 1);
            let start = (sequence * queries.longest + row) * keys.longest;
            for seen in shape.visibility.of(position, key_length) {
                mask[start + seen] = 0.0;
            }
        }
    }
    let heads = |rows: Tensor<2>, padded: &Padded, n_heads: usize| {
        rows.select(0, indices(padded.rows.clone(), &device))
            .reshape([sequences, padded.longest, n_heads, d_head])
            .swap_dims(1, 2)
    };
    let repeated = |rows: Tensor<2>| {
        heads(rows, &keys, shape.n_key_heads)
            .reshape([sequences, shape.n_key_heads, 1, keys.longest, d_head])
            .expand([sequences, shape.n_key_heads, group, keys.longest, d_head])
            .reshape([sequences, shape.n_heads, keys.longest, d_head])
    };
    let mask = TensorData::new(mask, [sequences, 1, queries.longest, keys.longest]);
    let mask = Tensor::<4>::from_data(mask, &device);
    let query = heads(query, &queries, shape.n_heads);
    let mut scores = query.matmul(repeated(key).swap_dims(2, 3)) * shape.scale;
    if let Some(cap) = shape.softcap {
        scores = (scores / cap).tanh() * cap;
    }
    activation::softmax(scores + mask, 3)
        .matmul(repeated(value))
        .swap_dims(1, 2)
        .reshape([sequences * queries.longest, width])
        .select(0, indices(queries.present(), &device))
}

/// Packed sequences as a padded batch.
struct Padded {
    lengths: Vec<usize>,
    longest: usize,
    /// The packed row of each padded place; padding repeats a sequence's last row.
    rows: Vec<i32>,
}

impl Padded {
    fn new(offsets: &[usize]) -> Self {
        let lengths: Vec<usize> = offsets.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let rows = lengths
            .iter()
            .zip(offsets)
            .flat_map(|(&length, &offset)| {
                (0..longest).map(move |place| (offset + place.min(length - 1)) as i32)
            })
            .collect();
        Self {
            lengths,
            longest,
            rows,
        }
    }

    /// The padded places that hold a row.
    fn present(&self) -> Vec<i32> {
        let places = self.lengths.iter().enumerate();
        places
            .flat_map(|(sequence, &length)| {
                (0..length).map(move |place| (sequence * self.longest + place) as i32)
            })
            .collect()
    }
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

impl AttentionShape {
    /// The rows of each sequence's queries and keys.
    fn sequences(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        let keys = self.key_offsets.windows(2).map(|pair| pair[0]..pair[1]);
        self.offsets
            .windows(2)
            .map(|pair| pair[0]..pair[1])
            .zip(keys)
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

    fn offsets(lengths: &[usize]) -> Arc<[usize]> {
        let mut offsets = vec![0];
        for length in lengths {
            offsets.push(offsets[offsets.len() - 1] + length);
        }
        offsets.into()
    }

    fn shape(n_heads: usize, n_key_heads: usize, visibility: Visibility) -> AttentionShape {
        AttentionShape {
            offsets: offsets(&LENGTHS),
            key_offsets: offsets(&LENGTHS),
            n_heads,
            n_key_heads,
            scale: 0.37,
            visibility,
            softcap: None,
        }
    }

    /// Output and gradients of both ways.
    fn compare(shape: &AttentionShape, d_head: usize) {
        let device = Device::flex().autodiff();
        let (width, key_width) = (shape.n_heads * d_head, shape.n_key_heads * d_head);
        let last = |offsets: &[usize]| offsets[offsets.len() - 1];
        let (rows, key_rows) = (last(&shape.offsets), last(&shape.key_offsets));
        let weights = numbers(rows, width, 3.0, &device);
        let run = |operation: fn(Tensor<2>, Tensor<2>, Tensor<2>, &AttentionShape) -> Tensor<2>| {
            let query = numbers(rows, width, 0.0, &device).require_grad();
            let [key, value] =
                [1.0, 2.0].map(|phase| numbers(key_rows, key_width, phase, &device).require_grad());
            let output = operation(query.clone(), key.clone(), value.clone(), shape);
            let gradients = (output.clone() * weights.clone()).sum().backward();
            let [query, key, value] =
                [query, key, value].map(|input| input.grad(&gradients).expect("a gradient"));
            [output.inner(), query, key, value]
        };
        for (found, expected) in run(attention).into_iter().zip(run(composed)) {
            // f32 sums over up to 131 · group terms of size one, in another order.
            let difference = (found - expected).abs().max().into_scalar::<f32>();
            assert!(difference < 5e-5, "{difference}: {shape:?}");
        }
    }

    #[test]
    fn values_and_gradients_agree_with_the_composed_operation() {
        for visibility in [
            Visibility::Everything,
            Visibility::Causal,
            Visibility::Window(9),
            Visibility::Window(100),
        ] {
            compare(&shape(3, 3, visibility), 5);
            compare(&shape(4, 2, visibility), 16);
        }
    }

    #[test]
    fn softcapped_scores_have_the_gradients_of_the_composed_operation() {
        let mut shape = shape(4, 1, Visibility::Causal);
        shape.softcap = Some(1.5);
        compare(&shape, 7);
    }

    #[test]
    fn queries_at_the_end_of_longer_keys_agree_with_the_composed_operation() {
        for visibility in [Visibility::Causal, Visibility::Window(5)] {
            let mut shape = shape(4, 2, visibility);
            shape.offsets = offsets(&[1, 1, 3, 70, 16]);
            compare(&shape, 8);
        }
    }

    #[test]
    fn a_causal_query_does_not_see_what_comes_after_it() {
        let device = Device::flex();
        let (rows, width) = (20, 12);
        let shape = AttentionShape {
            offsets: offsets(&[rows]),
            key_offsets: offsets(&[rows]),
            ..shape(3, 3, Visibility::Causal)
        };
        let [query, key, value] = [0.0, 1.0, 2.0].map(|phase| numbers(rows, width, phase, &device));
        let whole = attention(query.clone(), key.clone(), value.clone(), &shape);
        let first = |rows: Tensor<2>| rows.slice([0..7, 0..width]);
        let prefix = AttentionShape {
            offsets: offsets(&[7]),
            key_offsets: offsets(&[7]),
            ..shape
        };
        let alone = attention(first(query), first(key), first(value), &prefix);
        // The scores are computed in other blocks, the sums over them are the same.
        let difference = (first(whole) - alone).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-6, "{difference}");
    }

    #[test]
    fn a_sequence_does_not_see_its_neighbours() {
        let device = Device::flex();
        let (rows, width) = (LENGTHS.iter().sum::<usize>(), 12);
        let shape = shape(3, 3, Visibility::Everything);
        let [query, key, value] = [0.0, 1.0, 2.0].map(|phase| numbers(rows, width, phase, &device));
        let together = attention(query.clone(), key.clone(), value.clone(), &shape);
        let (start, end) = (shape.offsets[2], shape.offsets[3]);
        let part = |rows: Tensor<2>| rows.slice([start..end, 0..width]);
        let alone = attention(
            part(query),
            part(key),
            part(value),
            &AttentionShape {
                offsets: offsets(&[end - start]),
                key_offsets: offsets(&[end - start]),
                ..shape.clone()
            },
        );
        let difference = (part(together) - alone).abs().max().into_scalar::<f32>();
        assert_eq!(difference, 0.0);
    }
}
