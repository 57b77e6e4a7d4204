//! Labels → the classes or numbers that a model learns to predict.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::labelled::Labelled;
use crate::labels::{LabelMap, label_of};
use crate::metrics::{Metric, MetricError};
use crate::row::{LabelPolicy, RawLabel};
use crate::threshold::Threshold;

/// What a task predicts: `task.target` in a training file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TargetKind {
    /// One of the classes.
    #[serde(rename = "class")]
    Classification,
    /// Any number of labels, none included.
    #[serde(rename = "labels")]
    MultiLabel,
    /// A number.
    #[serde(rename = "number")]
    Regression,
}

impl TargetKind {
    /// The word in a training file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classification => "class",
            Self::MultiLabel => "labels",
            Self::Regression => "number",
        }
    }

    /// What its rows have to have.
    pub fn label_policy(self) -> LabelPolicy {
        match self {
            Self::Classification | Self::Regression => LabelPolicy::Required,
            Self::MultiLabel => LabelPolicy::Lists,
        }
    }
}

/// How labels become the targets of a loss.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    Classes(LabelMap),
    /// Any number of labels a row: an output for each, with a probability of its own.
    Labels {
        labels: LabelMap,
        threshold: Threshold,
    },
    Regression,
}

/// The targets of a sequence of rows, one a row.
#[derive(Clone, Debug, PartialEq)]
pub enum EncodedTargets {
    /// The output that stands for the label.
    Classes(Vec<usize>),
    Labels {
        /// For each row the outputs that stand for its labels, ascending.
        outputs: Vec<Vec<usize>>,
        /// The probability from which on a label counts as predicted.
        threshold: Threshold,
    },
    Values(Vec<f64>),
}

impl Targets {
    /// The targets that the training rows define.
    ///
    /// # Errors
    /// For a classification, as [`LabelMap::from_train`] or [`LabelMap::from_lists`].
    pub fn from_train<R: Labelled>(kind: TargetKind, rows: &[R]) -> Result<Self, DataError> {
        match kind {
            TargetKind::Classification => LabelMap::from_train(rows).map(Self::Classes),
            TargetKind::MultiLabel => Ok(Self::Labels {
                labels: LabelMap::from_lists(rows)?,
                threshold: Threshold::default(),
            }),
            TargetKind::Regression => Ok(Self::Regression),
        }
    }

    /// The same with another threshold, where there is one.
    #[must_use]
    pub fn with_threshold(self, threshold: Threshold) -> Self {
        match self {
            Self::Labels { labels, .. } => Self::Labels { labels, threshold },
            other => other,
        }
    }

    /// The same with other labels, where they are labels.
    #[must_use]
    pub fn with_labels(self, labels: LabelMap) -> Self {
        match self {
            Self::Classes(_) => Self::Classes(labels),
            Self::Labels { threshold, .. } => Self::Labels { labels, threshold },
            Self::Regression => Self::Regression,
        }
    }

    /// What they are of.
    pub fn kind(&self) -> TargetKind {
        match self {
            Self::Classes(_) => TargetKind::Classification,
            Self::Labels { .. } => TargetKind::MultiLabel,
            Self::Regression => TargetKind::Regression,
        }
    }

    /// The labels of the outputs; `None` for a regression.
    pub fn labels(&self) -> Option<&LabelMap> {
        match self {
            Self::Classes(labels) | Self::Labels { labels, .. } => Some(labels),
            Self::Regression => None,
        }
    }

    /// The outputs that a head needs: one a label, or one for a regression.
    pub fn outputs(&self) -> usize {
        self.labels().map_or(1, |labels| labels.names().len())
    }

