//! Evaluating a model on a split.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use burn::tensor::Device;
use eigenmix_data::TextTokenizer;
use eigenmix_data::metrics::{LabelFigures, Metric};

use crate::processes::Processes;

/// The result of an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The mean loss: over the examples, or over the predicted tokens of a language model.
    pub loss: f64,
    /// By the metrics' names.
    pub metrics: BTreeMap<String, f64>,
    /// The figures of each label, in the order of the outputs, where an example may have several;
    /// otherwise nothing.
    pub by_label: Vec<LabelFigures>,
}

/// Options of an evaluation.
pub struct EvaluationOptions<'a> {
    pub metrics: &'a [Metric],
    pub batch_size: NonZeroUsize,
    pub device: &'a Device,
    /// Decodes what a language model generates.
    pub tokenizer: Option<&'a TextTokenizer>,
    /// Those that share the evaluation, each of them evaluating it too.
    pub processes: &'a Processes,
    /// Is called with the number of further examples that are done, by this process.
    pub progress: &'a dyn Fn(usize),
}
