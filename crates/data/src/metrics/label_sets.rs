//! Metrics of examples that may have several labels, all from one count by label.

use super::{MetricError, paired_length};

/// How often each label was predicted and true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSetMetrics {
    examples: usize,
    /// Examples whose labels are all right, and no others.
    exact: usize,
    /// `[labels]`: examples that were rightly predicted to have the label.
    hits: Vec<usize>,
    /// `[labels]`: how often the label was predicted.
    predicted: Vec<usize>,
    /// `[labels]`: how often the label was true.
    expected: Vec<usize>,
}

/// The figures of one label.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LabelFigures {
    /// hits / predicted; 0 where it was never predicted, as in scikit-learn.
    pub precision: f64,
    /// hits / true; 0 where it is never true.
    pub recall: f64,
    /// 2·hits / (predicted + true); 0 where it never occurs.
    pub f1: f64,
    /// How many examples have the label.
    pub support: usize,
}

impl LabelSetMetrics {
    /// Compares predicted with true labels.
    ///
    /// - predicted, expected: `[examples]`, the labels of each, ascending and below `labels`
    ///
    /// # Errors
    /// When there are no examples, the lengths differ, or a label is not below `labels`.
    pub fn new(
        predicted: &[Vec<usize>],
        expected: &[Vec<usize>],
        labels: usize,
    ) -> Result<Self, MetricError> {
        let examples = paired_length(predicted.len(), expected.len())?;
        let mut all = predicted.iter().chain(expected).flatten();
        if let Some(found) = all.find(|label| **label >= labels) {
            return Err(MetricError::UnknownClass {
                found: *found,
                classes: labels,
            });
        }
        let mut counts = Self {
            examples,
            exact: 0,
            hits: vec![0; labels],
            predicted: vec![0; labels],
            expected: vec![0; labels],
        };
        for (predicted, expected) in predicted.iter().zip(expected) {
            counts.exact += usize::from(predicted == expected);
            for label in predicted {
                counts.predicted[*label] += 1;
                counts.hits[*label] += usize::from(expected.contains(label));
            }
            expected
                .iter()
                .for_each(|label| counts.expected[*label] += 1);
        }
        Ok(counts)
    }

    /// The share of examples whose labels are all right, and no others: scikit-learn's accuracy of
    /// several labels (subset accuracy).
    pub fn exact_match(&self) -> f64 {
        self.exact as f64 / self.examples as f64
    }

    /// F1 over the pairs of example and label: 2·Σhits / (Σpredicted + Σtrue); 0 where there are none.
    pub fn micro_f1(&self) -> f64 {
        let sum = |counts: &[usize]| counts.iter().sum::<usize>();
        f1(sum(&self.hits), sum(&self.predicted), sum(&self.expected))
    }

    /// The mean F1 of all labels, those included that never occur, which have 0.
    pub fn macro_f1(&self) -> f64 {
        let labels = self.by_label();
        labels.iter().map(|label| label.f1).sum::<f64>() / labels.len() as f64
    }

    /// The figures of each label, in the order of the outputs.
    pub fn by_label(&self) -> Vec<LabelFigures> {
        let share = |part: usize, whole: usize| match whole {
            0 => 0.0,
            whole => part as f64 / whole as f64,
        };
        (0..self.hits.len())
            .map(|label| {
                let (hits, predicted) = (self.hits[label], self.predicted[label]);
                let expected = self.expected[label];
                LabelFigures {
                    precision: share(hits, predicted),
                    recall: share(hits, expected),
                    f1: f1(hits, predicted, expected),
                    support: expected,
                }
            })
            .collect()
    }
}

fn f1(hits: usize, predicted: usize, expected: usize) -> f64 {
    match predicted + expected {
        0 => 0.0,
        occurrences => 2.0 * hits as f64 / occurrences as f64,
    }
}

#[cfg(test)]
mod tests {
    //! Expected values: scikit-learn 1.9.1 on the indicator matrices of these lists, made by
    //! `label_sets_reference.py` beside this file.

    use super::*;

    fn lists(lists: &[&[usize]]) -> Vec<Vec<usize>> {
        lists.iter().map(|labels| labels.to_vec()).collect()
    }

    const MICRO_F1: f64 = 0.6666666666666666;
    const MACRO_F1: f64 = 0.40476190476190477;
    const SUBSET_ACCURACY: f64 = 0.375;
    /// Precision, recall, F1 and support.
    const BY_LABEL: [(f64, f64, f64, usize); 5] = [
        (0.75, 1.0, 0.8571428571428571, 3),
        (0.5, 0.5, 0.5, 2),
        (
            0.6666666666666666,
            0.6666666666666666,
            0.6666666666666666,
            3,
        ),
        (0.0, 0.0, 0.0, 0),
        (0.0, 0.0, 0.0, 1),
    ];

    /// Label 3 of five never occurs, label 4 is never predicted.
    fn counts() -> LabelSetMetrics {
        let expected = lists(&[&[0, 2], &[], &[1], &[0, 1, 2], &[4], &[2], &[0], &[]]);
        let predicted = lists(&[&[0, 2], &[], &[1, 2], &[0, 2], &[], &[0], &[0], &[1]]);
        LabelSetMetrics::new(&predicted, &expected, 5).unwrap()
    }

    #[track_caller]
    fn assert_close(found: f64, expected: f64) {
        // Both sides are a few f64 operations on small integers.
        assert!(
            (found - expected).abs() < 1e-14,
            "{found} is not {expected}"
        );
    }

    #[test]
    fn averages_agree_with_scikit_learn() {
        let counts = counts();
        assert_close(counts.micro_f1(), MICRO_F1);
        assert_close(counts.macro_f1(), MACRO_F1);
        assert_close(counts.exact_match(), SUBSET_ACCURACY);
    }

    #[test]
    fn the_figures_of_each_label_agree_with_scikit_learn() {
        for (found, expected) in counts().by_label().iter().zip(BY_LABEL) {
            let (precision, recall, f1, support) = expected;
            assert_close(found.precision, precision);
            assert_close(found.recall, recall);
            assert_close(found.f1, f1);
            assert_eq!(found.support, support);
        }
    }

    #[test]
    fn nothing_predicted_and_nothing_true_is_an_exact_match_and_no_f1() {
        let nothing = LabelSetMetrics::new(&lists(&[&[]]), &lists(&[&[]]), 2).unwrap();
        assert_close(nothing.exact_match(), 1.0);
        assert_close(nothing.micro_f1(), 0.0);
        assert_close(nothing.macro_f1(), 0.0);
    }

    #[test]
    fn unequal_lengths_unknown_labels_and_nothing_are_refused() {
        let one = lists(&[&[0]]);
        let two = lists(&[&[0], &[1]]);
        assert!(LabelSetMetrics::new(&one, &two, 2).is_err());
        assert!(LabelSetMetrics::new(&two, &two, 1).is_err());
        assert_eq!(
            LabelSetMetrics::new(&[], &[], 2),
            Err(MetricError::NoPredictions)
        );
    }
}
