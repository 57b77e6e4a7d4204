//! `eigenmix evaluate`: the figures of a model on a dataset.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use anyhow::Context;
use eigenmix_data::metrics::Metric;
use eigenmix_data::{DataConfig, Split};
use eigenmix_trainer::{BaseModel, DeviceChoice};
use serde::{Deserialize, Serialize};
use toml::Table;

use crate::cli::EvaluateArguments;
use crate::console::Console;
use crate::failure::BadInput;
use crate::image_labels::image_labels;
use crate::model_request::ModelRequest;

/// How long texts may be by default, where the model would take far longer ones.
const MAX_LENGTH: usize = 1024;

pub(crate) fn run(
    arguments: &EvaluateArguments,
    device: DeviceChoice,
    console: &Console,
) -> anyhow::Result<()> {
    let split: Split = arguments.split.parse()?;
    let request = ModelRequest::open(&arguments.model, &arguments.zero_shot, device)?;
    let base = &request.base;
    let config = data_config(arguments, base)?;
    let model = request.load(&|| Ok(image_labels(&config, split)?), console)?;
    let asked = metrics(&arguments.metrics)?;
    let kind = model.task_kind(base);
    let data = kind.open(base, &config, &asked)?;
    let found = data.split(split, model.targets()?.as_ref())?;
    found.notes.iter().for_each(|note| console.note(note));
    let examples = found.examples;
    let metrics = match asked.is_empty() {
        true => examples.detailed_metrics(),
        false => asked,
    };
    let started = Instant::now();
    let progress = console.progress("evaluating", examples.len(), "examples");
    let advance = |count| (0..count).for_each(|_| progress.advance());
    let batch_size = arguments.batch_size;
    let evaluation =
        model.evaluate(&*examples, &metrics, batch_size, data.tokenizer(), &advance)?;
    drop(progress);
    if evaluation.metrics.values().any(|value| value.is_nan()) {
        let problem = "the model's outputs are not numbers; are the adapter's weights damaged?";
        return Err(BadInput(problem.to_owned()).into());
    }
    console.result(&EvaluateResult {
        model: arguments
            .model
            .adapter
            .as_deref()
            .unwrap_or(&arguments.model.base),
        data: &arguments.data,
        split,
        examples: examples.len(),
        loss: evaluation.loss,
        metrics: evaluation.metrics,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// The `[data]` table that the flags and `--set` stand for.
fn data_config(arguments: &EvaluateArguments, base: &BaseModel) -> anyhow::Result<DataConfig> {
    let limit = base.architecture.max_length();
    let max_length = limit.map_or(MAX_LENGTH, |limit| limit.min(MAX_LENGTH));
    let mut table = Table::new();
    let mut insert = |key: &str, value: &str| table.insert(key.to_owned(), value.into());
    insert("path", &arguments.data);
    insert("text", &arguments.text);
    insert("label", &arguments.label);
    if let Some(column) = &arguments.text_pair {
        insert("text_pair", column);
    }
    table.insert("max_length".to_owned(), (max_length as i64).into());
    for change in &arguments.overrides {
        change.apply(&mut table)?;
    }
    DataConfig::deserialize(table)
        .map_err(|error| BadInput(error.message().to_owned()))
        .context("--set of the [data] table")
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
    /// The adapter, or without one the base model.
    #[serde(rename = "adapter")]
    model: &'a str,
    data: &'a str,
    split: Split,
    examples: usize,
    loss: f64,
    metrics: BTreeMap<String, f64>,
    seconds: f64,
}

impl fmt::Display for EvaluateResult<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "`{}` on {} examples of `{}`, {}",
            self.model, self.examples, self.data, self.split
        )?;
        for (name, figure) in &self.metrics {
            write!(formatter, "\n  {name:<11}  {figure:.4}")?;
        }
        Ok(())
    }
}
