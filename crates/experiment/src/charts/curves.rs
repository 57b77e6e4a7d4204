//! Learning curves: metrics over the steps of a training, mean and spread over its seeds.

use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_charts::{Axis, Figure, LineChart, Point, Series};
use eigenmix_trainer::{Run, metrics_in};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ExperimentError;
use crate::spread::Spread;

/// The curves of the runs of an arm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curves {
    /// The mean training loss since the logged step before.
    pub training_loss: Curve,
    /// By metric, the loss included.
    pub validation: BTreeMap<String, Curve>,
}

/// A metric over the steps.
pub type Curve = Vec<CurvePoint>;

/// A metric at a step, over the seeds that have it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    pub step: u64,
    #[serde(flatten)]
    pub spread: Spread,
    pub seeds: usize,
}

/// The metrics of several runs by step.
type Collected = BTreeMap<u64, Vec<f64>>;

impl Curves {
    /// Reads `metrics.jsonl` of `runs`; a run without one adds nothing.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn read<'a>(runs: impl IntoIterator<Item = &'a Path>) -> Result<Self, ExperimentError> {
        let mut training_loss = Collected::new();
        let mut validation: BTreeMap<String, Collected> = BTreeMap::new();
        for run in runs {
            for line in Run::at(run).metrics()? {
                let Some(step) = line.get("step").and_then(Value::as_u64) else {
                    continue;
                };
                if line.contains_key("learning_rate") {
                    let loss = line.get("loss").and_then(Value::as_f64);
                    training_loss.entry(step).or_default().extend(loss);
                } else if is_of_validation(&line) {
                    for (name, value) in metrics_in(&line) {
                        let curve = validation.entry(name).or_default();
                        curve.entry(step).or_default().push(value);
                    }
                }
            }
        }
        let validation = validation.into_iter();
        Ok(Self {
            training_loss: curve(training_loss),
            validation: validation
                .map(|(name, collected)| (name, curve(collected)))
                .collect(),
        })
    }

    /// The curves of all arms together, one chart per metric. A metric that was measured at only
    /// one step is not a curve.
    pub fn charts(arms: &[(&str, &Self)]) -> Vec<Figure> {
        let mut charts = Vec::new();
        let losses = arms
            .iter()
            .map(|(name, curves)| (*name, &curves.training_loss));
        charts.extend(chart("Training loss", "training loss", losses.collect()));
        let metrics = arms.iter().flat_map(|(_, curves)| curves.validation.keys());
        let metrics: std::collections::BTreeSet<&String> = metrics.collect();
        for metric in metrics {
            let of_arms = arms.iter();
            let curves =
                of_arms.filter_map(|(name, curves)| Some((*name, curves.validation.get(metric)?)));
            let title = format!("Validation: {metric}");
            charts.extend(chart(&title, metric, curves.collect()));
        }
        charts
    }
}

fn is_of_validation(line: &Map<String, Value>) -> bool {
    let split = line.get("split").and_then(Value::as_str);
    split.is_none_or(|split| split == "validation")
}

fn curve(collected: Collected) -> Curve {
    let steps = collected
        .into_iter()
        .filter(|(_, values)| !values.is_empty());
    steps
        .map(|(step, values)| CurvePoint {
            step,
            spread: Spread::of(&values),
            seeds: values.len(),
        })
        .collect()
}

fn chart(caption: &str, metric: &str, curves: Vec<(&str, &Curve)>) -> Option<Figure> {
    if curves.iter().all(|(_, curve)| curve.len() < 2) {
        return None;
    }
    let series = curves.into_iter().map(|(name, curve)| {
        let points = curve.iter().map(|point| {
            let Spread { mean, deviation } = point.spread;
            Point::between(point.step as f64, mean, mean - deviation, mean + deviation)
        });
        Series::new(name, points.collect())
    });
    let chart = LineChart {
        x: Axis::counted("step"),
        y: Axis::linear(metric),
        series: series.collect(),
    };
    Some(chart.figure(caption))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_the_mean_over_the_seeds_at_every_step() {
        let root = tempfile::tempdir().expect("a directory");
        let metrics = [
            r#"{"step": 10, "epoch": 1.0, "loss": 1.0, "learning_rate": 0.1}
{"step": 10, "epoch": 1.0, "split": "validation", "loss": 3.0, "accuracy": 0.5}
{"step": 20, "epoch": 2.0, "loss": 0.5, "learning_rate": 0.1}
{"step": 20, "epoch": 2.0, "split": "test", "loss": 9.0, "accuracy": 0.1}
"#,
            r#"{"step": 10, "epoch": 1.0, "loss": 2.0, "learning_rate": 0.1}
"#,
        ];
        let runs = ["0", "1", "2"].map(|seed| root.path().join(seed));
        for (run, metrics) in runs.iter().zip(metrics) {
            std::fs::create_dir(run).expect("a directory");
            std::fs::write(run.join(Run::METRICS), metrics).expect("a file");
        }
        let curves = Curves::read(runs.iter().map(|run| run.as_path())).expect("curves");
        let [first, second] = curves.training_loss[..] else {
            panic!("{curves:?}")
        };
        assert_eq!((first.step, first.spread.mean, first.seeds), (10, 1.5, 2));
        assert!((first.spread.deviation - 0.5f64.sqrt()).abs() < 1e-12);
        assert_eq!(
            (second.step, second.spread.mean, second.seeds),
            (20, 0.5, 1)
        );
        assert_eq!(curves.validation["accuracy"][0].spread.mean, 0.5);
        assert_eq!(curves.validation["accuracy"].len(), 1);
    }
}
