//! Attention of one sequence on the CPU, for the heads of queries that share a head of keys: block of
//! queries by block of queries. The backward pass is `attention_gradient`'s.

use std::ops::Range;

use crate::buffer::Unwritten;
use crate::row_product::{Sizes, Target, View, row_product};
use crate::simd::{exp, tanh, total};
use crate::transposition::transpose;
use crate::vector::{Vector, for_vectors};
use crate::{AttentionShape, Visibility};

/// Query rows that are worked on at a time, which bounds the scores kept.
pub(crate) const QUERY_BLOCK: usize = 32;

/// The part of an [`AttentionShape`] that is the same for all sequences.
pub(crate) struct Heads {
    pub n_heads: usize,
    pub n_key_heads: usize,
    pub d_head: usize,
    pub scale: f32,
    visibility: Visibility,
    softcap: Option<f32>,
}

/// Rows of one head: the first value of row i is `values[i * stride]`.
#[derive(Clone, Copy)]
pub(crate) struct HeadRows<'a> {
    pub values: &'a [f32],
    pub stride: usize,
}

/// As [`HeadRows`], to be written.
#[derive(Clone, Copy)]
pub(crate) struct HeadTarget {
    pub values: *mut f32,
    pub stride: usize,
}

// SAFETY: the threads that write through it write disjoint rows and columns.
unsafe impl Send for HeadTarget {}
// SAFETY: as above.
unsafe impl Sync for HeadTarget {}

/// Keys and values of one head of one sequence, and the queries of the heads that share it, of which
/// the first starts `query` and each next one `d_head` values further on.
pub(crate) struct Group<'a> {
    pub query: HeadRows<'a>,
    pub key: HeadRows<'a>,
    pub value: HeadRows<'a>,
    /// The number of queries and of keys of the sequence.
    pub queries: usize,
    pub keys: usize,
}

/// Keys of one head, transposed: the first value of all keys of a block, then the second of all, and so on,
/// block after block.
#[derive(Clone, Copy)]
pub(crate) struct KeyColumns<'a> {
    /// `[blocks, d_head, block]`; the last block may hold more than there are keys.
    pub values: &'a [f32],
    /// How many keys a block has room for.
    pub block: usize,
}

impl Heads {
    pub fn new(shape: &AttentionShape, d_head: usize) -> Self {
        Self {
            n_heads: shape.n_heads,
            n_key_heads: shape.n_key_heads,
            d_head,
            scale: shape.scale,
            visibility: shape.visibility,
            softcap: shape.softcap,
        }
    }

    /// How many heads of queries share one of keys.
    #[inline(always)]
    pub fn group(&self) -> usize {
        self.n_heads / self.n_key_heads
    }

    /// The keys that any of the queries of a block sees; the first stands at `position`.
    #[inline(always)]
    fn seen_by(&self, position: usize, block: usize, keys: usize) -> Range<usize> {
        let first = self.visibility.of(position, keys);
        let last = self.visibility.of(position + block - 1, keys);
        first.start..last.end
    }
}

impl<'a> HeadRows<'a> {
    /// From row `row` and value `column` of it on.
    #[inline(always)]
    pub fn from(self, row: usize, column: usize) -> Self {
        Self {
            values: &self.values[row * self.stride + column..],
            ..self
        }
    }

    #[inline(always)]
    pub fn view(self) -> View<'a> {
        View {
            values: self.values,
            row_stride: self.stride,
            col_stride: 1,
        }
    }
}

impl HeadTarget {
    /// From row `row` and value `column` of it on.
    #[inline(always)]
    pub fn from(self, row: usize, column: usize) -> Self {
        Self {
            values: self.values.wrapping_add(row * self.stride + column),
            ..self
        }
    }

    #[inline(always)]
    pub fn target(self, accumulate: bool) -> Target {
        Target {
            values: self.values,
            row_stride: self.stride,
            accumulate,
        }
    }
}

/// A head's rows transposed: `[length, d_head]` → `[d_head, length]`.
#[inline(always)]
pub(crate) fn transposed<V: Vector>(rows: HeadRows, length: usize, d_head: usize) -> Vec<f32> {
    let mut transposed = Unwritten::new(length * d_head);
    let to = transposed.as_mut_ptr();
    // SAFETY: there is room for as many rows of that length, and all of them are written.
    unsafe {
        transpose::<V>(rows.values, rows.stride, [length, d_head], to, length);
        transposed.into_vec()
    }
}

/// A block of queries: the first at `position` among `keys` keys, of which `seen` are seen by any of
/// them.
pub(crate) struct QueryBlock {
    pub rows: usize,
    position: usize,
    /// How far each is behind the one before it: 1 for the queries of one head, 0 for those of several
    /// heads at one position.
    step: usize,
    keys: usize,
    pub seen: Range<usize>,
}

