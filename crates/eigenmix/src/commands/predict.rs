//! `eigenmix predict`: a label for every line of text.

use std::fs::File;
use std::io::{BufRead, BufReader, stdin};
use std::path::Path;

use anyhow::Context;
use models::{Batch, TokenBatch};
use serde::Serialize;
use trainer::{BaseModel, Classifier, DeviceChoice};

use crate::adapter_argument::OpenedAdapter;
use crate::cli::PredictArguments;
use crate::console::Console;
use crate::failure::BadInput;
use crate::load_report;

pub(crate) fn run(
    arguments: &PredictArguments,
    device: DeviceChoice,
    console: &Console,
) -> anyhow::Result<()> {
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
    let (tokenizer, max_length) = (base.tokenizer()?, base.max_length()?);
    let lines = open(&arguments.input)?;
    let mut predictions = Vec::new();
    let mut pending = Vec::new();
    let mut lines = lines.lines();
    loop {
        let line = lines.next().transpose().context("cannot read the input")?;
        let is_end = line.is_none();
        pending.extend(line);
        if pending.len() == arguments.batch_size.get() || (is_end && !pending.is_empty()) {
            let encodings = pending
                .iter()
                .map(|text| tokenizer.encode(text, None, max_length))
                .collect::<Result<Vec<_>, _>>()?;
            let batch = TokenBatch::from_sequences(
                encodings
                    .iter()
                    .map(|encoding| (&encoding.ids[..], &encoding.type_ids[..])),
            );
            let logits = classifier.logits(&Batch::Tokens(batch));
            for (text, logits) in pending.drain(..).zip(logits.chunks(classifier.outputs())) {
                let prediction = Prediction::new(text, logits, &classifier);
                // With --json everything becomes one object in the end.
                match console.is_json() {
                    true => predictions.push(prediction),
                    false => console.line(&prediction)?,
                }
            }
        }
        if is_end {
            break;
        }
    }
    match console.is_json() {
        true => console.line(&serde_json::to_string(&Predictions { predictions })?),
        false => Ok(()),
    }
}

fn open(input: &Path) -> anyhow::Result<Box<dyn BufRead>> {
    if input == Path::new("-") {
        return Ok(Box::new(stdin().lock()));
    }
    let file = File::open(input)
        .map_err(|error| BadInput(format!("cannot read `{}`: {error}", input.display())))?;
    Ok(Box::new(BufReader::new(file)))
}

#[derive(Serialize)]
struct Predictions {
    predictions: Vec<Prediction>,
}

/// The label of a text and how sure the model is of it; for a regression its value.
#[derive(Serialize)]
struct Prediction {
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    /// The probability of the label, or the value.
    score: f64,
}

impl Prediction {
    fn new(text: String, logits: &[f32], classifier: &Classifier) -> Self {
        if logits.len() == 1 {
            return Self {
                text,
                label: None,
                score: f64::from(logits[0]),
            };
        }
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits
            .iter()
            .map(|&logit| f64::from(logit - largest).exp())
            .sum();
        let output = logits
            .iter()
            .position(|&logit| logit == largest)
            .unwrap_or(0);
        let name = classifier
            .labels
            .as_ref()
            .and_then(|labels| labels.names().get(output));
        Self {
            text,
            label: Some(name.cloned().unwrap_or_else(|| output.to_string())),
            score: 1.0 / sum,
        }
    }
}

impl std::fmt::Display for Prediction {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.label {
            Some(label) => write!(formatter, "{label}\t{:.4}\t{}", self.score, self.text),
            None => write!(formatter, "{:.4}\t{}", self.score, self.text),
        }
    }
}
