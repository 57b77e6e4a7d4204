//! Rows written back with their predictions.

use std::path::Path;

use eigenmix_data::{PredictedColumn, PredictionTable};
use eigenmix_experiment::BadInput;
use eigenmix_tensors::write_file;
use serde::Serialize;

use crate::cli::PredictArguments;
use crate::console::Console;

/// The column of what is predicted: a label, a value or a text.
pub(super) const PREDICTION: &str = "prediction";

/// Where the rows of a table go.
pub(super) struct TableOutput<'a> {
    table: &'a PredictionTable,
    out: Option<&'a Path>,
}

impl<'a> TableOutput<'a> {
    /// Checks that `columns` can be written before anything is predicted.
    ///
    /// # Errors
    /// If the output exists already or its directory does not, it is of another format than the input,
    /// or has such a column.
    pub(super) fn new(
        table: &'a PredictionTable,
        columns: &[&str],
        arguments: &'a PredictArguments,
        console: &Console,
    ) -> anyhow::Result<Self> {
        let out = arguments.out.as_deref();
        match out {
            Some(out) => {
                table.require_same_format(out)?;
                require_place(out)?;
                if out.exists() && !arguments.force {
                    let problem = format!("`{}` exists; --force overwrites it", out.display());
                    return Err(BadInput(problem).into());
                }
            }
            None if console.is_json() => {}
            None => table.require_text()?,
        }
        if out.is_some() || !console.is_json() {
            table.require_free(columns)?;
        }
        Ok(Self { table, out })
    }

    /// Writes the rows with `predictions`.
    ///
    /// # Errors
    /// If they cannot be written.
    pub(super) fn write(
        &self,
        predictions: &[PredictedColumn],
        console: &Console,
    ) -> anyhow::Result<()> {
        let bytes = self.table.with_predictions(predictions)?;
        let Some(out) = self.out else {
            return console.part(String::from_utf8_lossy(&bytes));
        };
        write_file(out, &self.table.compressed(bytes)?)?;
        console.result(&WrittenTable {
            out: out.display().to_string(),
            rows: self.table.len(),
            columns: predictions
                .iter()
                .map(|column| column.name.clone())
                .collect(),
        })
    }
}

/// Refuses a path at which no file can be.
fn require_place(out: &Path) -> Result<(), BadInput> {
    let directory = out.parent().filter(|parent| *parent != Path::new(""));
    let problem = match directory.filter(|directory| !directory.is_dir()) {
        Some(missing) => format!(
            "there is no directory `{}`; make it first",
            missing.display()
        ),
        None if out.is_dir() => "a directory is there".to_owned(),
        None => return Ok(()),
    };
    Err(BadInput(format!("--out {}: {problem}", out.display())))
}

#[derive(Serialize)]
struct WrittenTable {
    out: String,
    rows: usize,
    columns: Vec<String>,
}

impl std::fmt::Display for WrittenTable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.columns.join("`, `");
        write!(
            formatter,
            "`{}`: {} rows with `{columns}`",
            self.out, self.rows
        )
    }
}
