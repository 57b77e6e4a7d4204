//! Attention of the next tokens of sequences to themselves and to all that a cache has of them.

use std::ops::Range;

use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use crate::attention_rows::{Group, HeadRows, HeadTarget, Heads, QUERY_BLOCK, forward_transposed};
use crate::attention_shape::AttentionShape;
use crate::buffer::Unwritten;
use crate::has_kernels;
use crate::key_value_cache::{CachedSequences, HostSequence, KeyValueCache};

/// How many multiplications one thread does in less time than several take to start.
const SERIAL: usize = 1024 * 1024;

/// [`attention`](crate::attention) of new tokens, whose keys and values are added to the cache first.
///
/// There are no gradients.
///
/// # Shapes
/// - query, output: `[rows, n_heads · d_head]`
/// - key, value: `[rows, n_key_heads · d_head]`, of the new tokens
/// - shape: its keys are those of the cache and the new ones
///
/// # Panics
/// As `attention`, and if the cache has other numbers of sequences or tokens.
pub fn cached_attention(
    query: Tensor<2>,
    key: Tensor<2>,
    value: Tensor<2>,
    cache: &mut KeyValueCache,
    shape: &AttentionShape,
) -> Tensor<2> {
    if !has_kernels(&query.device()) {
        return composed(query, key, value, cache, shape);
    }
    let ([rows, width], [_, key_width]) = (query.dims(), key.dims());
    assert_eq!(key.dims(), [rows, key_width], "sizes of keys");
    assert_eq!(value.dims(), key.dims(), "sizes of values and keys");
    let device = query.device();
    let [query, key, value] = [query, key, value].map(|tensor| tensor.into_data());
    let places = [(&query, width), (&key, key_width), (&value, key_width)];
    let [query, key, value] = places.map(|(data, stride)| rows_of(data, 0, stride));
    let inputs = NewRows {
        query,
        key,
        value,
        d_head: width / shape.n_heads,
    };
    Tensor::from_data(
        TensorData::new(inputs.attend(cache, shape), [rows, width]),
        &device,
    )
}

/// [`cached_attention`] of queries, keys and values that are side by side.
///
/// # Shapes
/// - projections: `[rows, (n_heads + 2 · n_key_heads) · d_head]`
/// - output: `[rows, n_heads · d_head]`
///
/// # Panics
/// As [`cached_attention`].
pub fn cached_self_attention(
    projections: Tensor<2>,
    cache: &mut KeyValueCache,
    shape: &AttentionShape,
) -> Tensor<2> {
    let [rows, all] = projections.dims();
    let heads = shape.n_heads + 2 * shape.n_key_heads;
    assert!(all.is_multiple_of(heads), "{all} in {heads} heads");
    let d_head = all / heads;
    let (width, key_width) = (shape.n_heads * d_head, shape.n_key_heads * d_head);
    let device = projections.device();
    if !has_kernels(&device) {
        let part =
            |first: usize, width: usize| projections.clone().slice([0..rows, first..first + width]);
        let (key, value) = (part(width, key_width), part(width + key_width, key_width));
        return composed(part(0, width), key, value, cache, shape);
    }
    let projections = projections.into_data();
    let [query, key, value] =
        [0, width, width + key_width].map(|first| rows_of(&projections, first, all));
    let inputs = NewRows {
        query,
        key,
        value,
        d_head,
    };
    Tensor::from_data(
        TensorData::new(inputs.attend(cache, shape), [rows, width]),
        &device,
    )
}

fn rows_of(data: &TensorData, first: usize, stride: usize) -> HeadRows<'_> {
    let values = data.as_slice::<f32>().expect("activations in f32");
    HeadRows {
        // Without rows there is no first one.
        values: &values[first.min(values.len())..],
        stride,
    }
}

/// Queries, keys and values of the new tokens.
struct NewRows<'a> {
    query: HeadRows<'a>,
    key: HeadRows<'a>,
    value: HeadRows<'a>,
    d_head: usize,
}

/// Queries of one sequence, for the heads that share a head of keys.
struct Piece<'a> {
    sequence: &'a HostSequence,
    rows: Range<usize>,
    key_head: usize,
    chosen: Range<usize>,
}

