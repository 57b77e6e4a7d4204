//! Attention of one sequence on the CPU, head by head and block of queries by block of queries.

use crate::AttentionShape;
use crate::row_product::{View, row_product};
use crate::simd::{exp, sum, vectorised};

/// Query rows that are worked on at a time, which bounds the scores kept.
const QUERY_BLOCK: usize = 64;

/// Kᵀ of one head, and the scores of one block of queries.
pub(crate) fn forward_scratch(length: usize, width: usize, shape: &AttentionShape) -> usize {
    let d_head = width / shape.n_heads;
    length * d_head + QUERY_BLOCK.min(length) * length
}

/// Kᵀ and Vᵀ of one head, and of one block of queries the probabilities and their gradient.
pub(crate) fn backward_scratch(length: usize, width: usize, shape: &AttentionShape) -> usize {
    let d_head = width / shape.n_heads;
    2 * length * d_head + 2 * QUERY_BLOCK.min(length) * length
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

/// The probabilities of `queries` (a block of rows from one head's first column on).
#[inline(always)]
fn probabilities(
    queries: &[f32],
    block: usize,
    width: usize,
    d_head: usize,
    key_transposed: &[f32],
    scale: f32,
    scores: &mut [f32],
) {
    let length = key_transposed.len() / d_head;
    let left = View {
        values: queries,
        row_stride: width,
        col_stride: 1,
    };
    row_product(
        block,
        length,
        d_head,
        left,
        key_transposed,
        length,
        scores,
        length,
        false,
    );
    for row in scores[..block * length].chunks_exact_mut(length) {
        let largest = row
            .iter()
            .fold(f32::NEG_INFINITY, |largest, &score| largest.max(score));
        for score in row.iter_mut() {
            *score = exp((*score - largest) * scale);
        }
        let inverse = 1.0 / sum(length, |i| row[i]);
        row.iter_mut()
            .for_each(|probability| *probability *= inverse);
    }
}

vectorised! {
    /// One sequence, all heads: O = softmax(scale · Q Kᵀ) V.
    fn forward(
        query: &[f32],
        key: &[f32],
        value: &[f32],
        width: usize,
        n_heads: usize,
        scale: f32,
        scratch: &mut [f32],
        output: &mut [f32],
    ) {
        let (length, d_head) = (query.len() / width, width / n_heads);
        let (key_transposed, scores) = scratch.split_at_mut(length * d_head);
        for column in (0..width).step_by(d_head) {
            transpose(&key[column..], width, d_head, key_transposed);
            for start in (0..length).step_by(QUERY_BLOCK) {
                let block = QUERY_BLOCK.min(length - start);
                let first = start * width + column;
                probabilities(
                    &query[first..], block, width, d_head, key_transposed, scale, scores,
                );
                let left = View { values: scores, row_stride: length, col_stride: 1 };
                row_product(
                    block, d_head, length, left, &value[column..], width, &mut output[first..],
                    width, false,
                );
            }
        }
    }
}

vectorised! {
    /// One sequence, all heads. With the probabilities P computed again from Q and K:
    /// dV = Pᵀ dO, dP = dO Vᵀ, dS = P ⊙ (dP − rowsum(P ⊙ dP)), dQ = scale · dS K, dK = scale · dSᵀ Q.
    fn backward(
        query: &[f32],
        key: &[f32],
        value: &[f32],
        gradient: &[f32],
        width: usize,
        n_heads: usize,
        scale: f32,
        scratch: &mut [f32],
        d_query: &mut [f32],
        d_key: &mut [f32],
        d_value: &mut [f32],
    ) {
        let (length, d_head) = (query.len() / width, width / n_heads);
        let (key_transposed, rest) = scratch.split_at_mut(length * d_head);
        let (value_transposed, rest) = rest.split_at_mut(length * d_head);
        let (probability, d_score) = rest.split_at_mut(rest.len() / 2);
        for column in (0..width).step_by(d_head) {
            transpose(&key[column..], width, d_head, key_transposed);
            transpose(&value[column..], width, d_head, value_transposed);
            for start in (0..length).step_by(QUERY_BLOCK) {
                let block = QUERY_BLOCK.min(length - start);
                let first = start * width + column;
                let later_block = start > 0;
                probabilities(
                    &query[first..], block, width, d_head, key_transposed, scale, probability,
                );
                let transposed =
                    View { values: probability, row_stride: 1, col_stride: length };
                row_product(
                    length, d_head, block, transposed, &gradient[first..], width,
                    &mut d_value[column..], width, later_block,
                );
                let left = View { values: &gradient[first..], row_stride: width, col_stride: 1 };
                row_product(
                    block, length, d_head, left, value_transposed, length, d_score, length, false,
                );
                let rows = probability.chunks_exact(length).zip(d_score.chunks_exact_mut(length));
                for (probability, d_score) in rows.take(block) {
                    let expected = sum(length, |i| probability[i] * d_score[i]);
                    for (d_score, &probability) in d_score.iter_mut().zip(probability) {
                        *d_score = scale * probability * (*d_score - expected);
                    }
                }
                let left = View { values: d_score, row_stride: length, col_stride: 1 };
                row_product(
                    block, d_head, length, left, &key[column..], width, &mut d_query[first..],
                    width, false,
                );
                let transposed = View { values: d_score, row_stride: 1, col_stride: length };
                row_product(
                    length, d_head, block, transposed, &query[first..], width,
                    &mut d_key[column..], width, later_block,
                );
            }
        }
    }
}
