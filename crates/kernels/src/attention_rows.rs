//! Attention of one sequence on the CPU, head by head and block of queries by block of queries.

use std::ops::Range;

use crate::row_product::{View, row_product};
use crate::simd::{dot, exp, tanh, total, vectorised};
use crate::{AttentionShape, Visibility};

/// Query rows that are worked on at a time, which bounds the scores kept.
const QUERY_BLOCK: usize = 64;

/// What of an [`AttentionShape`] is the same for all sequences.
pub(crate) struct Heads {
    n_heads: usize,
    n_key_heads: usize,
    d_head: usize,
    scale: f32,
    visibility: Visibility,
    softcap: Option<f32>,
}

/// The rows of one sequence.
pub(crate) struct Sequence<'a> {
    /// `[queries, n_heads · d_head]`
    pub query: &'a [f32],
    /// `[keys, n_key_heads · d_head]`
    pub key: &'a [f32],
    /// As `key`.
    pub value: &'a [f32],
}

impl Heads {
    /// - numbers: how many the queries of all sequences have together
    pub fn new(shape: &AttentionShape, numbers: usize) -> Self {
        let rows = shape.offsets[shape.offsets.len() - 1].max(1);
        Self {
            n_heads: shape.n_heads,
            n_key_heads: shape.n_key_heads,
            d_head: numbers / rows / shape.n_heads,
            scale: shape.scale,
            visibility: shape.visibility,
            softcap: shape.softcap,
        }
    }

    /// The width of a row of queries.
    #[inline(always)]
    pub fn width(&self) -> usize {
        self.n_heads * self.d_head
    }

    /// The width of a row of keys or values.
    #[inline(always)]
    pub fn key_width(&self) -> usize {
        self.n_key_heads * self.d_head
    }

    /// The keys that any of the queries of a block sees; the first stands at `position`.
    #[inline(always)]
    fn seen_by(&self, position: usize, block: usize, keys: usize) -> Range<usize> {
        let first = self.visibility.of(position, keys);
        let last = self.visibility.of(position + block - 1, keys);
        first.start..last.end
    }
}

/// Writes rows[.., columns] transposed: `[length, d_head]` → `[d_head, length]`.
#[inline(always)]
fn transpose(rows: &[f32], width: usize, d_head: usize, transposed: &mut [f32]) {
    let length = transposed.len() / d_head;
    for (row, numbers) in rows.chunks(width).enumerate() {
        for (col, &number) in numbers[..d_head].iter().enumerate() {
            transposed[col * length + row] = number;
        }
    }
}

/// A block of queries of one head: the first at `position` among `keys` keys, of which `seen` are
/// seen by any of them.
struct Block {
    rows: usize,
    position: usize,
    keys: usize,
    seen: Range<usize>,
}

/// The probabilities of a block's queries, `[rows, seen]`, zero where a key is not seen; with a
/// softcap also `slopes`, the derivative of the capped score by the score.
#[inline(always)]
fn probabilities(
    queries: &[f32],
    block: &Block,
    heads: &Heads,
    key_transposed: &[f32],
    scores: &mut [f32],
    slopes: &mut [f32],
) {
    let columns = block.seen.len();
    let left = View {
        values: queries,
        row_stride: heads.width(),
        col_stride: 1,
    };
    row_product(
        block.rows,
        columns,
        heads.d_head,
        left,
        &key_transposed[block.seen.start..],
        block.keys,
        scores,
        columns,
        false,
    );
    let scores = &mut scores[..block.rows * columns];
    let mut scale = heads.scale;
    if let Some(cap) = heads.softcap {
        let inner = scale / cap;
        for (score, slope) in scores.iter_mut().zip(slopes) {
            let capped = tanh(*score * inner);
            *score = cap * capped;
            *slope = 1.0 - capped * capped;
        }
        scale = 1.0;
    }
    for (row, scores) in scores.chunks_exact_mut(columns).enumerate() {
        let seen = heads.visibility.of(block.position + row, block.keys);
        let (from, to) = (seen.start - block.seen.start, seen.end - block.seen.start);
        scores[..from].fill(0.0);
        scores[to..].fill(0.0);
        let row = &mut scores[from..to];
        let largest = row
            .iter()
            .fold(f32::NEG_INFINITY, |largest, &score| largest.max(score));
        for score in row.iter_mut() {
            *score = exp((*score - largest) * scale);
        }
        let inverse = 1.0 / total(row);
        row.iter_mut()
            .for_each(|probability| *probability *= inverse);
    }
}

/// The blocks of queries of a sequence, with the first query of each.
#[inline(always)]
fn blocks(queries: usize, keys: usize, heads: &Heads) -> impl Iterator<Item = (usize, Block)> + '_ {
    (0..queries).step_by(QUERY_BLOCK).map(move |start| {
        let rows = QUERY_BLOCK.min(queries - start);
        let position = keys - queries + start;
        let seen = heads.seen_by(position, rows, keys);
        let block = Block {
            rows,
            position,
            keys,
            seen,
        };
        (start, block)
    })
}

