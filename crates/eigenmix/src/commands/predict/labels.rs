//! Labels for texts and images.

use std::num::NonZeroUsize;

use eigenmix_trainer::{Classifier, LineReader};
use serde::Serialize;

use super::lines;
use crate::cli::PredictArguments;
use crate::console::Console;

/// A label for each line, or for the image file that it names.
pub(super) fn run(
    classifier: &Classifier,
    reader: &dyn LineReader,
    arguments: &PredictArguments,
    console: &Console,
) -> anyhow::Result<()> {
    let top = arguments.top.map_or(1, NonZeroUsize::get);
    let mut predictions = Vec::new();
    let mut pending = Vec::new();
    let mut lines = lines(&arguments.input)?;
    loop {
        let line = lines.next().transpose()?;
        let is_end = line.is_none();
        pending.extend(line);
        if pending.len() == arguments.batch_size.get() || (is_end && !pending.is_empty()) {
            let logits = classifier.logits(&reader.batch(&pending)?);
            for (text, logits) in pending.drain(..).zip(logits.chunks(classifier.outputs())) {
                let prediction = Prediction::new(text, logits, classifier, top);
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

#[derive(Serialize)]
struct Predictions {
    predictions: Vec<Prediction>,
}

/// The label of a text, or of an image by its path, and how sure the model is of it; for a regression
/// its value.
#[derive(Serialize)]
struct Prediction {
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    /// The probability of the label, or the value.
    score: f64,
    /// With --top, the most probable labels, the first of them included.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<Candidate>,
}

/// A candidate label.
#[derive(Serialize)]
struct Candidate {
    label: String,
    probability: f64,
}

impl Prediction {
    fn new(text: String, logits: &[f32], classifier: &Classifier, top: usize) -> Self {
        if logits.len() == 1 {
            return Self {
                text,
                label: None,
                score: f64::from(logits[0]),
                labels: Vec::new(),
            };
        }
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |logit: f32| f64::from(logit - largest).exp();
        let sum: f64 = logits.iter().map(|&logit| weight(logit)).sum();
        let names = classifier.labels.as_ref().map(|labels| labels.names());
        let candidate = |output: usize| Candidate {
            label: names
                .and_then(|names| names.get(output).cloned())
                .unwrap_or_else(|| output.to_string()),
            probability: weight(logits[output]) / sum,
        };
        let mut outputs: Vec<usize> = (0..logits.len()).collect();
        // Stable, so that of equals the first output leads.
        outputs.sort_by(|&left, &right| logits[right].total_cmp(&logits[left]));
        let best = candidate(outputs[0]);
        let labels = match top {
            1 => Vec::new(),
            _ => outputs.into_iter().take(top).map(candidate).collect(),
        };
        Self {
            text,
            label: Some(best.label),
            score: best.probability,
            labels,
        }
    }
}

impl std::fmt::Display for Prediction {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.label {
            None => return write!(formatter, "{:.4}\t{}", self.score, self.text),
            Some(label) => write!(formatter, "{label}\t{:.4}\t", self.score)?,
        }
        for candidate in self.labels.iter().skip(1) {
            write!(
                formatter,
                "{}\t{:.4}\t",
                candidate.label, candidate.probability
            )?;
        }
        formatter.write_str(&self.text)
    }
}
