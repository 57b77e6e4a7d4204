//! Keys and values of the tokens that a decoder has seen, so that each is computed once.

use burn::tensor::Tensor;

/// The keys and values of several sequences, layer by layer.
#[derive(Clone, Debug)]
pub struct Cache {
    pub(crate) layers: Vec<LayerCache>,
    /// How many tokens of each sequence are in it.
    lengths: Vec<usize>,
}

/// One layer's keys and values, a pair of `[tokens, n_key_heads · d_head]` for each sequence.
#[derive(Clone, Debug, Default)]
pub(crate) struct LayerCache {
    sequences: Vec<(Tensor<2>, Tensor<2>)>,
}

impl Cache {
    pub(crate) fn new(layers: usize, sequences: usize) -> Self {
        Self {
            layers: vec![LayerCache::default(); layers],
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

    /// Keeps the sequences of these indices, in their order, and forgets the rest.
    ///
    /// # Panics
    /// If an index is not a sequence's.
    pub fn keep(&mut self, sequences: &[usize]) {
        self.lengths = sequences
            .iter()
            .map(|&sequence| self.lengths[sequence])
            .collect();
        for layer in &mut self.layers {
            layer.sequences = sequences
                .iter()
                .map(|&sequence| layer.sequences[sequence].clone())
                .collect();
        }
    }
}

impl LayerCache {
    /// Adds the rows of a batch and returns the keys and values of everything seen, packed.
    ///
    /// - key, value: `[rows, width]`, sequence i in the rows `offsets[i]..offsets[i + 1]`
    pub fn extend(
        &mut self,
        key: Tensor<2>,
        value: Tensor<2>,
        offsets: &[usize],
    ) -> (Tensor<2>, Tensor<2>) {
        let [_, width] = key.dims();
        let new = offsets.windows(2).map(|pair| {
            let rows = [pair[0]..pair[1], 0..width];
            (key.clone().slice(rows.clone()), value.clone().slice(rows))
        });
        if self.sequences.is_empty() {
            self.sequences = new.collect();
            return (key, value);
        }
        for ((keys, values), (key, value)) in self.sequences.iter_mut().zip(new) {
            *keys = Tensor::cat(vec![keys.clone(), key], 0);
            *values = Tensor::cat(vec![values.clone(), value], 0);
        }
        match &self.sequences[..] {
            [(keys, values)] => (keys.clone(), values.clone()),
            several => {
                let (keys, values) = several.iter().cloned().unzip();
                (Tensor::cat(keys, 0), Tensor::cat(values, 0))
            }
        }
    }
}
