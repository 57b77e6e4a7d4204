//! How good predictions are. Every metric has the value that scikit-learn or scipy gives it.

mod classification;
mod label_sets;
mod regression;
mod vqa;

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::IntoDeserializer;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use classification::{ClassificationMetrics, hits_at, predicted_classes};
pub use label_sets::{LabelFigures, LabelSetMetrics};
pub use regression::RegressionMetrics;
pub use vqa::vqa_accuracy;

/// A metric by its name in configurations and in `metrics.jsonl`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// The part of the predictions that is right; of several labels, the part of the examples that have
    /// all of theirs and no others.
    Accuracy,
    /// F1 of class 1 of two.
    F1,
    /// The mean of the F1 of every class that occurs, or of every label, each counting the same.
    MacroF1,
    /// F1 over the pairs of example and label, where an example may have several labels.
    MicroF1,
    /// Matthews' correlation coefficient, of any number of classes.
    Matthews,
    /// Pearson's correlation coefficient.
    Pearson,
    /// Spearman's rank correlation coefficient.
    Spearman,
    /// The mean squared error.
    Mse,
    /// e to the mean cross-entropy of the predicted tokens.
    Perplexity,
    /// The part of the prompts that a language model continues with exactly the expected text; of several
    /// labels the same as the accuracy.
    ExactMatch,
    /// The accuracy of answers to questions about images: how many of the people who were asked (column
    /// `answers`) gave the same one, three being enough; without case, articles and punctuation.
    VqaAccuracy,
    /// The mean squared error of what a diffusion model sees in noisy images, at times in all bands and with the
    /// same noise in every evaluation; also of each band of times alone.
    DenoisingLoss,
}

/// What was predicted and what is true, example by example.
#[derive(Clone, Copy, Debug)]
pub enum Predictions<'a> {
    Classes {
        /// `[examples]`
        predicted: &'a [usize],
        /// `[examples]`
        expected: &'a [usize],
        /// How many outputs the classifier has.
        classes: usize,
    },
    LabelSets {
        /// `[examples]`
        predicted: &'a [Vec<usize>],
        /// `[examples]`
        expected: &'a [Vec<usize>],
        /// How many labels there are.
        labels: usize,
    },
    Values {
        /// `[examples]`
        predicted: &'a [f64],
        /// `[examples]`
        expected: &'a [f64],
    },
}

/// Why a metric cannot be computed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MetricError {
    #[error("{predicted} predictions cannot be compared with {expected} targets")]
    UnequalLengths { predicted: usize, expected: usize },

    #[error("there are no predictions to evaluate")]
    NoPredictions,

    #[error("class {found} does not exist: the classifier has {classes} outputs, from 0")]
    UnknownClass { found: usize, classes: usize },

    #[error("metric `{metric}` is for {wanted}, and this is {found}; choose one of {possible}")]
    WrongTask {
        metric: Metric,
        wanted: &'static str,
        found: &'static str,
        possible: &'static str,
    },

    #[error("metric `f1` is for 2 classes, found {classes}; choose `macro-f1`")]
    NotBinary { classes: usize },
}

