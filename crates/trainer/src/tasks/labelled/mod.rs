//! What tasks share whose examples have a label each: a class, or a value.

mod host_loss;
mod inputs;
mod label_metrics;
mod objective;
mod reader;

use eigenmix_data::metrics::Metric;
use eigenmix_data::{EncodedTargets, EpochAugmentation};
use eigenmix_models::Network;

use super::{Evaluation, EvaluationOptions, Examples, LabelledBatch};
use crate::TrainerError;
use host_loss::host_loss;
use objective::LabelObjective;

pub use inputs::Inputs;
pub use label_metrics::label_metrics;

pub(crate) use inputs::all_logits;
pub(super) use reader::{LabelledReader, LabelledSource, count_labels};

/// Texts or images, each with its class or value.
pub struct LabelledExamples {
    pub inputs: Box<dyn Inputs>,
    pub targets: EncodedTargets,
}

impl Examples for LabelledExamples {
    fn len(&self) -> usize {
        self.inputs.len()
    }

    fn lengths(&self) -> Vec<usize> {
        self.inputs.lengths()
    }

    fn truncated(&self) -> usize {
        self.inputs.truncated()
    }

    fn default_metrics(&self) -> Vec<Metric> {
        match self.targets {
            EncodedTargets::Classes(_) => vec![Metric::Accuracy],
            EncodedTargets::Values(_) => vec![Metric::Pearson, Metric::Spearman],
        }
    }

    fn detailed_metrics(&self) -> Vec<Metric> {
        match self.targets {
            EncodedTargets::Classes(_) => vec![Metric::Accuracy, Metric::MacroF1, Metric::Matthews],
            EncodedTargets::Values(_) => vec![Metric::Pearson, Metric::Spearman, Metric::Mse],
        }
    }

    fn batch(
        &self,
        examples: &[usize],
        augmented: Option<EpochAugmentation>,
    ) -> Result<LabelledBatch, TrainerError> {
        Ok(LabelledBatch {
            batch: self.inputs.batch(examples, augmented)?,
            objective: Box::new(LabelObjective::new(&self.targets, examples)),
        })
    }

    fn evaluate(
        &self,
        network: &Network,
        options: &EvaluationOptions,
    ) -> Result<Evaluation, TrainerError> {
        let (inputs, targets) = (&*self.inputs, &self.targets);
        let logits = all_logits(
            network,
            inputs,
            options.batch_size,
            options.device,
            options.progress,
        )?;
        let outputs = match targets {
            EncodedTargets::Classes(_) => logits.len() / inputs.len().max(1),
            EncodedTargets::Values(_) => 1,
        };
        Ok(Evaluation {
            loss: host_loss(&logits, outputs, targets),
            metrics: label_metrics(options.metrics, &logits, outputs, targets)?,
        })
    }

    fn into_labelled(self: Box<Self>) -> Option<LabelledExamples> {
        Some(*self)
    }
}
