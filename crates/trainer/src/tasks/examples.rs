//! The examples of any task, and their batches.

use eigenmix_data::metrics::{Metric, MetricError};
use eigenmix_data::{EncodedTargets, EpochAugmentation};
use eigenmix_models::{Batch, Network};

use super::{Evaluation, EvaluationOptions, LabelledExamples, Objective};
use crate::TrainerError;
use crate::training::TrainedModel;

/// A split, prepared for the model.
pub trait Examples<M: TrainedModel = Network> {
    /// The number of examples.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The length of each example in tokens; an image without a text counts as one.
    fn lengths(&self) -> Vec<usize>;

    /// Which examples have images between their words.
    fn have_images(&self) -> Vec<bool> {
        vec![false; self.len()]
    }

    /// How many examples were truncated.
    fn truncated(&self) -> usize;

    /// The default metrics of a training; the first decides which state is best.
    fn default_metrics(&self) -> Vec<Metric>;

    /// The default metrics of `eigenmix evaluate`.
    fn detailed_metrics(&self) -> Vec<Metric> {
        self.default_metrics()
    }

    /// Checks that the data have what the metrics need, before anything is computed. Of labels their
    /// [`Targets`](eigenmix_data::Targets) say it.
    ///
    /// # Errors
    /// If they do not, naming the metric.
    fn require_measurable(&self, _metrics: &[Metric]) -> Result<(), MetricError> {
        Ok(())
    }

    /// Examples as one batch with its objective.
    ///
    /// - augmented: how training images are augmented; `None` for evaluations
    ///
    /// # Errors
    /// If an image can't be read.
    fn batch(
        &self,
        examples: &[usize],
        augmented: Option<EpochAugmentation>,
    ) -> Result<M::Batch, TrainerError>;

    /// Evaluates `model` on all examples.
    ///
    /// # Errors
    /// If a metric does not fit the task, or an image can't be read.
    fn evaluate(&self, model: &M, options: &EvaluationOptions) -> Result<Evaluation, TrainerError>;

    /// What each example should give, if each has a label.
    fn targets(&self) -> Option<&EncodedTargets> {
        None
    }

    /// Inputs and targets separately, if each example has a label.
    fn into_labelled(self: Box<Self>) -> Option<LabelledExamples> {
        None
    }
}

/// A batch and its training objective.
pub struct LabelledBatch {
    pub batch: Batch,
    pub objective: Box<dyn Objective>,
}
