//! The examples of any task, and the batches that are made of them.

use eigenmix_data::EpochAugmentation;
use eigenmix_data::metrics::{Metric, MetricError};
use eigenmix_models::{Batch, Network};

use super::{Evaluation, EvaluationOptions, LabelledExamples, Objective};
use crate::TrainerError;

/// A split as the model takes it.
pub trait Examples {
    /// How many there are.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How long each is, in tokens; an image without a text counts as one.
    fn lengths(&self) -> Vec<usize>;

    /// How many were cut to fit.
    fn truncated(&self) -> usize;

    /// What is measured unless a configuration says otherwise; the first decides which state of a
    /// training is the best.
    fn default_metrics(&self) -> Vec<Metric>;

    /// What `evaluate` measures unless it is asked for something else.
    fn detailed_metrics(&self) -> Vec<Metric> {
        self.default_metrics()
    }

    /// Checks that the data have what the metrics are measured on, before anything is computed.
    ///
    /// # Errors
    /// If they do not, naming the metric.
    fn require_measurable(&self, _metrics: &[Metric]) -> Result<(), MetricError> {
        Ok(())
    }

    /// Examples as one batch with its objective.
    ///
    /// - augmented: how training varies images; `None` for evaluations
    ///
    /// # Errors
    /// If an image can't be read.
    fn part(
        &self,
        examples: &[usize],
        augmented: Option<EpochAugmentation>,
    ) -> Result<Part, TrainerError>;

    /// Measures `network` on all of them.
    ///
    /// # Errors
    /// If a metric does not go with the task, or an image can't be read.
    fn evaluate(
        &self,
        network: &Network,
        options: &EvaluationOptions,
    ) -> Result<Evaluation, TrainerError>;

    /// Inputs and targets apart, where each example has a label.
    fn into_labelled(self: Box<Self>) -> Option<LabelledExamples> {
        None
    }
}

/// A batch and what it is trained towards.
pub struct Part {
    pub batch: Batch,
    pub objective: Box<dyn Objective>,
}