/// How many slopes a block needs.
#[inline(always)]
fn slope_count(heads: &Heads, scores: usize) -> usize {
    match heads.softcap {
        Some(_) => scores,
        None => 0,
    }
}

vectorised! {
    /// One sequence, all heads: O = softmax(scale · Q Kᵀ) V.
    fn forward(sequence: &Sequence<'_>, heads: &Heads, output: &mut [f32]) {
        let (width, key_width, d_head) = (heads.width(), heads.key_width(), heads.d_head);
        let (queries, keys) = (sequence.query.len() / width, sequence.key.len() / key_width);
        let group = heads.n_heads / heads.n_key_heads;
        let mut key_transposed = vec![0.0; keys * d_head];
        let mut scores = vec![0.0; QUERY_BLOCK.min(queries) * keys];
        let mut slopes = vec![0.0; slope_count(heads, scores.len())];
        for head in 0..heads.n_heads {
            let (column, key_column) = (head * d_head, head / group * d_head);
            if head % group == 0 {
                transpose(&sequence.key[key_column..], key_width, d_head, &mut key_transposed);
            }
            for (start, block) in blocks(queries, keys, heads) {
                let first = start * width + column;
                probabilities(
                    &sequence.query[first..], &block, heads, &key_transposed, &mut scores,
                    &mut slopes,
                );
                let columns = block.seen.len();
                let left = View { values: &scores, row_stride: columns, col_stride: 1 };
                row_product(
                    block.rows, d_head, columns, left,
                    &sequence.value[block.seen.start * key_width + key_column..], key_width,
                    &mut output[first..], width, false,
                );
            }
        }
    }
}

vectorised! {
    /// One sequence, all heads. With the probabilities P computed again from Q and K:
    /// dV = Pᵀ dO, dP = dO Vᵀ, dS = P ⊙ (dP − rowsum(P ⊙ dP)), dQ = scale · dS K, dK = scale · dSᵀ Q;
    /// keys and values sum over the heads that they serve.
    fn backward(
        sequence: &Sequence<'_>,
        gradient: &[f32],
        heads: &Heads,
        d_query: &mut [f32],
        d_key: &mut [f32],
        d_value: &mut [f32],
    ) {
        let (width, key_width, d_head) = (heads.width(), heads.key_width(), heads.d_head);
        let (queries, keys) = (sequence.query.len() / width, sequence.key.len() / key_width);
        let group = heads.n_heads / heads.n_key_heads;
        let mut key_transposed = vec![0.0; keys * d_head];
        let mut value_transposed = vec![0.0; keys * d_head];
        let mut probability = vec![0.0; QUERY_BLOCK.min(queries) * keys];
        let mut d_score = vec![0.0; probability.len()];
        let mut slopes = vec![0.0; slope_count(heads, probability.len())];
        d_key.fill(0.0);
        d_value.fill(0.0);
        for head in 0..heads.n_heads {
            let (column, key_column) = (head * d_head, head / group * d_head);
            if head % group == 0 {
                transpose(&sequence.key[key_column..], key_width, d_head, &mut key_transposed);
                transpose(&sequence.value[key_column..], key_width, d_head, &mut value_transposed);
            }
            for (start, block) in blocks(queries, keys, heads) {
                let first = start * width + column;
                let (rows, columns) = (block.rows, block.seen.len());
                let key_first = block.seen.start * key_width + key_column;
                probabilities(
                    &sequence.query[first..], &block, heads, &key_transposed, &mut probability,
                    &mut slopes,
                );
                let transposed = View { values: &probability, row_stride: 1, col_stride: columns };
                row_product(
                    columns, d_head, rows, transposed, &gradient[first..], width,
                    &mut d_value[key_first..], key_width, true,
                );
                let left = View { values: &gradient[first..], row_stride: width, col_stride: 1 };
                row_product(
                    rows, columns, d_head, left, &value_transposed[block.seen.start..], keys,
                    &mut d_score, columns, false,
                );
                let pairs = probability
                    .chunks_exact(columns)
                    .zip(d_score.chunks_exact_mut(columns));
                for (probability, d_score) in pairs.take(rows) {
                    let expected = dot(probability, d_score);
                    for (d_score, &probability) in d_score.iter_mut().zip(probability) {
                        *d_score = heads.scale * probability * (*d_score - expected);
                    }
                }
                // Without a softcap there are no slopes.
                for (d_score, &slope) in d_score.iter_mut().zip(&slopes) {
                    *d_score *= slope;
                }
                let left = View { values: &d_score, row_stride: columns, col_stride: 1 };
                row_product(
                    rows, d_head, columns, left, &sequence.key[key_first..], key_width,
                    &mut d_query[first..], width, false,
                );
                let transposed = View { values: &d_score, row_stride: 1, col_stride: columns };
                row_product(
                    columns, d_head, rows, transposed, &sequence.query[first..], width,
                    &mut d_key[key_first..], key_width, true,
                );
            }
        }
    }
}
