//! What tasks share whose examples have a label each: a class, several labels or none, or a value.

mod binary_cross_entropy;
mod cross_entropy;
mod host_loss;
mod inputs;
mod label_loss;
mod label_metrics;
mod objective;
mod reader;

use eigenmix_data::metrics::Metric;
use eigenmix_data::{EncodedTargets, EpochAugmentation};
use eigenmix_models::Network;

use super::{Evaluation, EvaluationOptions, Examples, LabelledBatch};
use crate::TrainerError;
use objective::LabelObjective;

pub use inputs::Inputs;
pub use label_loss::LabelLoss;
pub use label_metrics::label_metrics;

use label_metrics::figures_by_label;

pub(crate) use host_loss::host_loss;
pub(crate) use inputs::all_logits;
pub(super) use reader::{LabelledReader, LabelledSource, count_labels};

/// Texts or images, each with its class, its labels or its value.
pub struct LabelledExamples {
    pub inputs: Box<dyn Inputs>,
    pub targets: EncodedTargets,
    /// How the loss of a training weighs the targets; that of an evaluation is the plain one.
    pub loss: LabelLoss,
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
            EncodedTargets::Labels { .. } => vec![Metric::MicroF1, Metric::MacroF1],
            EncodedTargets::Values(_) => vec![Metric::Pearson, Metric::Spearman],
        }
    }

    fn detailed_metrics(&self) -> Vec<Metric> {
        match self.targets {
            EncodedTargets::Classes(_) => vec![Metric::Accuracy, Metric::MacroF1, Metric::Matthews],
            EncodedTargets::Labels { .. } => {
                vec![Metric::MicroF1, Metric::MacroF1, Metric::ExactMatch]
            }
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
            objective: Box::new(LabelObjective::new(&self.targets, &self.loss, examples)),
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
            options.processes,
            options.progress,
        )?;
        let outputs = match targets {
            EncodedTargets::Values(_) => 1,
            _ => logits.len() / inputs.len().max(1),
        };
        Ok(Evaluation {
            loss: host_loss(&logits, outputs, targets),
            metrics: label_metrics(options.metrics, &logits, outputs, targets)?,
            by_label: figures_by_label(&logits, outputs, targets)?,
        })
    }

    fn targets(&self) -> Option<&EncodedTargets> {
        Some(&self.targets)
    }

    fn into_labelled(self: Box<Self>) -> Option<LabelledExamples> {
        Some(*self)
    }
}