/// The probabilities of a block's queries, `[rows, seen]`, zero where a key is not seen; with a
/// softcap also `slopes`, the derivative of the capped score by the score.
#[inline(always)]
pub(crate) fn probabilities<'a, V: Vector>(
    queries: HeadRows,
    block: &QueryBlock,
    heads: &Heads,
    keys: KeyColumns,
    scores: &'a mut Unwritten,
    slopes: &mut [f32],
) -> &'a mut [f32] {
    let columns = block.seen.len();
    let count = block.rows * columns;
    let first = scores.pointer_to(count);
    let mut key = block.seen.start;
    while key < block.seen.end {
        let (index, offset) = (key / keys.block, key % keys.block);
        let sizes = Sizes {
            rows: block.rows,
            cols: (keys.block - offset).min(block.seen.end - key),
            inner: heads.d_head,
        };
        let target = Target {
            values: first.wrapping_add(key - block.seen.start),
            row_stride: columns,
            accumulate: false,
        };
        let right = &keys.values[index * keys.block * heads.d_head + offset..];
        // SAFETY: the scores are borrowed and have room for the columns of all seen keys.
        unsafe { row_product::<V>(sizes, queries.view(), right, keys.block, target) };
        key += sizes.cols;
    }
    // SAFETY: the products wrote the columns of all keys that are seen.
    let scores = unsafe { scores.first(count) };
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
        let seen = heads
            .visibility
            .of(block.position + block.step * row, block.keys);
        let (from, to) = (seen.start - block.seen.start, seen.end - block.seen.start);
        scores[..from].fill(0.0);
        scores[to..].fill(0.0);
        let row = &mut scores[from..to];
        let largest = largest(row);
        for score in row.iter_mut() {
            *score = exp((*score - largest) * scale);
        }
        let inverse = 1.0 / total(row);
        row.iter_mut()
            .for_each(|probability| *probability *= inverse);
    }
    scores
}

/// The largest value of a row, in sixteen running ones, so that the loop vectorises.
#[inline(always)]
fn largest(row: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut largest = [f32::NEG_INFINITY; LANES];
    let blocks = row.chunks_exact(LANES);
    let tail = blocks.remainder();
    let larger = |one: f32, other: f32| if other > one { other } else { one };
    for block in blocks {
        for lane in 0..LANES {
            largest[lane] = larger(largest[lane], block[lane]);
        }
    }
    let all = largest.iter().chain(tail);
    all.fold(f32::NEG_INFINITY, |one, &other| larger(one, other))
}

/// The blocks of some queries of a sequence, with the first query of each.
#[inline(always)]
pub(crate) fn blocks(
    chosen: Range<usize>,
    queries: usize,
    keys: usize,
    heads: &Heads,
) -> impl Iterator<Item = (usize, QueryBlock)> + '_ {
    let end = chosen.end;
    chosen.step_by(QUERY_BLOCK).map(move |start| {
        let rows = QUERY_BLOCK.min(end - start);
        // Only causal attention asks for it, which has as many keys as queries, or more.
        let position = (keys + start).saturating_sub(queries);
        let seen = heads.seen_by(position, rows, keys);
        let block = QueryBlock {
            rows,
            position,
            step: 1,
            keys,
            seen,
        };
        (start, block)
    })
}

/// How many slopes a block needs.
#[inline(always)]
pub(crate) fn slope_count(heads: &Heads, scores: usize) -> usize {
    match heads.softcap {
        Some(_) => scores,
        None => 0,
    }
}

for_vectors! {
    /// Some queries of a group: O = softmax(scale · Q Kᵀ) V.
    fn forward<V>(group: &Group<'_>, heads: &Heads, chosen: Range<usize>, output: HeadTarget) {
        let key_transposed = transposed::<V>(group.key, group.keys, heads.d_head);
        let columns = KeyColumns { values: &key_transposed, block: group.keys };
        attend::<V>(group, columns, heads, chosen, output);
    }
}

for_vectors! {
    /// [`forward`] with keys that are transposed already; those of the group are not read.
    fn forward_transposed<V>(
        group: &Group<'_>,
        columns: KeyColumns<'_>,
        heads: &Heads,
        chosen: Range<usize>,
        output: HeadTarget,
    ) {
        attend::<V>(group, columns, heads, chosen, output);
    }
}

/// What [`forward`] does with transposed keys.
#[inline(always)]
fn attend<V: Vector>(
    group: &Group,
    columns: KeyColumns,
    heads: &Heads,
    chosen: Range<usize>,
    output: HeadTarget,
) {
    let (queries, keys, d_head) = (group.queries, group.keys, heads.d_head);
    let most = QUERY_BLOCK.min(chosen.len()).max(heads.group()) * keys;
    let mut scores = Unwritten::new(most);
    let mut slopes = vec![0.0; slope_count(heads, most)];
    for (start, block) in blocks(chosen.clone(), queries, keys, heads) {
        // The heads of one query are side by side. Together they are a block, whose keys and values are
        // read once for all of them.
        let (heads_at_a_time, block, stride, output) = match block.rows {
            1 => {
                let (rows, stride) = (heads.group(), d_head);
                let block = QueryBlock {
                    rows,
                    step: 0,
                    ..block
                };
                (
                    rows,
                    block,
                    stride,
                    HeadTarget {
                        stride,
                        ..output.from(start, 0)
                    },
                )
            }
            _ => (1, block, group.query.stride, output.from(start, 0)),
        };
        for head in (0..heads.group()).step_by(heads_at_a_time) {
            let column = head * d_head;
            let query = HeadRows {
                stride,
                ..group.query.from(start, column)
            };
            let probability =
                probabilities::<V>(query, &block, heads, columns, &mut scores, &mut slopes);
            let columns = block.seen.len();
            let left = View {
                values: probability,
                row_stride: columns,
                col_stride: 1,
            };
            let sizes = Sizes {
                rows: block.rows,
                cols: d_head,
                inner: columns,
            };
            let value = group.value.from(block.seen.start, 0);
            let target = output.from(0, column).target(false);
            // SAFETY: the caller gave the rows of the chosen queries to this call alone.
            unsafe { row_product::<V>(sizes, left, value.values, value.stride, target) };
        }
    }
}
