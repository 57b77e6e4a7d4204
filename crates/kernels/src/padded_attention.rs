//! Attention composed of Burn's operations, whose backward pass computes the scores again instead of keeping
//! them: for devices without the kernel.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Tensor, activation};

use crate::attention::AttentionPlan;
use crate::attention_shape::Visibility;
use crate::composition::Composition;
use crate::padding::Padding;

/// How many scores exist at a time: 256 MiB, of one block of queries.
const SCORES: usize = 64 * 1024 * 1024;

/// Attention through padding: rows are moved to `[sequences, longest]`, unseen keys are masked out of the
/// scores, and the rows that exist are moved back. Only the inputs are kept.
#[derive(Clone, Debug)]
pub(crate) struct PaddedAttention {
    plan: AttentionPlan,
    padding: Arc<Padding>,
    /// Scores at a time.
    scores: usize,
}

impl PaddedAttention {
    pub fn new(plan: AttentionPlan, padding: Arc<Padding>) -> Self {
        let scores = SCORES;
        Self {
            plan,
            padding,
            scores,
        }
    }

    /// The same with fewer scores at a time.
    #[cfg(test)]
    pub fn in_blocks_of(self, scores: usize) -> Self {
        Self { scores, ..self }
    }

    /// Queries, keys and values by heads: `[sequences, heads, longest, d_head]`.
    fn heads(&self, inputs: &[Tensor<2>]) -> [Tensor<4>; 3] {
        let AttentionPlan { places, d_head, .. } = &self.plan;
        let [(query, _), (key, _), _] = places;
        let spread = |tensor: usize| match tensor == *query && query != key {
            true => self.padding.queries.spread(inputs[tensor].clone(), *d_head),
            false => self.padding.keys.spread(inputs[tensor].clone(), *d_head),
        };
        let spread: Vec<Tensor<4>> = (0..inputs.len()).map(spread).collect();
        let mut counts = self.plan.head_counts().into_iter();
        places.map(|(tensor, column)| {
            let whole = spread[tensor].clone();
            let [sequences, longest, all, width] = whole.dims();
            let (first, count) = (column / d_head, counts.next().unwrap_or(all));
            let part = match count == all {
                true => whole,
                false => whole.slice([0..sequences, 0..longest, first..first + count, 0..width]),
            };
            part.swap_dims(1, 2)
        })
    }

    /// Blocks of queries, and the keys that they may see.
    fn blocks(&self) -> Vec<(Range<usize>, Range<usize>)> {
        let (queries, keys) = (&self.padding.queries, &self.padding.keys);
        let row = queries.sequences * self.plan.shape.n_heads * keys.longest;
        let step = (self.scores / row.max(1)).clamp(1, queries.longest.max(1));
        let starts = (0..queries.longest).step_by(step);
        let block = |start: usize| {
            let block = start..queries.longest.min(start + step);
            let seen = match step == queries.longest {
                true => 0..keys.longest,
                false => self.seen_by(&block),
            };
            (block, seen)
        };
        starts.map(block).collect()
    }

    /// The keys that some query of a block sees, in any sequence.
    fn seen_by(&self, block: &Range<usize>) -> Range<usize> {
        let shape = &self.plan.shape;
        let seen = shape.sequences().map(|(rows, key_rows)| {
            let (rows, keys) = (rows.len(), key_rows.len());
            let position = |query: usize| keys - rows + query.min(rows - 1);
            let first = match shape.visibility {
                Visibility::Everything => return 0..keys,
                visibility => visibility.of(position(block.start), keys).start,
            };
            first..position(block.end - 1) + 1
        });
        seen.reduce(|all, one| all.start.min(one.start)..all.end.max(one.end))
            .unwrap_or(0..0)
    }

    /// The probabilities of a block's queries, and the slope of the cap if there is one.
    ///
    /// - query: `[sequences, key heads, group · block, d_head]`
    /// - key: `[sequences, key heads, seen, d_head]`
    fn probabilities(
        &self,
        query: Tensor<4>,
        key: Tensor<4>,
        (block, seen): (&Range<usize>, &Range<usize>),
    ) -> (Tensor<4>, Option<Tensor<4>>) {
        let shape = &self.plan.shape;
        let mut scores = query.matmul(key.swap_dims(2, 3)) * shape.scale;
        let mut slope = None;
        if let Some(cap) = shape.softcap {
            let capped = (scores / cap).tanh();
            slope = Some(-capped.clone().square() + 1.0);
            scores = capped * cap;
        }
        if let Some(mask) = &self.padding.mask {
            let [sequences, _, ..] = mask.dims();
            let mask = mask.clone();
            let mask = match mask.dims()[2..] == [block.len(), seen.len()] {
                true => mask,
                false => mask.slice([0..sequences, 0..1, block.clone(), seen.clone()]),
            };
            scores = self.masked(scores, mask);
        }
        (activation::softmax(scores, 3), slope)
    }

    /// - scores: `[sequences, key heads, group · block, seen]`
    /// - mask: `[sequences or 1, 1, block, seen]`
    fn masked(&self, scores: Tensor<4>, mask: Tensor<4>) -> Tensor<4> {
        let group = self.plan.group_size();
        if group == 1 {
            return scores + mask;
        }
        let [sequences, heads, queries, seen] = scores.dims();
        let scores = scores.reshape([sequences, heads, group, queries / group, seen]);
        let masked = scores + mask.unsqueeze_dim::<5>(1);
        masked.reshape([sequences, heads, queries, seen])
    }

