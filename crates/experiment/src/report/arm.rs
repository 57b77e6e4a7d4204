//! What an experiment found of one of its arms.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use eigenmix_adapter::Source;
use eigenmix_tensors::FileError;
use eigenmix_trainer::{MetricValue, Outcome, Run};
use serde::{Deserialize, Serialize};

use super::samples::SampleImages;
use crate::charts::{Curves, SpectrumSummary};
use crate::evaluation::nan_metrics;
use crate::message;
use crate::spread::Spread;

/// An arm's metrics over its finished seeds. What needs a finished seed is missing without one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmReport {
    pub name: String,
    pub seeds: Vec<u64>,
    /// Trained parameters, head excluded, and those of the head.
    pub adapter_parameters: Option<usize>,
    pub head_parameters: Option<usize>,
    /// The bytes to keep for the task.
    pub bytes: Option<u64>,
    pub seconds: Option<Spread>,
    /// Examples per second of training steps.
    #[serde(default)]
    pub examples_per_second: Option<Spread>,
    /// The largest resident set of the process during the training, in bytes.
    #[serde(default)]
    pub peak_memory: Option<Spread>,
    /// Of the test split, or of the validation split if there is no test split.
    pub metrics: BTreeMap<String, Spread>,
    /// The same seed by seed.
    #[serde(default)]
    pub by_seed: BTreeMap<u64, BTreeMap<String, MetricValue>>,
    /// The arm that this one is the control of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_of: Option<String>,
    #[serde(default)]
    pub curves: Curves,
    /// The subspace, for methods with a basis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subspace: Option<ArmSubspace>,
    /// The images that its first seed made on the way.
    #[serde(default, skip_serializing_if = "SampleImages::is_empty")]
    pub samples: SampleImages,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
    /// What could not be shown, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The subspace that an arm trained in, that of its first seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmSubspace {
    pub sources: Vec<Source>,
    pub spectrum: SpectrumSummary,
}

/// A cell that has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub seed: u64,
    pub problem: String,
}

impl Failure {
    /// The file that records the failure of a cell.
    ///
    /// - output: the directory of the experiment
    pub(crate) fn path(output: &Path, cell: &str) -> PathBuf {
        output.join("failures").join(format!("{cell}.json"))
    }

    /// The error of a failed cell; `None` if it did not fail.
    ///
    /// # Errors
    /// If its file exists and cannot be read.
    pub(super) fn read(output: &Path, cell: &str) -> Result<Option<Self>, FileError> {
        let path = Self::path(output, cell);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(FileError::io("read", &path)(error)),
        };
        let failure = serde_json::from_slice(&text);
        failure
            .map(Some)
            .map_err(|source| FileError::Json { path, source })
    }
}

impl ArmReport {
    /// Summarises the outcomes of one arm, with their seeds; `None` if there are none. Curves and
    /// subspace are read from the runs, if they exist.
    pub fn of(name: &str, outcomes: &[(u64, Outcome)]) -> Option<Self> {
        let (_, first) = outcomes.first()?;
        let metrics_of = |outcome: &Outcome| {
            let metrics = outcome.test.clone();
            metrics
                .or_else(|| outcome.validation.clone())
                .unwrap_or_default()
        };
        let spread = |value: &dyn Fn(&Outcome) -> Option<f64>| {
            Spread::of_any(outcomes.iter().filter_map(|(_, outcome)| value(outcome)))
        };
        let metrics = metrics_of(first).into_keys().filter_map(|metric| {
            let spread = spread(&|outcome| metrics_of(outcome).get(&metric).copied())?;
            Some((metric, spread))
        });
        let by_seed = outcomes.iter().map(|(seed, outcome)| {
            let metrics = metrics_of(outcome).into_iter();
            let values = metrics.map(|(metric, value)| (metric, MetricValue(value)));
            (*seed, values.collect())
        });
        let mut notes = Vec::new();
        for (seed, outcome) in outcomes {
            for metric in nan_metrics(&metrics_of(outcome)) {
                notes.push(format!("{name}, seed {seed}: {metric} is NaN"));
            }
        }
        let runs = outcomes.iter().map(|(_, outcome)| outcome.output.as_path());
        let curves = Curves::read(runs).unwrap_or_else(|error| {
            notes.push(format!("{name}: no learning curves, {}", message(&error)));
            Curves::default()
        });
        let subspace = Run::at(&first.output).basis().unwrap_or_else(|error| {
            notes.push(format!(
                "{name}: no spectrum of its subspace, {}",
                message(&error)
            ));
            None
        });
        let samples = SampleImages::read(&first.output).unwrap_or_else(|error| {
            notes.push(format!("{name}: no samples, {}", message(&error)));
            SampleImages::default()
        });
        Some(Self {
            samples,
            name: name.to_owned(),
            seeds: outcomes.iter().map(|(seed, _)| *seed).collect(),
            adapter_parameters: Some(first.adapter_parameters),
            head_parameters: Some(first.head_parameters),
            bytes: Some(first.bytes),
            seconds: spread(&|outcome| Some(outcome.seconds)),
            examples_per_second: spread(&|outcome| outcome.examples_per_second),
            peak_memory: spread(&|outcome| outcome.peak_memory.map(|bytes| bytes as f64)),
            metrics: metrics.collect(),
            by_seed: by_seed.collect(),
            control_of: None,
            curves,
            subspace: subspace.map(|record| ArmSubspace {
                spectrum: SpectrumSummary::of(&record.modules),
                sources: record.sources,
            }),
            failures: Vec::new(),
            notes,
        })
    }

    /// An arm of which no seed has an outcome.
    pub fn failed(name: &str, failures: Vec<Failure>) -> Self {
        Self {
            name: name.to_owned(),
            seeds: Vec::new(),
            adapter_parameters: None,
            head_parameters: None,
            bytes: None,
            seconds: None,
            examples_per_second: None,
            peak_memory: None,
            metrics: BTreeMap::new(),
            by_seed: BTreeMap::new(),
            control_of: None,
            curves: Curves::default(),
            subspace: None,
            samples: SampleImages::default(),
            failures,
            notes: Vec::new(),
        }
    }
}