impl NewRows<'_> {
    /// The output: `[rows, n_heads · d_head]`.
    fn attend(&self, cache: &mut KeyValueCache, shape: &AttentionShape) -> Vec<f32> {
        let d_head = self.d_head;
        if let CachedSequences::Empty = cache.sequences {
            let empty = HostSequence::new(shape.n_key_heads, d_head);
            cache.sequences = CachedSequences::Host(vec![empty; shape.offsets.len() - 1]);
        }
        let CachedSequences::Host(sequences) = &mut cache.sequences else {
            panic!("a cache of another device");
        };
        assert_eq!(
            sequences.len(),
            shape.offsets.len() - 1,
            "sequences of a cache and of a batch"
        );
        for (sequence, (rows, keys)) in sequences.iter_mut().zip(shape.sequences()) {
            let (key, value) = (self.key.from(rows.start, 0), self.value.from(rows.start, 0));
            sequence.push(key, value, rows.len(), shape.visibility);
            assert_eq!(sequence.length(), keys.len(), "tokens of a cached sequence");
        }
        let heads = Heads::new(shape, d_head);
        let width = shape.n_heads * d_head;
        let rows = shape.offsets[shape.offsets.len() - 1];
        let mut output = Unwritten::new(rows * width);
        let target = HeadTarget {
            values: output.as_mut_ptr(),
            stride: width,
        };
        let pieces: Vec<Piece> = sequences
            .iter()
            .zip(shape.sequences())
            .flat_map(|(sequence, (rows, _))| {
                (0..shape.n_key_heads).flat_map(move |key_head| {
                    let (rows, queries) = (rows.clone(), rows.len());
                    (0..queries).step_by(QUERY_BLOCK).map(move |start| Piece {
                        sequence,
                        rows: rows.clone(),
                        key_head,
                        chosen: start..queries.min(start + QUERY_BLOCK),
                    })
                })
            })
            .collect();
        let work = pieces
            .iter()
            .map(|piece| piece.chosen.len() * piece.sequence.held());
        let work = work.sum::<usize>() * 2 * d_head * heads.group();
        let attend = |piece: &Piece| self.attend_piece(piece, &heads, target);
        match work < SERIAL {
            true => pieces.iter().for_each(attend),
            false => pieces.par_iter().for_each(attend),
        }
        // SAFETY: the pieces together have every head of every row.
        unsafe { output.into_vec() }
    }

    fn attend_piece(&self, piece: &Piece, heads: &Heads, target: HeadTarget) {
        let column = piece.key_head * heads.group() * self.d_head;
        let value = piece.sequence.values(piece.key_head);
        let group = Group {
            query: self.query.from(piece.rows.start, column),
            key: value,
            value,
            queries: piece.rows.len(),
            keys: piece.sequence.held(),
        };
        let keys = piece.sequence.keys(piece.key_head);
        // Every piece writes its own heads of its own rows.
        let output = target.from(piece.rows.start, column);
        forward_transposed(&group, keys, heads, piece.chosen.clone(), output);
    }
}

/// For backends without the kernel: keys and values of all sequences are put one after the other.
fn composed(
    query: Tensor<2>,
    key: Tensor<2>,
    value: Tensor<2>,
    cache: &mut KeyValueCache,
    shape: &AttentionShape,
) -> Tensor<2> {
    let [_, width] = key.dims();
    let new = shape.sequences().map(|(rows, _)| {
        let rows = [rows, 0..width];
        (key.clone().slice(rows.clone()), value.clone().slice(rows))
    });
    if let CachedSequences::Empty = cache.sequences {
        cache.sequences = CachedSequences::Tensors(new.collect());
        return crate::attention(query, key, value, shape);
    }
    let CachedSequences::Tensors(sequences) = &mut cache.sequences else {
        panic!("a cache of another device");
    };
    assert_eq!(
        sequences.len(),
        shape.offsets.len() - 1,
        "sequences of a cache and of a batch"
    );
    for ((keys, values), (key, value)) in sequences.iter_mut().zip(new) {
        *keys = Tensor::cat(vec![keys.clone(), key], 0);
        *values = Tensor::cat(vec![values.clone(), value], 0);
    }
    let (keys, values) = match &sequences[..] {
        [one] => one.clone(),
        several => {
            let (keys, values) = several.iter().cloned().unzip();
            (Tensor::cat(keys, 0), Tensor::cat(values, 0))
        }
    };
    crate::attention(query, keys, values, shape)
}

#[cfg(test)]
#[path = "cached_attention_tests.rs"]
mod tests;
