//! The shape of an attention: rows of sequences, heads, and which keys each query sees.

use std::ops::Range;
use std::sync::Arc;

/// Which rows belong to which sequence, how a row is split into heads, and which keys each query
/// sees.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionShape {
    /// The queries of sequence i are the rows `offsets[i]..offsets[i + 1]`.
    pub offsets: Arc<[usize]>,
    /// Its keys and values are the rows `key_offsets[i]..key_offsets[i + 1]`: as many as queries,
    /// or more if earlier tokens come from a cache; the last query is at the position of the last
    /// key. Where every query sees all keys, these may be of another sequence and of any number.
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
    /// This many keys up to its own position: a sliding window.
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

    /// The rows of each sequence's queries and keys.
    pub(crate) fn sequences(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        let keys = self.key_offsets.windows(2).map(|pair| pair[0]..pair[1]);
        self.offsets
            .windows(2)
            .map(|pair| pair[0]..pair[1])
            .zip(keys)
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
