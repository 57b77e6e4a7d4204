//! What an experiment found of one of its arms.

use std::collections::BTreeMap;

use eigenmix_adapter::Source;
use eigenmix_trainer::{BasisRecord, Outcome};
use serde::{Deserialize, Serialize};

use super::Spread;
use crate::pictures::{Curves, SpectrumSummary};

/// An arm's figures over its finished seeds. What needs a finished seed is missing without one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ArmReport {
    pub(crate) name: String,
    pub(crate) seeds: Vec<u64>,
    /// Trained numbers, head excluded, and those of the head.
    pub(crate) adapter_parameters: Option<usize>,
    pub(crate) head_parameters: Option<usize>,
    /// The bytes to keep for the task.
    pub(crate) bytes: Option<u64>,
    pub(crate) seconds: Option<Spread>,
    /// Examples a second of training steps.
    #[serde(default)]
    pub(crate) examples_per_second: Option<Spread>,
    /// The largest resident set of the process during the training, in bytes.
    #[serde(default)]
    pub(crate) peak_memory: Option<Spread>,
    /// Of the test split, or where there is none of the validation split.
    pub(crate) metrics: BTreeMap<String, Spread>,
    #[serde(default)]
    pub(crate) curves: Curves,
    /// Of methods with a basis: what it is made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subspace: Option<ArmSubspace>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) failures: Vec<Failure>,
    /// What could not be shown, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<String>,
}

/// The subspace that an arm trained in, as its first seed had it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ArmSubspace {
    pub(crate) sources: Vec<Source>,
    pub(crate) spectrum: SpectrumSummary,
}

/// A cell that has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) seed: u64,
    pub(crate) problem: String,
}

impl ArmReport {
    /// Summarises the outcomes of one arm, with their seeds; `None` if there are none. Curves and
    /// subspace are read from the runs, as far as they are there.
    pub(crate) fn of(name: &str, outcomes: &[(u64, Outcome)]) -> Option<Self> {
        let (_, first) = outcomes.first()?;
        let figures = |outcome: &Outcome| {
            let figures = outcome.test.clone();
            figures
                .or_else(|| outcome.validation.clone())
                .unwrap_or_default()
        };
        let spread = |figure: &dyn Fn(&Outcome) -> Option<f64>| {
            Spread::of_any(outcomes.iter().filter_map(|(_, outcome)| figure(outcome)))
        };
        let metrics = figures(first).into_keys().filter_map(|metric| {
            let spread = spread(&|outcome| figures(outcome).get(&metric).copied())?;
            Some((metric, spread))
        });
        let mut notes = Vec::new();
        let runs = outcomes.iter().map(|(_, outcome)| outcome.output.as_path());
        let curves = Curves::read(runs).unwrap_or_else(|error| {
            notes.push(format!("{name}: no learning curves, {error:#}"));
            Curves::default()
        });
        let subspace = BasisRecord::read(&first.output).unwrap_or_else(|error| {
            notes.push(format!("{name}: no spectrum of its subspace, {error:#}"));
            None
        });
        Some(Self {
            name: name.to_owned(),
            seeds: outcomes.iter().map(|(seed, _)| *seed).collect(),
            adapter_parameters: Some(first.adapter_parameters),
            head_parameters: Some(first.head_parameters),
            bytes: Some(first.bytes),
            seconds: spread(&|outcome| Some(outcome.seconds)),
            examples_per_second: spread(&|outcome| outcome.examples_per_second),
            peak_memory: spread(&|outcome| outcome.peak_memory.map(|bytes| bytes as f64)),
            metrics: metrics.collect(),
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
    pub(crate) fn failed(name: &str, failures: Vec<Failure>) -> Self {
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
            curves: Curves::default(),
            subspace: None,
            failures,
            notes: Vec::new(),
        }
    }
}
