//! The rows that a head reads.

use burn::tensor::Tensor;
use eigenmix_kernels::{AttentionShape, row_numbers};

/// One row of each sequence. Where a head reads no others, the last layer finds keys and values for all
/// rows, and everything else for these only.
#[derive(Clone, Debug)]
pub(crate) struct ReadRows(Vec<i32>);

impl ReadRows {
    /// - rows: one in each sequence, in their order; with causal attention the last one
    pub fn new(rows: Vec<i32>) -> Self {
        Self(rows)
    }

    /// - hidden: `[rows, d_model]`
    /// - output: `[sequences, d_model]`
    pub fn select(&self, hidden: Tensor<2>) -> Tensor<2> {
        let rows = row_numbers(&self.0, &hidden.device());
        hidden.select(0, rows)
    }

    /// Attention from these rows to all that `shape` has.
    pub fn attention(&self, shape: &AttentionShape) -> AttentionShape {
        AttentionShape {
            offsets: (0..=self.0.len()).collect(),
            ..shape.clone()
        }
    }
}
