//! `eigenmix evaluate`: the metrics of a model on a dataset.

use std::collections::BTreeMap;
use std::fmt;

use eigenmix_data::metrics::{LabelFigures, Metric};
use eigenmix_data::{DataConfig, Split};
use eigenmix_experiment::{
    BadInput, EvaluationRequest, ExperimentError, KnownInput, ModelRequest, SplitEvaluation,
    Splits, evaluate,
};
use eigenmix_trainer::{BaseModel, DeviceChoice, named_metrics, one_metric};
use serde::Serialize;

use crate::cli::{EvaluateArguments, changed};
use crate::console::Console;

/// The default maximum length of texts, for models that accept far longer ones.
const MAX_LENGTH: usize = 1024;

pub(crate) fn run(
    arguments: &EvaluateArguments,
    device: DeviceChoice,
    console: &Console,
) -> anyhow::Result<()> {
    let split: Split = arguments.split.parse()?;
    let model = ModelRequest {
        threshold: arguments.labels.threshold,
        ..arguments.model.request(&arguments.zero_shot, device)
    };
    let metrics = metrics(&arguments.metrics)?;
    let request = EvaluationRequest {
        model: &model,
        data: &|base, input| data_config(arguments, base, input),
        remedy: "--text, --text-pair, --label and --set change it",
        splits: Splits::One(split),
        metrics: &metrics,
        batch_size: arguments.batch_size,
    };
    for measured in evaluate(&request, console)?.splits {
        console.result(&EvaluateResult::new(arguments, measured))?;
    }
    Ok(())
}

/// The `[data]` table from what the training knew, the flags and `--set`.
fn data_config(
    arguments: &EvaluateArguments,
    base: &BaseModel,
    input: &KnownInput,
) -> Result<DataConfig, ExperimentError> {
    let limit = base.architecture.max_length();
    let max_length = limit.map_or(MAX_LENGTH, |limit| limit.min(MAX_LENGTH));
    let mut config = DataConfig::new(arguments.data.clone());
    config.max_length = max_length;
    input.apply(&mut config);
    arguments.columns.apply(&mut config);
    if let Some(column) = &arguments.label {
        config.label.clone_from(column);
    }
    changed(config, &arguments.overrides)
}

fn metrics(names: &[String]) -> Result<Vec<Metric>, BadInput> {
    names
        .iter()
        .map(|name| {
            serde_json::from_value(name.as_str().into())
                .map_err(|error| BadInput(format!("--metric {name}: {error}")))
        })
        .collect()
}

#[derive(Serialize)]
struct EvaluateResult<'a> {
    /// The adapter, or the base model if there is none.
    #[serde(rename = "adapter")]
    model: &'a str,
    data: &'a str,
    split: Split,
    examples: usize,
    #[serde(serialize_with = "one_metric::serialize")]
    loss: f64,
    #[serde(serialize_with = "named_metrics::serialize")]
    metrics: BTreeMap<String, f64>,
    /// The figures of each label, where a row may have several.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, LabelResult>,
    seconds: f64,
}

/// How well one label is predicted.
#[derive(Serialize)]
struct LabelResult {
    precision: f64,
    recall: f64,
    f1: f64,
    /// How many examples have it.
    examples: usize,
}

impl From<LabelFigures> for LabelResult {
    fn from(figures: LabelFigures) -> Self {
        Self {
            precision: figures.precision,
            recall: figures.recall,
            f1: figures.f1,
            examples: figures.support,
        }
    }
}

impl<'a> EvaluateResult<'a> {
    fn new(arguments: &'a EvaluateArguments, measured: SplitEvaluation) -> Self {
        let model = &arguments.model;
        Self {
            model: model.adapter.as_deref().unwrap_or(&model.base),
            data: &arguments.data,
            split: measured.split,
            examples: measured.examples,
            loss: measured.loss,
            metrics: measured.metrics,
            labels: measured
                .by_label
                .into_iter()
                .map(|(label, figures)| (label, figures.into()))
                .collect(),
            seconds: measured.seconds,
        }
    }
}

impl fmt::Display for EvaluateResult<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "`{}` on {} examples of `{}`, {}",
            self.model, self.examples, self.data, self.split
        )?;
        for (name, value) in &self.metrics {
            write!(formatter, "\n  {name:<11}  {value:.4}")?;
        }
        if self.labels.is_empty() {
            return Ok(());
        }
        let width = self.labels.keys().map(|label| label.chars().count()).max();
        let width = width.unwrap_or(0).max("label".len());
        write!(
            formatter,
            "\n  {:<width$}  {:>9}  {:>9}  {:>9}  {:>8}",
            "label", "precision", "recall", "f1", "examples"
        )?;
        for (label, figures) in &self.labels {
            write!(
                formatter,
                "\n  {label:<width$}  {:>9.4}  {:>9.4}  {:>9.4}  {:>8}",
                figures.precision, figures.recall, figures.f1, figures.examples
            )?;
        }
        Ok(())
    }
}