    /// A block of rows of all heads, with those of a group after one another.
    ///
    /// - rows: `[sequences, heads, longest, d_head]`
    /// - output: `[sequences, key heads, group · block, d_head]`
    fn block(&self, rows: &Tensor<4>, block: &Range<usize>) -> Tensor<4> {
        let [sequences, heads, longest, d_head] = rows.dims();
        let rows = match block.len() == longest {
            true => rows.clone(),
            false => rows
                .clone()
                .slice([0..sequences, 0..heads, block.clone(), 0..d_head]),
        };
        match self.plan.group_size() {
            1 => rows,
            group => rows.reshape([sequences, heads / group, group * block.len(), d_head]),
        }
    }

    /// The blocks of queries as one tensor `[sequences, heads, longest, d_head]`.
    fn joined(&self, mut blocks: Vec<Tensor<4>>) -> Tensor<4> {
        let group = self.plan.group_size();
        if group > 1 {
            let separate = |block: Tensor<4>| {
                let [sequences, heads, rows, d_head] = block.dims();
                block.reshape([sequences, heads * group, rows / group, d_head])
            };
            blocks = blocks.into_iter().map(separate).collect();
        }
        match blocks.len() {
            1 => blocks.remove(0),
            _ => Tensor::cat(blocks, 2),
        }
    }
}

/// Some of the keys or values.
fn keys(rows: &Tensor<4>, seen: &Range<usize>) -> Tensor<4> {
    let [sequences, heads, longest, d_head] = rows.dims();
    match *seen == (0..longest) {
        true => rows.clone(),
        false => rows
            .clone()
            .slice([0..sequences, 0..heads, seen.clone(), 0..d_head]),
    }
}

/// Adds the gradient of some of the keys or values to that of all.
fn add_keys(sum: &mut Option<Tensor<4>>, found: Tensor<4>, seen: &Range<usize>, longest: usize) {
    let [sequences, heads, _, d_head] = found.dims();
    if *seen == (0..longest) {
        *sum = Some(match sum.take() {
            Some(sum) => sum + found,
            None => found,
        });
        return;
    }
    let all = sum
        .take()
        .unwrap_or_else(|| Tensor::zeros([sequences, heads, longest, d_head], &found.device()));
    let place = [0..sequences, 0..heads, seen.clone(), 0..d_head];
    let before = all.clone().slice(place.clone());
    *sum = Some(all.slice_assign(place, before + found));
}

impl Composition for PaddedAttention {
    type Kept = Vec<Tensor<2>>;

    fn forward(&self, inputs: Vec<Tensor<2>>, _: bool) -> (Tensor<2>, Self::Kept) {
        let [query, key, value] = self.heads(&inputs);
        let blocks = self.blocks().into_iter().map(|(block, seen)| {
            let (key, value) = (keys(&key, &seen), keys(&value, &seen));
            let query = self.block(&query, &block);
            let (probabilities, _) = self.probabilities(query, key, (&block, &seen));
            probabilities.matmul(value)
        });
        let output = self.joined(blocks.collect()).swap_dims(1, 2);
        (self.padding.queries.packed(output), inputs)
    }

    /// With P the probabilities, S the scores and dP = dO · Vᵀ: dS = P ⊙ (dP − Σ P ⊙ dP), dQ = dS · K,
    /// dK = dSᵀ · Q, dV = Pᵀ · dO.
    fn backward(
        &self,
        inputs: Vec<Tensor<2>>,
        gradient: Tensor<2>,
        _: &[bool],
    ) -> Vec<Option<Tensor<2>>> {
        let [query, key, value] = self.heads(&inputs);
        let d_head = self.plan.d_head;
        let gradient = self.padding.queries.spread_gradient(gradient, d_head);
        let gradient = gradient.swap_dims(1, 2);
        let (mut d_query, mut d_key, mut d_value) = (Vec::new(), None, None);
        let longest = self.padding.keys.longest;
        for (block, seen) in self.blocks() {
            let (key, value) = (keys(&key, &seen), keys(&value, &seen));
            let query = self.block(&query, &block);
            let gradient = self.block(&gradient, &block);
            let (probabilities, slope) =
                self.probabilities(query.clone(), key.clone(), (&block, &seen));
            let found = probabilities
                .clone()
                .swap_dims(2, 3)
                .matmul(gradient.clone());
            add_keys(&mut d_value, found, &seen, longest);
            let d_probabilities = gradient.matmul(value.swap_dims(2, 3));
            let mean = (d_probabilities.clone() * probabilities.clone()).sum_dim(3);
            let mut d_scores = probabilities * (d_probabilities - mean) * self.plan.shape.scale;
            if let Some(slope) = slope {
                d_scores = d_scores * slope;
            }
            d_query.push(d_scores.clone().matmul(key));
            add_keys(
                &mut d_key,
                d_scores.swap_dims(2, 3).matmul(query),
                &seen,
                longest,
            );
        }
        let (Some(d_key), Some(d_value)) = (d_key, d_value) else {
            return vec![None; inputs.len()];
        };
        let parts = [self.joined(d_query), d_key, d_value];
        let of_tensor = |tensor: usize| {
            let of_it = self.plan.places.iter().zip(&parts);
            let mut of_it: Vec<_> = of_it.filter(|((other, _), _)| *other == tensor).collect();
            of_it.sort_by_key(|((_, column), _)| *column);
            let parts = of_it
                .into_iter()
                .map(|(_, part)| part.clone().swap_dims(1, 2));
            let mut parts: Vec<Tensor<4>> = parts.collect();
            let whole = match parts.len() {
                1 => parts.remove(0),
                _ => Tensor::cat(parts, 2),
            };
            let is_of_queries = self.plan.places[0].0 == tensor;
            let rows = match is_of_queries {
                true => &self.padding.queries,
                false => &self.padding.keys,
            };
            Some(rows.packed(whole))
        };
        (0..inputs.len()).map(of_tensor).collect()
    }
}
