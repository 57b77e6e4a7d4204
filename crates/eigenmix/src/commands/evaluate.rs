//! `eigenmix evaluate`: the figures of an adapter on a dataset.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;
use trainer::data::{DataConfig, LabelPolicy, Split, Targets, read_split};
use trainer::metrics::Metric;
use trainer::{BaseModel, Classifier, DeviceChoice, Inputs, figures};

use crate::adapter_argument::OpenedAdapter;
use crate::cli::EvaluateArguments;
use crate::console::Console;
use crate::failure::BadInput;
use crate::load_report;

pub(crate) fn run(
    arguments: &EvaluateArguments,
    device: DeviceChoice,
    console: &Console,
) -> anyhow::Result<()> {
    let split: Split = arguments.split.parse()?;
    let config = DataConfig {
        text: arguments.text.clone(),
        text_pair: arguments.text_pair.clone(),
        label: arguments.label.clone(),
        ..DataConfig::new(&arguments.data)
    };
    let base = BaseModel::open(&arguments.base)?;
    let adapter = OpenedAdapter::open(&arguments.adapter)?;
    let classifier = Classifier::load(
        &base,
        Some(&adapter.file),
        arguments.allow_partial,
        &device.open()?,
    )?;
    if let Some(report) = &classifier.report {
        load_report::tell(report, console);
    }
    let rows = read_split(
        Path::new(&arguments.data),
        split,
        &config,
        LabelPolicy::Required,
    )?;
    let label_set = classifier.targets()?;
    let targets = label_set.encode(&rows)?;
    let encodings = base.tokenizer()?.encode_all(&rows, base.max_length()?)?;
    let inputs = Inputs::Texts(encodings);
    let started = Instant::now();
    let progress = console.progress("evaluating", rows.len(), "examples");
    let logits = classifier.all_logits(&inputs, arguments.batch_size, &|count| {
        (0..count).for_each(|_| progress.advance());
    })?;
    drop(progress);
    let metrics: &[Metric] = match label_set {
        Targets::Classes(_) => &[Metric::Accuracy, Metric::MacroF1, Metric::Matthews],
        Targets::Regression => &[Metric::Pearson, Metric::Spearman, Metric::Mse],
    };
    let figures = figures(metrics, &logits, classifier.outputs(), &targets)?;
    if figures.values().any(|figure| figure.is_nan()) {
        let problem = "the model's outputs are not numbers; are the adapter's weights damaged?";
        return Err(BadInput(problem.to_owned()).into());
    }
    console.result(&EvaluateResult {
        adapter: &arguments.adapter,
        data: &arguments.data,
        split,
        examples: rows.len(),
        metrics: figures,
        seconds: started.elapsed().as_secs_f64(),
    })
}

#[derive(Serialize)]
struct EvaluateResult<'a> {
    adapter: &'a str,
    data: &'a str,
    split: Split,
    examples: usize,
    metrics: BTreeMap<String, f64>,
    seconds: f64,
}

impl fmt::Display for EvaluateResult<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "`{}` on {} examples of `{}`, {}",
            self.adapter, self.examples, self.data, self.split
        )?;
        for (name, figure) in &self.metrics {
            write!(formatter, "\n  {name:<9}  {figure:.4}")?;
        }
        Ok(())
    }
}
