//! Labels → the classes or numbers that a model learns to predict.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::labelled::Labelled;
use crate::labels::{LabelMap, label_of};
use crate::metrics::{Metric, MetricError};
use crate::row::RawLabel;

/// What a task predicts: `target = "class"` or `target = "number"` in a training file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TargetKind {
    #[serde(rename = "class")]
    Classification,
    #[serde(rename = "number")]
    Regression,
}

/// How labels become the targets of a loss.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    Classes(LabelMap),
    Regression,
}

/// The targets of a sequence of rows, one a row.
#[derive(Clone, Debug, PartialEq)]
pub enum EncodedTargets {
    /// The output that stands for the label.
    Classes(Vec<usize>),
    Values(Vec<f64>),
}

impl Targets {
    /// The targets that the training rows define.
    ///
    /// # Errors
    /// For a classification, as [`LabelMap::from_train`].
    pub fn from_train<R: Labelled>(kind: TargetKind, rows: &[R]) -> Result<Self, DataError> {
        match kind {
            TargetKind::Classification => LabelMap::from_train(rows).map(Self::Classes),
            TargetKind::Regression => Ok(Self::Regression),
        }
    }

    /// The outputs that a head needs: one a class, or one for a regression.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Classes(labels) => labels.names().len(),
            Self::Regression => 1,
        }
    }

    /// Checks that metrics can be computed of what is predicted for these targets, before anything is.
    ///
    /// # Errors
    /// If one is for other targets, or for another number of classes.
    pub fn require_measurable(&self, metrics: &[Metric]) -> Result<(), MetricError> {
        metrics.iter().try_for_each(|metric| match self {
            Self::Classes(labels) => metric.of_classes(labels.names().len()).map(drop),
            Self::Regression => metric.of_values().map(drop),
        })
    }

    /// Whether all these rows keep their labels to themselves: −1 everywhere, where that is no class.
    pub fn are_hidden_in<R: Labelled>(&self, rows: &[R]) -> bool {
        let is_hidden = |row: &R| {
            row.label().is_some_and(|label| {
                let is_class = match self {
                    Self::Classes(labels) => labels.output_of(label).is_some(),
                    Self::Regression => false,
                };
                label.whole_number() == Some(-1) && !is_class
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
