//! The history of a run, read from its files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use eigenmix_data::metrics::lower_is_better;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::metric_value::{self, MetricValue};
use crate::run::{Run, RunError};

/// Keys of a line about the progress of the run; every other number in it is a metric.
const PROGRESS_KEYS: [&str; 4] = ["step", "epoch", "examples_per_second", "tokens_per_second"];

/// A run, read from its files.
#[derive(Clone, Debug, Serialize)]
pub struct RunHistory {
    #[serde(skip)]
    pub path: PathBuf,
    pub config: toml::Table,
    /// The last logged step.
    pub last_step: Option<Map<String, Value>>,
    /// By the split that was evaluated.
    pub evaluations: BTreeMap<String, Evaluations>,
    pub checkpoints: Vec<String>,
    /// The directory of the result: an adapter, or a model after full fine-tuning.
    pub result: Option<&'static str>,
}

/// The evaluations of one split.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Evaluations {
    pub count: usize,
    pub last: Map<String, Value>,
    /// By the names of the metrics.
    pub best: BTreeMap<String, BestEvaluation>,
}

/// The best value of a metric and when it was reached.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BestEvaluation {
    #[serde(serialize_with = "crate::metric_value::one::serialize")]
    pub value: f64,
    pub step: Option<u64>,
    pub epoch: Option<f64>,
}

impl RunHistory {
    /// Reads the history of a run. A run that has just started has no metrics yet.
    ///
    /// # Errors
    /// If a file exists and cannot be read.
    pub fn read(run: &Run) -> Result<Self, RunError> {
        let mut history = Self {
            path: run.path().to_owned(),
            config: run.config()?,
            last_step: None,
            evaluations: BTreeMap::new(),
            checkpoints: run.checkpoints(),
            result: run.result(),
        };
        for line in run.metrics()? {
            history.add(line);
        }
        Ok(history)
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
        for (name, value) in metrics_in(&line) {
            let candidate = BestEvaluation {
                value,
                step: line.get("step").and_then(Value::as_u64),
                epoch: line.get("epoch").and_then(Value::as_f64),
            };
            let is_better = |best: &BestEvaluation| {
                metric_value::is_better(value, best.value, !lower_is_better(&name))
            };
            if self.best.get(&name).is_none_or(is_better) {
                self.best.insert(name, candidate);
            }
        }
        self.count += 1;
        self.last = line;
    }
}

/// The metrics in a line, by name.
pub fn metrics_in(line: &Map<String, Value>) -> Vec<(String, f64)> {
    line.iter()
        .filter(|(name, _)| !PROGRESS_KEYS.contains(&name.as_str()))
        .filter_map(|(name, value)| Some((name.clone(), MetricValue::of(value)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn run_with(metrics: &str) -> Result<RunHistory, RunError> {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join(Run::METRICS), metrics).expect("a file");
        RunHistory::read(&Run::at(directory.path()))
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
