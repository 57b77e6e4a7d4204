//! What a run of `eigenmix train` left behind: `config.toml`, `metrics.jsonl` and the rest.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::failure::BadInput;

/// What a line says about the course of the run; every other number in it is a figure of merit.
const COURSE: [&str; 4] = ["step", "epoch", "examples_per_second", "tokens_per_second"];

/// Figures of which a smaller one is better.
pub(crate) const LOWER_IS_BETTER: [&str; 3] = ["loss", "mse", "perplexity"];

/// A run as far as its files tell.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RunDirectory {
    #[serde(skip)]
    pub(crate) path: PathBuf,
    pub(crate) config: toml::Table,
    /// The last logged step.
    pub(crate) last_step: Option<Map<String, Value>>,
    /// By the split that was evaluated.
    pub(crate) evaluations: BTreeMap<String, Evaluations>,
    pub(crate) checkpoints: Vec<String>,
    /// The directory with what was trained: an adapter, or of full fine-tuning a model.
    pub(crate) result: Option<&'static str>,
}

/// The evaluations of one split.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Evaluations {
    pub(crate) count: usize,
    pub(crate) last: Map<String, Value>,
    /// For every figure of merit.
    pub(crate) best: BTreeMap<String, BestEvaluation>,
}

/// The best value of a figure and when it was reached.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct BestEvaluation {
    pub(crate) value: f64,
    pub(crate) step: Option<u64>,
    pub(crate) epoch: Option<f64>,
}

impl RunDirectory {
    pub(crate) const CONFIG: &str = "config.toml";
    pub(crate) const METRICS: &str = "metrics.jsonl";

    /// Whether `path` looks like a run.
    pub(crate) fn is_at(path: &Path) -> bool {
        path.join(Self::METRICS).is_file() || path.join(Self::CONFIG).is_file()
    }

    /// Reads the run at `path`. A run that has only begun has no metrics yet.
    ///
    /// # Errors
    /// If a file is there and cannot be read.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let mut run = Self {
            path: path.to_owned(),
            config: read_config(&path.join(Self::CONFIG))?,
            last_step: None,
            evaluations: BTreeMap::new(),
            checkpoints: names_in(&path.join("checkpoints")),
            result: ["adapter", "model"]
                .into_iter()
                .find(|result| path.join(result).is_dir()),
        };
        for line in read_metrics(path)? {
            run.add(line);
        }
        Ok(run)
    }

    fn add(&mut self, line: Map<String, Value>) {
        // Only a training step has a learning rate.
        if line.contains_key("learning_rate") {
            self.last_step = Some(line);
            return;
        }
        let split = line.get("split").and_then(Value::as_str);
        let split = split.unwrap_or("validation").to_owned();
        self.evaluations.entry(split).or_default().add(line);
    }
}

impl Evaluations {
    fn add(&mut self, line: Map<String, Value>) {
        for (name, value) in figures(&line) {
            let candidate = BestEvaluation {
                value,
                step: line.get("step").and_then(Value::as_u64),
                epoch: line.get("epoch").and_then(Value::as_f64),
            };
            let is_better = |best: &BestEvaluation| {
                if LOWER_IS_BETTER.contains(&name.as_str()) {
                    value < best.value
                } else {
                    value > best.value
                }
            };
            if self.best.get(&name).is_none_or(is_better) {
                self.best.insert(name, candidate);
            }
        }
        self.count += 1;
        self.last = line;
    }
}

/// The figures of merit in a line.
pub(crate) fn figures(line: &Map<String, Value>) -> Vec<(String, f64)> {
    line.iter()
        .filter(|(name, _)| !COURSE.contains(&name.as_str()))
        .filter_map(|(name, value)| Some((name.clone(), value.as_f64()?)))
        .collect()
}

fn read_config(path: &Path) -> anyhow::Result<toml::Table> {
    let Some(text) = read_if_there(path)? else {
        return Ok(toml::Table::new());
    };
    text.parse().map_err(|error: toml::de::Error| {
        BadInput(format!(
            "`{}` is not TOML: {}",
            path.display(),
            error.message()
        ))
        .into()
    })
}

/// The lines of `metrics.jsonl` in the run at `directory`; none if there is no such file.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn read_metrics(directory: &Path) -> anyhow::Result<Vec<Map<String, Value>>> {
    let path = &directory.join(RunDirectory::METRICS);
    let text = read_if_there(path)?.unwrap_or_default();
    let mut lines = Vec::new();
    let mut remaining = text.lines().enumerate().peekable();
    while let Some((index, line)) = remaining.next() {
        match serde_json::from_str(line) {
            Ok(values) => lines.push(values),
            // The run is still writing it, or was interrupted while it did.
            Err(_) if remaining.peek().is_none() => {}
            Err(error) => {
                let line = index + 1;
                let problem = format!(
                    "`{}`, line {line}, is not a JSON object: {error}",
                    path.display()
                );
                return Err(BadInput(problem).into());
            }
        }
    }
    Ok(lines)
}

fn read_if_there(path: &Path) -> Result<Option<String>, eigenmix_tensors::FileError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(eigenmix_tensors::FileError::io("read", path)(error)),
    }
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_with(metrics: &str) -> anyhow::Result<RunDirectory> {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join(RunDirectory::METRICS), metrics).expect("a file");
        RunDirectory::read(directory.path())
    }

    #[test]
    fn the_best_evaluation_of_a_split_has_the_highest_accuracy_or_the_lowest_loss() {
        let run = run_with(
            r#"{"step": 10, "epoch": 0.5, "loss": 0.1, "learning_rate": 0.01}
{"step": 20, "epoch": 1.0, "split": "validation", "loss": 0.7, "accuracy": 0.9}
{"step": 40, "epoch": 2.0, "split": "validation", "loss": 0.8, "accuracy": 0.95}
{"step": 60, "epoch": 3.0, "split": "validation", "loss": 0.9, "accuracy": 0.93}
{"step": 60, "epoch": 3.0, "split": "test", "loss": 0.2, "accuracy": 0.99}
"#,
        )
        .expect("a run");
        let validation = &run.evaluations["validation"];
        assert_eq!(validation.count, 3);
        assert_eq!(validation.best["accuracy"].step, Some(40));
        assert_eq!(validation.best["loss"].value, 0.7);
        assert_eq!(validation.last["accuracy"], 0.93);
        assert_eq!(run.evaluations["test"].last["accuracy"], 0.99);
        assert_eq!(run.last_step.expect("one")["step"], 10);
    }

    #[test]
    fn a_half_written_last_line_is_left_out_and_any_other_is_refused() {
        let whole = "{\"step\": 1, \"learning_rate\": 0.1}\n";
        assert!(run_with(&format!("{whole}{{\"st")).is_ok());
        let error = run_with(&format!("{{\"st\n{whole}")).expect_err("an error");
        assert!(error.to_string().contains("line 1"), "{error}");
    }
}