impl Metric {
    /// The name in configurations and in `metrics.jsonl`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::F1 => "f1",
            Self::MacroF1 => "macro-f1",
            Self::MicroF1 => "micro-f1",
            Self::Matthews => "matthews",
            Self::Pearson => "pearson",
            Self::Spearman => "spearman",
            Self::Mse => "mse",
            Self::Perplexity => "perplexity",
            Self::ExactMatch => "exact-match",
            Self::VqaAccuracy => "vqa-accuracy",
            Self::DenoisingLoss => "denoising-loss",
        }
    }

    /// What it is for.
    fn wanted(self) -> &'static str {
        match self {
            Self::Accuracy | Self::F1 | Self::MacroF1 | Self::Matthews => "classes",
            Self::MicroF1 => "several labels a row (task.target = \"labels\")",
            Self::Pearson | Self::Spearman | Self::Mse => "numbers",
            Self::Perplexity | Self::ExactMatch => "language models",
            Self::VqaAccuracy => "vision-language models",
            Self::DenoisingLoss => "diffusion models",
        }
    }

    /// How it is computed of the counts of so many classes.
    ///
    /// # Errors
    /// If it is for something else, or for another number of classes.
    pub(crate) fn of_classes(
        self,
        classes: usize,
    ) -> Result<fn(&ClassificationMetrics) -> f64, MetricError> {
        match self {
            Self::Accuracy => Ok(ClassificationMetrics::accuracy),
            Self::F1 if classes != 2 => Err(MetricError::NotBinary { classes }),
            Self::F1 => Ok(|counts| counts.f1(1)),
            Self::MacroF1 => Ok(ClassificationMetrics::macro_f1),
            Self::Matthews => Ok(ClassificationMetrics::matthews),
            metric => Err(MetricError::WrongTask {
                metric,
                wanted: metric.wanted(),
                found: "a classification",
                possible: "`accuracy`, `f1`, `macro-f1`, `matthews`",
            }),
        }
    }

    /// How it is computed of the counts of rows that may have several labels.
    ///
    /// # Errors
    /// If it is for something else.
    pub(crate) fn of_label_sets(self) -> Result<fn(&LabelSetMetrics) -> f64, MetricError> {
        match self {
            Self::Accuracy | Self::ExactMatch => Ok(LabelSetMetrics::exact_match),
            Self::MicroF1 => Ok(LabelSetMetrics::micro_f1),
            Self::MacroF1 => Ok(LabelSetMetrics::macro_f1),
            metric => Err(MetricError::WrongTask {
                metric,
                wanted: metric.wanted(),
                found: "a classification with several labels a row",
                possible: "`micro-f1`, `macro-f1`, `exact-match` (the same as `accuracy`)",
            }),
        }
    }

    /// How it is computed of pairs of numbers.
    ///
    /// # Errors
    /// If it is for something else.
    pub(crate) fn of_values(self) -> Result<fn(&RegressionMetrics<'_>) -> f64, MetricError> {
        match self {
            Self::Pearson => Ok(|pairs| pairs.pearson()),
            Self::Spearman => Ok(|pairs| pairs.spearman()),
            Self::Mse => Ok(|pairs| pairs.mse()),
            metric => Err(MetricError::WrongTask {
                metric,
                wanted: metric.wanted(),
                found: "a regression",
                possible: "`pearson`, `spearman`, `mse`",
            }),
        }
    }

    /// Checks that it can be computed of a diffusion model.
    ///
    /// # Errors
    /// If it is for something else.
    pub fn of_denoising(self) -> Result<(), MetricError> {
        match self {
            Self::DenoisingLoss => Ok(()),
            metric => Err(MetricError::WrongTask {
                metric,
                wanted: metric.wanted(),
                found: "a diffusion model",
                possible: "`denoising-loss`",
            }),
        }
    }

    /// Whether a larger value is a better one.
    pub fn higher_is_better(self) -> bool {
        !matches!(self, Self::Mse | Self::Perplexity | Self::DenoisingLoss)
    }
}

/// Whether a smaller figure is a better one, of a figure by its name in `metrics.jsonl`: a metric or
/// the loss.
pub fn lower_is_better(name: &str) -> bool {
    // What follows a slash is the part of the data that it was measured on.
    let name = name.split('/').next().unwrap_or(name);
    let metric: Result<Metric, serde::de::value::Error> =
        Metric::deserialize(name.into_deserializer());
    name == "loss" || metric.is_ok_and(|metric| !metric.higher_is_better())
}

