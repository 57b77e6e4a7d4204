//! What an experiment found: arm by arm, over the seeds.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use adapter::write_file;
use serde::{Deserialize, Serialize};
use trainer::Outcome;

use crate::byte_count::ByteCount;
use crate::table::Table;

/// The comparison of an experiment's arms.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) output: String,
    pub(crate) arms: Vec<ArmReport>,
}

/// An arm's figures over its finished seeds.
#[derive(Serialize)]
pub(crate) struct ArmReport {
    pub(crate) name: String,
    pub(crate) seeds: Vec<u64>,
    /// Trained numbers, head excluded, and those of the head.
    pub(crate) adapter_parameters: usize,
    pub(crate) head_parameters: usize,
    /// The bytes to keep for the task.
    pub(crate) bytes: u64,
    pub(crate) seconds: Spread,
    /// Of the test split, or where there is none of the validation split.
    pub(crate) metrics: BTreeMap<String, Spread>,
    /// Seeds that ended in an error.
    pub(crate) failures: Vec<Failure>,
}

/// A cell that ended in an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) seed: u64,
    pub(crate) problem: String,
}

/// Writes the report into the directory of its experiment.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn write(directory: &Path, report: &Report) -> anyhow::Result<()> {
    write_file(&directory.join("report.md"), report.markdown().as_bytes())?;
    let json = serde_json::to_vec_pretty(report)?;
    Ok(write_file(&directory.join("report.json"), &json)?)
}

/// A mean and a standard deviation (over n − 1; 0 for a single value).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) mean: f64,
    pub(crate) deviation: f64,
}

impl Spread {
    pub(crate) fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = match values.len() {
            0 | 1 => 0.0,
            _ => (squares / (count - 1.0)).sqrt(),
        };
        Self { mean, deviation }
    }
}

impl ArmReport {
    /// Summarises the outcomes of one arm, with their seeds; `None` if there is nothing to tell.
    pub(crate) fn of(
        name: &str,
        outcomes: &[(u64, Outcome)],
        failures: Vec<Failure>,
    ) -> Option<Self> {
        if outcomes.is_empty() && failures.is_empty() {
            return None;
        }
        let nothing = Outcome::default();
        let first = outcomes.first().map_or(&nothing, |(_, outcome)| outcome);
        let figures = |outcome: &Outcome| {
            outcome
                .test
                .clone()
                .or_else(|| outcome.validation.clone())
                .unwrap_or_default()
        };
        let metrics = figures(first)
            .into_keys()
            .map(|metric| {
                let values: Vec<f64> = outcomes
                    .iter()
                    .filter_map(|(_, outcome)| figures(outcome).get(&metric).copied())
                    .collect();
                (metric, Spread::of(&values))
            })
            .collect();
        let seconds: Vec<f64> = outcomes
            .iter()
            .map(|(_, outcome)| outcome.seconds)
            .collect();
        Some(Self {
            name: name.to_owned(),
            seeds: outcomes.iter().map(|(seed, _)| *seed).collect(),
            adapter_parameters: first.adapter_parameters,
            head_parameters: first.head_parameters,
            bytes: first.bytes,
            seconds: Spread::of(&seconds),
            metrics,
            failures,
        })
    }
}

impl Report {
    /// The header and the rows of the comparison.
    fn rows(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let metrics: Vec<&String> = self
            .arms
            .first()
            .map(|arm| arm.metrics.keys().collect())
            .unwrap_or_default();
        let mut header: Vec<String> = ["method", "trained parameters", "of the head", "saved"]
            .map(str::to_owned)
            .to_vec();
        header.extend(metrics.iter().map(|metric| (*metric).clone()));
        header.push("seconds".to_owned());
        let rows = self
            .arms
            .iter()
            .map(|arm| {
                let mut row = vec![
                    arm.name.clone(),
                    arm.adapter_parameters.to_string(),
                    arm.head_parameters.to_string(),
                    ByteCount(arm.bytes).to_string(),
                ];
                row.extend(metrics.iter().map(|metric| {
                    arm.metrics
                        .get(*metric)
                        .map_or_else(String::new, |spread| figure(spread, arm.seeds.len(), 4))
                }));
                row.push(figure(&arm.seconds, arm.seeds.len(), 1));
                row
            })
            .collect();
        (header, rows)
    }

    /// The comparison as a Markdown table.
    pub(crate) fn markdown(&self) -> String {
        let (header, rows) = self.rows();
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = format!("# {}\n\n", self.output);
        text += &line(&header);
        text += &format!("|---|{}\n", "---:|".repeat(header.len() - 1));
        rows.iter().for_each(|row| text += &line(row));
        text
    }
}

fn figure(spread: &Spread, seeds: usize, digits: usize) -> String {
    match seeds {
        1 => format!("{:.digits$}", spread.mean),
        _ => format!("{:.digits$} ± {:.digits$}", spread.mean, spread.deviation),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (header, rows) = self.rows();
        let mut table = Table::with_header(header);
        rows.into_iter().for_each(|row| table.push(row));
        table.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_deviation_of_a_sample() {
        let spread = Spread::of(&[1.0, 2.0, 4.0]);
        assert!((spread.mean - 7.0 / 3.0).abs() < 1e-12);
        // numpy.std([1, 2, 4], ddof=1)
        assert!((spread.deviation - 1.527_525_231_652).abs() < 1e-9);
        assert_eq!(Spread::of(&[5.0]).deviation, 0.0);
    }
}
