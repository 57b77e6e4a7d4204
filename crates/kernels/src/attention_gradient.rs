//! The backward pass of attention of one sequence on the CPU.

use crate::attention_rows::{
    Group, HeadRows, HeadTarget, Heads, KeyColumns, QUERY_BLOCK, blocks, probabilities,
    slope_count, transposed,
};
use crate::buffer::Unwritten;
use crate::row_product::{Sizes, Target, View, row_product};
use crate::simd::dot;
use crate::vector::for_vectors;

/// Where the gradients of a group go.
#[derive(Clone, Copy)]
pub(crate) struct GroupGradients {
    pub query: HeadTarget,
    pub key: HeadTarget,
    pub value: HeadTarget,
}

for_vectors! {
    /// All queries of a group. With the probabilities P computed again from Q and K: dV = Pᵀ dO, dP
    /// = dO Vᵀ, dS = P ⊙ (dP − rowsum(P ⊙ dP)), dQ = scale · dS K, dK = scale · dSᵀ Q; the
    /// gradients of keys and values are summed over the heads that they serve.
    fn backward<V>(
        group: &Group<'_>,
        gradient: HeadRows<'_>,
        heads: &Heads,
        found: GroupGradients,
    ) {
        let (queries, keys, d_head) = (group.queries, group.keys, heads.d_head);
        let key_transposed = transposed::<V>(group.key, keys, d_head);
        let key_columns = KeyColumns { values: &key_transposed, block: keys };
        let value_transposed = transposed::<V>(group.value, keys, d_head);
        let most = QUERY_BLOCK.min(queries) * keys;
        let (mut scores, mut d_score) = (Unwritten::new(most), Unwritten::new(most));
        let mut slopes = vec![0.0; slope_count(heads, most)];
        // The first block writes the rows of the keys that it sees; the later ones add to them.
        let seen_first = blocks(0..queries, queries, keys, heads)
            .next()
            .map_or(0..0, |(_, block)| block.seen);
        for row in (0..seen_first.start).chain(seen_first.end..keys) {
            for target in [found.key, found.value] {
                // SAFETY: the caller gave this head's gradients to this call alone.
                unsafe { target.from(row, 0).values.write_bytes(0, d_head) };
            }
        }
        for head in 0..heads.group() {
            let column = head * d_head;
            for (start, block) in blocks(0..queries, queries, keys, heads) {
                let (rows, columns) = (block.rows, block.seen.len());
                let is_first = (head, start) == (0, 0);
                let query = group.query.from(start, column);
                let gradient = gradient.from(start, column);
                let key = group.key.from(block.seen.start, 0);
                let probability = probabilities::<V>(
                    query, &block, heads, key_columns, &mut scores, &mut slopes,
                );
                let onto_keys = Sizes { rows: columns, cols: d_head, inner: rows };
                let transposed = View { values: probability, row_stride: 1, col_stride: columns };
                let target = found.value.from(block.seen.start, 0).target(!is_first);
                // SAFETY: the caller gave this head's gradients to this call alone.
                unsafe {
                    row_product::<V>(onto_keys, transposed, gradient.values, gradient.stride, target);
                }
                let sizes = Sizes { rows, cols: columns, inner: d_head };
                let target = Target {
                    values: d_score.pointer_to(rows * columns),
                    row_stride: columns,
                    accumulate: false,
                };
                let right = &value_transposed[block.seen.start..];
                // SAFETY: there is room for that many gradients, which the product writes.
                let d_score = unsafe {
                    row_product::<V>(sizes, gradient.view(), right, keys, target);
                    d_score.first(rows * columns)
                };
                let pairs = probability
                    .chunks_exact(columns)
                    .zip(d_score.chunks_exact_mut(columns));
                for (probability, d_score) in pairs {
                    let expected = dot(probability, d_score);
                    for (d_score, &probability) in d_score.iter_mut().zip(probability) {
                        *d_score = heads.scale * probability * (*d_score - expected);
                    }
                }
                // Without a softcap there are no slopes.
                for (d_score, &slope) in d_score.iter_mut().zip(&slopes) {
                    *d_score *= slope;
                }
                let left = View { values: d_score, row_stride: columns, col_stride: 1 };
                let onto_queries = Sizes { rows, cols: d_head, inner: columns };
                let target = found.query.from(start, column).target(false);
                // SAFETY: the caller gave this head's gradients to this call alone.
                unsafe { row_product::<V>(onto_queries, left, key.values, key.stride, target) };
                let transposed = View { values: d_score, row_stride: 1, col_stride: columns };
                let target = found.key.from(block.seen.start, 0).target(!is_first);
                // SAFETY: as above.
                unsafe {
                    row_product::<V>(onto_keys, transposed, query.values, query.stride, target);
                }
            }
        }
    }
}