    /// Checks that metrics can be computed of what is predicted for these targets, before anything is.
    ///
    /// # Errors
    /// If one is for other targets, or for another number of classes.
    pub fn require_measurable(&self, metrics: &[Metric]) -> Result<(), MetricError> {
        metrics.iter().try_for_each(|metric| match self {
            Self::Classes(labels) => metric.of_classes(labels.names().len()).map(drop),
            Self::Labels { .. } => metric.of_label_sets().map(drop),
            Self::Regression => metric.of_values().map(drop),
        })
    }

    /// Whether all these rows keep their labels to themselves: −1 everywhere, where that is no class.
    pub fn are_hidden_in<R: Labelled>(&self, rows: &[R]) -> bool {
        let is_hidden = |row: &R| {
            let label = match row.label() {
                Some(RawLabel::List(items)) if items.len() == 1 => items.first(),
                label => label,
            };
            label.is_some_and(|label| {
                let is_known = self
                    .labels()
                    .is_some_and(|labels| labels.output_of(label).is_some());
                label.whole_number() == Some(-1) && !is_known
            })
        };
        !rows.is_empty() && rows.iter().all(is_hidden)
    }

    /// # Errors
    /// When a row has no label, an unknown one, or in a regression one that is not a finite number.
    pub fn encode<R: Labelled>(&self, rows: &[R]) -> Result<EncodedTargets, DataError> {
        match self {
            Self::Classes(labels) => rows
                .iter()
                .map(|row| labels.encode(row))
                .collect::<Result<_, _>>()
                .map(EncodedTargets::Classes),
            Self::Labels { labels, threshold } => Ok(EncodedTargets::Labels {
                outputs: rows
                    .iter()
                    .map(|row| labels.encode_list(row))
                    .collect::<Result<_, _>>()?,
                threshold: *threshold,
            }),
            Self::Regression => rows
                .iter()
                .map(value_of)
                .collect::<Result<_, _>>()
                .map(EncodedTargets::Values),
        }
    }
}

