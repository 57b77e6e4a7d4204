//! Measuring a model on a split.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use burn::tensor::Device;
use eigenmix_data::TextTokenizer;
use eigenmix_data::metrics::Metric;

/// How a model did on a split.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The mean loss: over the examples, or over the predicted tokens of a language model.
    pub loss: f64,
    /// By the metrics' names.
    pub metrics: BTreeMap<String, f64>,
}

/// How an evaluation is run.
pub struct EvaluationOptions<'a> {
    pub metrics: &'a [Metric],
    pub batch_size: NonZeroUsize,
    pub device: &'a Device,
    /// To read what a language model writes.
    pub tokenizer: Option<&'a TextTokenizer>,
    /// Hears how many examples more are done.
    pub progress: &'a dyn Fn(usize),
}
