//! Keys and values of the tokens that a layer has seen, so that each is computed once.

use burn::tensor::Tensor;

use crate::Visibility;
use crate::attention_rows::{HeadRows, KeyColumns};

/// Keys that are next to each other: two vectors of the widest unit, so that a product with them reads
/// the cache front to back.
const KEY_BLOCK: usize = 32;

/// The keys and values of one layer, of several sequences; empty at first.
///
/// Attention of the next tokens reads them as they lie here. They grow in place: the memory of a
/// sequence doubles when it is full, and no other sequence is moved. Of a sliding window, keys and
/// values that no later token sees are forgotten.
#[derive(Clone, Debug, Default)]
pub struct KeyValueCache {
    pub(crate) sequences: CachedSequences,
}

/// The sequences in the form that attention takes on their device.
#[derive(Clone, Debug, Default)]
pub(crate) enum CachedSequences {
    /// None yet.
    #[default]
    Empty,
    /// For the kernels.
    Host(Vec<HostSequence>),
    /// For composed operations: keys and values of each, `[tokens, n_key_heads · d_head]`.
    Tensors(Vec<(Tensor<2>, Tensor<2>)>),
}

/// The keys and values of one sequence.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostSequence {
    heads: Vec<HostHead>,
    d_head: usize,
    /// How many tokens it has had, those that were forgotten included.
    length: usize,
    /// How many of the first tokens were forgotten: whole blocks.
    forgotten: usize,
}

/// The keys and values of one head.
#[derive(Clone, Debug, Default)]
struct HostHead {
    /// `[blocks, d_head, KEY_BLOCK]`
    keys: Vec<f32>,
    /// `[tokens, d_head]`
    values: Vec<f32>,
}

impl KeyValueCache {
    /// Adds the sequences of another cache behind these.
    ///
    /// # Panics
    /// If that one is of another device.
    pub fn append(&mut self, other: Self) {
        match (&mut self.sequences, other.sequences) {
            (_, CachedSequences::Empty) => {}
            (these @ CachedSequences::Empty, others) => *these = others,
            (CachedSequences::Host(these), CachedSequences::Host(others)) => these.extend(others),
            (CachedSequences::Tensors(these), CachedSequences::Tensors(others)) => {
                these.extend(others);
            }
            _ => panic!("caches of two devices"),
        }
    }

    /// Keeps the sequences of these indices, in this order, and forgets the rest.
    ///
    /// # Panics
    /// If an index is not a sequence's, or is given twice.
    pub fn keep(&mut self, sequences: &[usize]) {
        match &mut self.sequences {
            CachedSequences::Empty => {}
            CachedSequences::Host(all) => *all = kept(std::mem::take(all), sequences),
            CachedSequences::Tensors(all) => *all = kept(std::mem::take(all), sequences),
        }
    }
}

fn kept<T>(all: Vec<T>, indices: &[usize]) -> Vec<T> {
    let mut all: Vec<Option<T>> = all.into_iter().map(Some).collect();
    let kept = indices.iter().map(|&index| all[index].take());
    kept.map(|one| one.expect("a sequence kept once")).collect()
}

impl HostSequence {
    pub fn new(n_key_heads: usize, d_head: usize) -> Self {
        Self {
            heads: vec![HostHead::default(); n_key_heads],
            d_head,
            length: 0,
            forgotten: 0,
        }
    }

    /// How many tokens it has had.
    pub fn length(&self) -> usize {
        self.length
    }

    /// How many tokens' keys and values are there: the last ones.
    pub fn held(&self) -> usize {
        self.length - self.forgotten
    }

    /// Adds tokens.
    ///
    /// - keys, values: row i of head h begins at `h · d_head` of row i
    pub fn push(&mut self, keys: HeadRows, values: HeadRows, tokens: usize, seen: Visibility) {
        if let Visibility::Window(width) = seen {
            self.forget((self.length + 1).saturating_sub(width));
        }
        let (d_head, held) = (self.d_head, self.held());
        let blocks = (held + tokens).div_ceil(KEY_BLOCK);
        for (index, head) in self.heads.iter_mut().enumerate() {
            head.keys.resize(blocks * KEY_BLOCK * d_head, 0.0);
            for token in 0..tokens {
                let key = &keys.from(token, index * d_head).values[..d_head];
                let (block, column) = ((held + token) / KEY_BLOCK, (held + token) % KEY_BLOCK);
                let block = &mut head.keys[block * KEY_BLOCK * d_head..][..KEY_BLOCK * d_head];
                for (row, &value) in block.chunks_exact_mut(KEY_BLOCK).zip(key) {
                    row[column] = value;
                }
                let value = &values.from(token, index * d_head).values[..d_head];
                head.values.extend_from_slice(value);
            }
        }
        self.length += tokens;
    }

    /// Forgets tokens before the one at `first`, once they are more than half of all that are held, so
    /// that every token is moved once on average.
    fn forget(&mut self, first: usize) {
        let blocks = first.saturating_sub(self.forgotten) / KEY_BLOCK;
        if 2 * blocks * KEY_BLOCK <= self.held() {
            return;
        }
        let values = blocks * KEY_BLOCK * self.d_head;
        for head in &mut self.heads {
            head.keys.drain(..values);
            head.values.drain(..values);
        }
        self.forgotten += blocks * KEY_BLOCK;
    }

    /// The keys of a head that are held, transposed.
    pub fn keys(&self, head: usize) -> KeyColumns<'_> {
        KeyColumns {
            values: &self.heads[head].keys,
            block: KEY_BLOCK,
        }
    }

    /// The values of a head that are held.
    pub fn values(&self, head: usize) -> HeadRows<'_> {
        HeadRows {
            values: &self.heads[head].values,
            stride: self.d_head,
        }
    }
}
