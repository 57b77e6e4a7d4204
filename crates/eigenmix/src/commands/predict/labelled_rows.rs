//! Rows of texts or images, and what a classifier says of them.

use std::fmt::Display;

use eigenmix_data::{DataConfig, PredictedColumn, Row};
use eigenmix_trainer::{Classifier, LineReader};
use serde::Serialize;

use super::input::{Input, row_of_line};
use super::table_output::TableOutput;
use crate::cli::PredictArguments;
use crate::console::Console;

/// What a classifier says of a row, as its kind of head means it.
pub(super) trait Labeller {
    type Prediction: Serialize + Display;

    /// - logits: those of one row
    fn prediction(&self, row: Row, logits: &[f32]) -> Self::Prediction;

    /// The columns that predictions have in a table.
    fn column_names(&self) -> Vec<String>;

    /// - names: those of [`Labeller::column_names`]
    fn columns(&self, names: &[&str], predictions: &[Self::Prediction]) -> Vec<PredictedColumn>;
}

/// A classifier, and the reader of its inputs.
pub(super) struct RowModel<'a> {
    pub classifier: &'a Classifier,
    pub reader: &'a dyn LineReader,
    pub config: &'a DataConfig,
}

/// Predictions for each line or row, or for the image file that it names.
pub(super) fn run<L: Labeller>(
    labeller: &L,
    model: &RowModel,
    input: Input,
    arguments: &PredictArguments,
    console: &Console,
) -> anyhow::Result<()> {
    let mut cut = 0;
    let mut predict = |rows: Vec<Row>| -> anyhow::Result<Vec<L::Prediction>> {
        let (batch, cut_here) = model.reader.batch(&rows)?;
        cut += cut_here;
        let logits = model.classifier.logits(&batch);
        let outputs = logits.chunks(model.classifier.outputs());
        let predictions = rows.into_iter().zip(outputs);
        Ok(predictions
            .map(|(row, logits)| labeller.prediction(row, logits))
            .collect())
    };
    let batch_size = arguments.batch_size.get();
    match input {
        Input::Lines(lines) => {
            let (mut predictions, mut pending) = (Vec::new(), Vec::new());
            let mut lines = lines.into_iter();
            loop {
                let line = lines.next().transpose()?;
                let is_end = line.is_none();
                let row = line.map(|line| row_of_line(line, model.config));
                pending.extend(row.transpose()?);
                if pending.len() == batch_size || (is_end && !pending.is_empty()) {
                    for prediction in predict(std::mem::take(&mut pending))? {
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
            let rows = model.reader.rows(&table)?;
            let progress = console.progress("predicting", rows.len(), "rows");
            let mut predictions = Vec::with_capacity(rows.len());
            for batch in rows.chunks(batch_size) {
                predictions.extend(predict(batch.to_vec())?);
                batch.iter().for_each(|_| progress.advance());
            }
            drop(progress);
            match console.is_json() && arguments.out.is_none() {
                true => console.line(&serde_json::to_string(&Predictions { predictions })?)?,
                false => output.write(&labeller.columns(&names, &predictions), console)?,
            }
        }
    }
    if cut > 0 {
        console.note(format_args!(
            "{cut} of the texts were cut at {} tokens; --set max_length=N allows more",
            model.config.max_length
        ));
    }
    Ok(())
}

#[derive(Serialize)]
struct Predictions<P> {
    predictions: Vec<P>,
}
