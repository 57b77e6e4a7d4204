//! Labels for texts and images.

use eigenmix_data::{PredictedColumn, PredictedValues, Row};
use eigenmix_trainer::Classifier;
use serde::Serialize;

use super::labelled_rows::Labeller;
use super::table_output::PREDICTION;

/// Tells the most probable labels, or a value.
pub(super) struct ClassLabeller<'a> {
    pub classifier: &'a Classifier,
    /// How many of the most probable labels are told.
    pub top: usize,
}

impl Labeller for ClassLabeller<'_> {
    type Prediction = Prediction;

    fn prediction(&self, row: Row, logits: &[f32]) -> Prediction {
        Prediction::new(row, logits, self.classifier, self.top)
    }

    /// The columns that predictions have in a table: the label and its probability, then those of the
    /// next labels; or a value.
    fn column_names(&self) -> Vec<String> {
        let outputs = self.classifier.outputs();
        if outputs == 1 {
            return vec![PREDICTION.to_owned()];
        }
        let mut names = vec![PREDICTION.to_owned(), "score".to_owned()];
        for place in 2..=self.top.min(outputs) {
            names.push(format!("{PREDICTION}_{place}"));
            names.push(format!("score_{place}"));
        }
        names
    }

    fn columns(&self, names: &[&str], predictions: &[Prediction]) -> Vec<PredictedColumn> {
        let values = |column: usize| {
            let label = |prediction: &Prediction| match column / 2 {
                0 => prediction.label.clone().unwrap_or_default(),
                place => prediction.labels[place].label.clone(),
            };
            let score = |prediction: &Prediction| match column / 2 {
                0 => prediction.score,
                place => prediction.labels[place].probability,
            };
            match column.is_multiple_of(2) && self.classifier.outputs() > 1 {
                true => PredictedValues::Texts(predictions.iter().map(label).collect()),
                false => PredictedValues::Numbers(predictions.iter().map(score).collect()),
            }
        };
        let names = names.iter().enumerate();
        names
            .map(|(column, name)| PredictedColumn {
                name: (*name).to_owned(),
                values: values(column),
            })
            .collect()
    }
}

/// The label of a text, or of an image by its path, and how sure the model is of it; for a regression
/// its value.
#[derive(Serialize)]
pub(super) struct Prediction {
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    text_pair: Option<String>,
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
    fn new(row: Row, logits: &[f32], classifier: &Classifier, top: usize) -> Self {
        let (text, text_pair) = (row.text, row.text_pair);
        if logits.len() == 1 {
            return Self {
                text,
                text_pair,
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
            text_pair,
            label: Some(best.label),
            score: best.probability,
            labels,
        }
    }
}

impl Prediction {
    fn write_pair(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.text_pair {
            Some(pair) => write!(formatter, "\t{pair}"),
            None => Ok(()),
        }
    }
}

impl std::fmt::Display for Prediction {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.label {
            None => {
                write!(formatter, "{:.4}\t{}", self.score, self.text)?;
                return self.write_pair(formatter);
            }
            Some(label) => write!(formatter, "{label}\t{:.4}\t", self.score)?,
        }
        for candidate in self.labels.iter().skip(1) {
            write!(
                formatter,
                "{}\t{:.4}\t",
                candidate.label, candidate.probability
            )?;
        }
        formatter.write_str(&self.text)?;
        self.write_pair(formatter)
    }
}