impl fmt::Display for Metric {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The metrics asked for, by name.
///
/// # Errors
/// When there is nothing to compare, lengths differ, or a metric does not fit the predictions.
pub fn evaluate(
    metrics: &[Metric],
    predictions: Predictions<'_>,
) -> Result<BTreeMap<String, f64>, MetricError> {
    let values: Vec<f64> = match predictions {
        Predictions::Classes {
            predicted,
            expected,
            classes,
        } => {
            let counts = ClassificationMetrics::new(predicted, expected, classes)?;
            let of = |metric: &Metric| Ok(metric.of_classes(classes)?(&counts));
            let values = metrics.iter().map(of);
            values.collect::<Result<_, _>>()?
        }
        Predictions::LabelSets {
            predicted,
            expected,
            labels,
        } => {
            let counts = LabelSetMetrics::new(predicted, expected, labels)?;
            let of = |metric: &Metric| Ok(metric.of_label_sets()?(&counts));
            let values = metrics.iter().map(of);
            values.collect::<Result<_, _>>()?
        }
        Predictions::Values {
            predicted,
            expected,
        } => {
            let pairs = RegressionMetrics::new(predicted, expected)?;
            let of = |metric: &Metric| Ok(metric.of_values()?(&pairs));
            let values = metrics.iter().map(of);
            values.collect::<Result<_, _>>()?
        }
    };
    let names = metrics.iter().map(|metric| metric.name().to_owned());
    Ok(names.zip(values).collect())
}

/// The number of pairs, once it is known to be one and the same and not zero.
fn paired_length(predicted: usize, expected: usize) -> Result<usize, MetricError> {
    if predicted != expected {
        return Err(MetricError::UnequalLengths {
            predicted,
            expected,
        });
    }
    if predicted == 0 {
        return Err(MetricError::NoPredictions);
    }
    Ok(predicted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Metric; 10] = [
        Metric::Accuracy,
        Metric::F1,
        Metric::MacroF1,
        Metric::MicroF1,
        Metric::Matthews,
        Metric::Pearson,
        Metric::Spearman,
        Metric::Mse,
        Metric::Perplexity,
        Metric::ExactMatch,
    ];

    fn two_classes() -> Predictions<'static> {
        Predictions::Classes {
            predicted: &[1, 0, 1, 1],
            expected: &[1, 0, 0, 1],
            classes: 2,
        }
    }

    #[test]
    fn a_metric_is_written_by_its_name() {
        for metric in ALL {
            let written = serde_json::to_value(metric).unwrap();
            assert_eq!(written, metric.name());
            assert_eq!(serde_json::from_value::<Metric>(written).unwrap(), metric);
        }
    }

    #[test]
    fn only_errors_are_better_when_smaller() {
        let smaller: Vec<Metric> = ALL
            .into_iter()
            .filter(|metric| !metric.higher_is_better())
            .collect();
        assert_eq!(smaller, [Metric::Mse, Metric::Perplexity]);
    }

    #[test]
    fn the_metrics_asked_for_come_by_name() {
        let found = evaluate(&[Metric::F1, Metric::Accuracy], two_classes()).unwrap();
        let expected = [("accuracy".to_owned(), 0.75), ("f1".to_owned(), 0.8)];
        assert_eq!(found, BTreeMap::from(expected));

        let values = Predictions::Values {
            predicted: &[1.0, 3.0],
            expected: &[2.0, 5.0],
        };
        let found = evaluate(&[Metric::Mse, Metric::Spearman], values).unwrap();
        let expected = [("mse".to_owned(), 2.5), ("spearman".to_owned(), 1.0)];
        assert_eq!(found, BTreeMap::from(expected));
    }

    #[test]
    fn a_metric_of_another_task_is_refused_with_the_possible_ones() {
        let error = evaluate(&[Metric::Pearson], two_classes()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "metric `pearson` is for numbers, and this is a classification; choose one of \
             `accuracy`, `f1`, `macro-f1`, `matthews`"
        );
        let values = Predictions::Values {
            predicted: &[1.0],
            expected: &[2.0],
        };
        assert!(evaluate(&[Metric::Accuracy], values).is_err());
        let three = Predictions::Classes {
            predicted: &[2],
            expected: &[1],
            classes: 3,
        };
        let error = evaluate(&[Metric::F1], three).unwrap_err();
        assert_eq!(error, MetricError::NotBinary { classes: 3 });
    }
}
