//! The inputs of examples, without their targets.

use std::num::NonZeroUsize;

use burn::tensor::Device;
use eigenmix_data::{BatchPlan, EpochAugmentation};
use eigenmix_models::{Batch, Network};

use crate::TrainerError;
use crate::host_values::host_values;
use crate::processes::Processes;

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

/// Evaluates batches of similar length, shared out among the processes, and puts the logits back in the
/// order of the examples: `[examples, outputs]`.
pub(crate) fn all_logits(
    model: &Network,
    inputs: &dyn Inputs,
    batch_size: NonZeroUsize,
    device: &Device,
    processes: &Processes,
    progress: &dyn Fn(usize),
) -> Result<Vec<f32>, TrainerError> {
    let plan = BatchPlan::evaluation(&inputs.lengths(), batch_size);
    let batches = plan.batches();
    let found = processes.share_out(batches.len(), |number| {
        let examples = &batches[number];
        let logits = host_values(model.forward(&inputs.batch(examples, None)?, device));
        progress(examples.len());
        Ok::<_, TrainerError>(logits.into_iter().map(f64::from).collect())
    })?;
    let mut logits = Vec::new();
    for (examples, found) in batches.iter().zip(found) {
        let outputs = found.len() / examples.len();
        logits.resize(inputs.len() * outputs, 0.0);
        for (&example, found) in examples.iter().zip(found.chunks(outputs)) {
            let row = logits[example * outputs..][..outputs].iter_mut();
            row.zip(found)
                .for_each(|(logit, found)| *logit = *found as f32);
        }
    }
    Ok(logits)
}
