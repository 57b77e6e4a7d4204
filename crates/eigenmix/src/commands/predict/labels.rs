//! Labels for texts and images.

use std::num::NonZeroUsize;

use eigenmix_data::{DataConfig, PredictedColumn, PredictedValues, Row};
use eigenmix_trainer::{Classifier, LineReader};
use serde::Serialize;

use super::input::{Input, row_of_line};
use super::table_output::{PREDICTION, TableOutput};
use crate::cli::PredictArguments;
use crate::console::Console;

/// A label for each line or row, or for the image file that it names.
pub(super) fn run(
    classifier: &Classifier,
    reader: &dyn LineReader,
    config: &DataConfig,
    input: Input,
    arguments: &PredictArguments,
    console: &Console,
) -> anyhow::Result<()> {
    let mut labeller = Labeller {
        classifier,
        reader,
        top: arguments.top.map_or(1, NonZeroUsize::get),
        cut: 0,
    };
    let batch_size = arguments.batch_size.get();
    match input {
        Input::Lines(lines) => {
            let (mut predictions, mut pending) = (Vec::new(), Vec::new());
            let mut lines = lines.into_iter();
            loop {
                let line = lines.next().transpose()?;
                let is_end = line.is_none();
                let row = line.map(|line| row_of_line(line, config));
                pending.extend(row.transpose()?);
                if pending.len() == batch_size || (is_end && !pending.is_empty()) {
                    for prediction in labeller.predict(std::mem::take(&mut pending))? {
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
            if console.is_json() {
                console.line(&serde_json::to_string(&Predictions { predictions })?)?;
            }
        }
        Input::Table(table) => {
            let names = labeller.column_names();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let output = TableOutput::new(&table, &names, arguments, console)?;
            let rows = reader.rows(&table)?;
            let progress = console.progress("predicting", rows.len(), "rows");
            let mut predictions = Vec::with_capacity(rows.len());
            for batch in rows.chunks(batch_size) {
                predictions.extend(labeller.predict(batch.to_vec())?);
                batch.iter().for_each(|_| progress.advance());
            }
            drop(progress);
            match console.is_json() && arguments.out.is_none() {
                true => console.line(&serde_json::to_string(&Predictions { predictions })?)?,
                false => output.write(&labeller.columns(&names, &predictions), console)?,
            }
        }
    }
    if labeller.cut > 0 {
        console.note(format_args!(
            "{} of the texts were cut at {} tokens; --set max_length=N allows more",
            labeller.cut, config.max_length
        ));
    }
    Ok(())
}

/// Predicts labels batch by batch.
struct Labeller<'a> {
    classifier: &'a Classifier,
    reader: &'a dyn LineReader,
    /// How many of the most probable labels are told.
    top: usize,
    /// How many texts were cut at the maximum length.
    cut: usize,
}

impl Labeller<'_> {
    fn predict(&mut self, rows: Vec<Row>) -> anyhow::Result<Vec<Prediction>> {
        let (batch, cut) = self.reader.batch(&rows)?;
        self.cut += cut;
        let logits = self.classifier.logits(&batch);
        let outputs = logits.chunks(self.classifier.outputs());
        let predictions = rows.into_iter().zip(outputs);
        Ok(predictions
            .map(|(row, logits)| Prediction::new(row, logits, self.classifier, self.top))
            .collect())
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

    /// - names: those of [`Labeller::column_names`]
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
