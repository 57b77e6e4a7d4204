//! The evaluation of a model on a dataset, for `eigenmix evaluate` and for the arms of an
//! experiment that evaluate.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Instant;

use eigenmix_data::metrics::{LabelFigures, Metric};
use eigenmix_data::{DataConfig, Split, TextTokenizer};
use eigenmix_trainer::{BaseModel, LoadedModel, SplitData};

use crate::image_labels::image_labels;
use crate::known_input::KnownInput;
use crate::listener::Listener;
use crate::model_request::ModelRequest;
use crate::opened_adapter::OpenedAdapter;
use crate::{BadInput, ExperimentError};

/// An evaluated model.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The splits that there were, in the order of the request.
    pub splits: Vec<SplitEvaluation>,
    /// The size of the adapter's weights in bytes; 0 without an adapter.
    pub adapter_bytes: u64,
}

/// The metrics of a model on one split.
#[derive(Clone, Debug, PartialEq)]
pub struct SplitEvaluation {
    pub split: Split,
    /// How many examples there were.
    pub examples: usize,
    /// The mean loss: over the examples, or over the predicted tokens of a language model.
    pub loss: f64,
    /// By name. One that cannot be computed is NaN, and listeners are warned of it.
    pub metrics: BTreeMap<String, f64>,
    /// Each label and its figures, where an example may have several; otherwise nothing.
    pub by_label: Vec<(String, LabelFigures)>,
    /// How long it took, loading excluded.
    pub seconds: f64,
}

/// The model, the data and the metrics of an evaluation.
pub struct EvaluationRequest<'a> {
    pub model: &'a ModelRequest,
    /// The data, made for the base model, which may limit how long texts are, and for what the
    /// training knew of its input.
    pub data: &'a dyn Fn(&BaseModel, &KnownInput) -> Result<DataConfig, ExperimentError>,
    /// How to ask for another input than that of the training, to end a note with.
    pub remedy: &'a str,
    pub splits: Splits<'a>,
    /// The metrics; the usual ones for the task if empty.
    pub metrics: &'a [Metric],
    /// The batch size.
    pub batch_size: NonZeroUsize,
}

/// The splits that a model is evaluated on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Splits<'a> {
    /// This one, which has to exist.
    One(Split),
    /// Those of these that exist.
    Present(&'a [Split]),
}

impl Splits<'_> {
    fn all(&self) -> &[Split] {
        match self {
            Self::One(split) => std::slice::from_ref(split),
            Self::Present(splits) => splits,
        }
    }
}

/// Evaluates a model, split by split.
///
/// # Errors
/// If model, adapter, head and data do not fit together, a required split is missing, or the
/// outputs of the model are NaN.
pub fn evaluate(
    request: &EvaluationRequest,
    listener: &dyn Listener,
) -> Result<Evaluation, ExperimentError> {
    let opened = request.model.open()?;
    let base = &opened.base;
    let config = (request.data)(base, &opened.input)?;
    if let Some(note) = opened.input.note(&config, request.remedy) {
        listener.note(&note);
    }
    let splits = request.splits.all();
    let first = splits.first().copied().unwrap_or(Split::Test);
    let model = opened.load(&|| Ok(image_labels(&config, first)?), listener)?;
    let kind = model.task_kind(base);
    let data = kind.open(base, &config, request.metrics)?;
    let targets = model.targets()?;
    if let Some(targets) = &targets {
        targets.require_measurable(request.metrics)?;
    }
    let mut measured = Vec::new();
    let mut notes = Vec::new();
    for &split in splits {
        let found = match request.splits {
            Splits::One(_) => Some(data.split(split, targets.as_ref())?),
            Splits::Present(_) if split == Split::Validation && config.fold.is_some() => {
                notes.push(
                    "the validation split is left out: data.fold takes it from the rows of a training"
                        .to_owned(),
                );
                None
            }
            Splits::Present(_) => data.optional_split(split, targets.as_ref(), &mut notes)?,
        };
        notes.drain(..).for_each(|note| listener.note(&note));
        if let Some(found) = found {
            let tokenizer = data.tokenizer();
            measured.push(measure(request, &model, tokenizer, split, found, listener)?);
        }
    }
    let adapter = opened.adapter.as_ref();
    Ok(Evaluation {
        splits: measured,
        adapter_bytes: adapter.map_or(0, OpenedAdapter::bytes),
    })
}

fn measure(
    request: &EvaluationRequest,
    model: &LoadedModel,
    tokenizer: Option<&TextTokenizer>,
    split: Split,
    found: SplitData,
    listener: &dyn Listener,
) -> Result<SplitEvaluation, ExperimentError> {
    let cut = found.cut(split);
    let notes = found.notes.iter().chain(&cut);
    notes.for_each(|note| listener.note(note));
    let examples = found.examples;
    let metrics = match request.metrics.is_empty() {
        true => examples.detailed_metrics(),
        false => request.metrics.to_vec(),
    };
    let started = Instant::now();
    let progress = listener.progress("evaluating", examples.len(), "examples");
    let advance = |count| (0..count).for_each(|_| progress.advance());
    let evaluation = model.evaluate(
        &*examples,
        &metrics,
        request.batch_size,
        tokenizer,
        &advance,
    )?;
    drop(progress);
    if evaluation.loss.is_nan() {
        let problem = "the model's outputs are NaN; are the adapter's weights damaged?";
        return Err(BadInput(problem.to_owned()).into());
    }
    for name in nan_metrics(&evaluation.metrics) {
        listener.warn(&format_args!("{name} on the {split} split is NaN"));
    }
    let names = model
        .labels
        .iter()
        .flat_map(|labels| labels.names())
        .cloned();
    Ok(SplitEvaluation {
        split,
        examples: examples.len(),
        loss: evaluation.loss,
        metrics: evaluation.metrics,
        by_label: names.zip(evaluation.by_label).collect(),
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// The names of the metrics that are NaN.
pub(crate) fn nan_metrics(metrics: &BTreeMap<String, f64>) -> impl Iterator<Item = &str> {
    let unknown = metrics.iter().filter(|(_, value)| value.is_nan());
    unknown.map(|(name, _)| name.as_str())
}
