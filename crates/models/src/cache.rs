//! What a decoder keeps of the tokens that it has seen.

use eigenmix_kernels::KeyValueCache;

/// The keys and values of several sequences, layer by layer.
#[derive(Clone, Debug)]
pub struct Cache {
    pub(crate) layers: Vec<KeyValueCache>,
    /// How many tokens of each sequence are in it.
    lengths: Vec<usize>,
}

impl Cache {
    pub(crate) fn new(layers: usize, sequences: usize) -> Self {
        Self {
            layers: vec![KeyValueCache::default(); layers],
            lengths: vec![0; sequences],
        }
    }

    /// How many tokens of each sequence are in it.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Counts the tokens of a batch that went through all layers.
    pub(crate) fn count(&mut self, offsets: &[usize]) {
        for (length, pair) in self.lengths.iter_mut().zip(offsets.windows(2)) {
            *length += pair[1] - pair[0];
        }
    }

    /// Adds the sequences of another cache behind these.
    pub fn append(&mut self, other: Self) {
        self.lengths.extend(other.lengths);
        for (layer, other) in self.layers.iter_mut().zip(other.layers) {
            layer.append(other);
        }
    }

    /// Keeps the sequences of these indices, in their order, and forgets the rest.
    ///
    /// # Panics
    /// If an index is not a sequence's, or is given twice.
    pub fn keep(&mut self, sequences: &[usize]) {
        self.lengths = sequences
            .iter()
            .map(|&sequence| self.lengths[sequence])
            .collect();
        for layer in &mut self.layers {
            layer.keep(sequences);
        }
    }
}