fn value_of(row: &impl Labelled) -> Result<f64, DataError> {
    let label = label_of(row)?;
    let value = match label {
        RawLabel::Number(number) => Some(*number),
        RawLabel::Integer(integer) => Some(*integer as f64),
        RawLabel::Class { number, .. } => Some(*number as f64),
        RawLabel::Text(text) => text.trim().parse().ok(),
        RawLabel::List(_) => None,
    };
    value
        .filter(|value| value.is_finite())
        .ok_or_else(|| DataError::NotANumber {
            place: row.place().clone(),
            label: label.to_string(),
        })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{Place, Row};

    fn row(label: Option<RawLabel>) -> Row {
        Row {
            text: "text".to_owned(),
            text_pair: None,
            label,
            place: Place {
                file: Path::new("train.csv").into(),
                line: 5,
            },
        }
    }

    fn text(label: &str) -> Row {
        row(Some(RawLabel::Text(label.to_owned())))
    }

    #[test]
    fn classes_become_the_outputs_that_stand_for_them() {
        let rows = [text("no"), text("yes"), text("maybe"), text("no")];
        let targets = Targets::from_train(TargetKind::Classification, &rows).unwrap();
        assert_eq!(targets.outputs(), 3);
        assert_eq!(
            targets.encode(&rows).unwrap(),
            EncodedTargets::Classes(vec![1, 2, 0, 1])
        );
    }

    #[test]
    fn lists_become_the_outputs_that_stand_for_their_labels() {
        let list = |labels: &[&str]| {
            let items = labels
                .iter()
                .map(|label| RawLabel::Text((*label).to_owned()));
            row(Some(RawLabel::List(items.collect())))
        };
        let rows = [list(&["b", "a"]), list(&[]), list(&["c"])];
        let threshold = Threshold::try_from(0.25).unwrap();
        let targets = Targets::from_train(TargetKind::MultiLabel, &rows).unwrap();
        let targets = targets.with_threshold(threshold);
        assert_eq!(targets.outputs(), 3);
        let expected = EncodedTargets::Labels {
            outputs: vec![vec![0, 1], vec![], vec![2]],
            threshold,
        };
        assert_eq!(targets.encode(&rows).unwrap(), expected);
        assert!(targets.are_hidden_in(&[list(&["-1"])]));
        assert!(!targets.are_hidden_in(&[list(&[])]));
        let metrics = [
            Metric::MicroF1,
            Metric::MacroF1,
            Metric::ExactMatch,
            Metric::Accuracy,
        ];
        assert!(targets.require_measurable(&metrics).is_ok());
        let message = targets
            .require_measurable(&[Metric::Matthews])
            .unwrap_err()
            .to_string();
        assert!(message.contains("`matthews` is for classes"), "{message}");
    }

    #[test]
    fn minus_one_everywhere_hides_labels_unless_it_is_a_class() {
        let hidden = [text("-1"), row(Some(RawLabel::Integer(-1))), text("-1.0")];
        let words = Targets::from_train(TargetKind::Classification, &[text("a"), text("b")]);
        assert!(words.as_ref().unwrap().are_hidden_in(&hidden));
        assert!(Targets::Regression.are_hidden_in(&hidden));
        let partly = [text("-1"), text("a")];
        assert!(!words.as_ref().unwrap().are_hidden_in(&partly));
        let none: [Row; 0] = [];
        assert!(!words.unwrap().are_hidden_in(&none));
        let signs = Targets::from_train(TargetKind::Classification, &[text("1"), text("-1")]);
        assert!(!signs.unwrap().are_hidden_in(&hidden));
    }

    #[test]
    fn metrics_that_the_targets_have_nothing_for_are_refused_before_anything_is_predicted() {
        let classes = |names: &[&str]| {
            let rows: Vec<Row> = names.iter().map(|name| text(name)).collect();
            Targets::from_train(TargetKind::Classification, &rows).unwrap()
        };
        let refused = |targets: &Targets, metrics: &[Metric]| {
            let error = targets.require_measurable(metrics).unwrap_err();
            error.to_string()
        };
        let (two, three) = (classes(&["a", "b"]), classes(&["a", "b", "c"]));
        let all = [
            Metric::Accuracy,
            Metric::F1,
            Metric::MacroF1,
            Metric::Matthews,
        ];
        assert!(two.require_measurable(&all).is_ok());
        let message = refused(&three, &all);
        assert!(message.contains("2 classes, found 3"), "{message}");
        let message = refused(&two, &[Metric::Accuracy, Metric::Pearson]);
        assert!(message.contains("`pearson` is for numbers"), "{message}");
        let numbers = [Metric::Pearson, Metric::Spearman, Metric::Mse];
        assert!(Targets::Regression.require_measurable(&numbers).is_ok());
        let message = refused(&Targets::Regression, &[Metric::Mse, Metric::Perplexity]);
        assert!(
            message.contains("`perplexity` is for language models"),
            "{message}"
        );
    }

    #[test]
    fn a_regression_takes_numbers_of_every_spelling() {
        let rows = [
            text(" 4.25 "),
            row(Some(RawLabel::Integer(3))),
            row(Some(RawLabel::Number(-0.5))),
        ];
        let targets = Targets::from_train(TargetKind::Regression, &rows).unwrap();
        assert_eq!(targets.outputs(), 1);
        assert_eq!(
            targets.encode(&rows).unwrap(),
            EncodedTargets::Values(vec![4.25, 3.0, -0.5])
        );
    }

    #[test]
    fn a_regression_refuses_words_infinities_and_gaps() {
        for label in ["high", "NaN", "inf", ""] {
            let error = Targets::Regression.encode(&[text(label)]).unwrap_err();
            let expected = format!("train.csv:5: label `{label}` is not a finite number");
            assert!(error.to_string().contains(&expected), "{error}");
        }
        let error = Targets::Regression.encode(&[row(None)]).unwrap_err();
        assert!(matches!(error, DataError::MissingLabel { .. }), "{error}");
    }
}
