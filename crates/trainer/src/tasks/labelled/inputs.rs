//! The inputs of examples, without their targets.

use std::num::NonZeroUsize;

use burn::tensor::Device;
use eigenmix_data::{BatchPlan, EpochAugmentation};
use eigenmix_models::{Batch, Network};

use crate::TrainerError;
use crate::host_values::host_values;

/// Texts, images, or other inputs of a model.
pub trait Inputs {
    /// How many examples there are.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How long each example is, in tokens; an image counts as one.
    fn lengths(&self) -> Vec<usize>;

    /// How many examples were cut to fit.
    fn truncated(&self) -> usize;

    /// Examples as one batch.
    ///
    /// - augmented: how training varies images; `None` for evaluations
    ///
    /// # Errors
    /// If an image can't be read.
    fn batch(
        &self,
        examples: &[usize],
        augmented: Option<EpochAugmentation>,
    ) -> Result<Batch, TrainerError>;
}

/// Evaluates batches of similar length and puts the logits back in the order of the examples:
/// `[examples, outputs]`.
pub(crate) fn all_logits(
    model: &Network,
    inputs: &dyn Inputs,
    batch_size: NonZeroUsize,
    device: &Device,
    progress: &dyn Fn(usize),
) -> Result<Vec<f32>, TrainerError> {
    let lengths = inputs.lengths();
    let mut logits = Vec::new();
    for examples in BatchPlan::evaluation(&lengths, batch_size).batches() {
        let found = host_values(model.forward(&inputs.batch(examples, None)?, device));
        let outputs = found.len() / examples.len();
        logits.resize(inputs.len() * outputs, 0.0);
        for (row, &example) in examples.iter().enumerate() {
            logits[example * outputs..][..outputs]
                .copy_from_slice(&found[row * outputs..][..outputs]);
        }
        progress(examples.len());
    }
    Ok(logits)
}
