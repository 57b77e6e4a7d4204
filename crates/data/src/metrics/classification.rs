//! Metrics of predicted classes, all from one count of hits and misses by class.

use super::{MetricError, paired_length};

/// How often each class was predicted for each class: all that its metrics need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassificationMetrics {
    examples: usize,
    /// `[classes]`: examples of the class that were predicted to be of it.
    hits: Vec<usize>,
    /// `[classes]`: how often the class was predicted.
    predicted: Vec<usize>,
    /// `[classes]`: how often the class was true.
    expected: Vec<usize>,
}

impl ClassificationMetrics {
    /// Compares predicted with true classes.
    ///
    /// - predicted, expected: `[examples]`, each below `classes`
    ///
    /// # Errors
    /// When there are no examples, the lengths differ, or a class is not below `classes`.
    pub fn new(
        predicted: &[usize],
        expected: &[usize],
        classes: usize,
    ) -> Result<Self, MetricError> {
        let examples = paired_length(predicted.len(), expected.len())?;
        if let Some(found) = predicted
            .iter()
            .chain(expected)
            .find(|class| **class >= classes)
        {
            return Err(MetricError::UnknownClass {
                found: *found,
                classes,
            });
        }
        let mut counts = Self {
            examples,
            hits: vec![0; classes],
            predicted: vec![0; classes],
            expected: vec![0; classes],
        };
        for (predicted, expected) in predicted.iter().zip(expected) {
            counts.hits[*expected] += usize::from(predicted == expected);
            counts.predicted[*predicted] += 1;
            counts.expected[*expected] += 1;
        }
        Ok(counts)
    }

    /// How many outputs the classifier has.
    pub fn classes(&self) -> usize {
        self.hits.len()
    }

    /// Σ hits / examples.
    pub fn accuracy(&self) -> f64 {
        self.hits.iter().sum::<usize>() as f64 / self.examples as f64
    }

    /// F1 of a class, 2·hits / (predicted + expected); 0 where it never occurs, as in scikit-learn.
    ///
    /// # Panics
    /// When `class` is not below [`ClassificationMetrics::classes`].
    pub fn f1(&self, class: usize) -> f64 {
        let occurrences = self.predicted[class] + self.expected[class];
        if occurrences == 0 {
            return 0.0;
        }
        2.0 * self.hits[class] as f64 / occurrences as f64
    }

    /// The mean F1 of the classes that were predicted or true, as scikit-learn averages.
    pub fn macro_f1(&self) -> f64 {
        let occurring: Vec<f64> = (0..self.classes())
            .filter(|class| self.predicted[*class] + self.expected[*class] > 0)
            .map(|class| self.f1(class))
            .collect();
        occurring.iter().sum::<f64>() / occurring.len() as f64
    }

    /// Matthews' correlation coefficient of any number of classes (Gorodkin's R_K):
    ///
    /// (n·Σhits − Σ predicted·expected) / √((n² − Σ predicted²)·(n² − Σ expected²))
    ///
    /// 0 where only one class was predicted or is true, as in scikit-learn.
    pub fn matthews(&self) -> f64 {
        let product = |left: &[usize], right: &[usize]| -> f64 {
            let products = left.iter().zip(right);
            products
                .map(|(left, right)| *left as f64 * *right as f64)
                .sum()
        };
        let examples = self.examples as f64;
        let hits = self.hits.iter().sum::<usize>() as f64;
        let covariance = examples * hits - product(&self.predicted, &self.expected);
        let predicted_variance = examples * examples - product(&self.predicted, &self.predicted);
        let expected_variance = examples * examples - product(&self.expected, &self.expected);
        if predicted_variance == 0.0 || expected_variance == 0.0 {
            return 0.0;
        }
        covariance / (predicted_variance * expected_variance).sqrt()
    }
}

/// The class of each example: that of its largest logit, the first of equals; a NaN counts as
/// largest, as in numpy.
///
/// - logits: `[examples, classes]`, row-major
pub fn predicted_classes(logits: &[f32], classes: usize) -> Vec<usize> {
    let examples = logits.chunks_exact(classes.max(1));
    examples
        .map(|logits| {
            let mut best = 0;
            for (class, logit) in logits.iter().enumerate() {
                if *logit > logits[best] || (logit.is_nan() && !logits[best].is_nan()) {
                    best = class;
                }
            }
            best
        })
        .collect()
}

/// The part of the examples whose class is among their `k` largest logits (Hits@k).
///
/// Of equal logits the class with the lower number goes first (in scikit-learn the higher), so
/// Hits@1 is the accuracy of [`predicted_classes`]; an example with a NaN in its class is a miss.
///
/// - logits: `[examples, classes]`, row-major
/// - expected: `[examples]`
///
/// # Errors
/// When there are no examples, the lengths differ, or a class is not below `classes`.
pub fn hits_at(
    k: usize,
    logits: &[f32],
    classes: usize,
    expected: &[usize],
) -> Result<f64, MetricError> {
    if let Some(found) = expected.iter().find(|class| **class >= classes) {
        return Err(MetricError::UnknownClass {
            found: *found,
            classes,
        });
    }
    let examples = paired_length(logits.len() / classes.max(1), expected.len())?;
    let hits = logits
        .chunks_exact(classes)
        .zip(expected)
        .filter(|(logits, expected)| {
            let target = logits[**expected];
            let goes_before = |(class, logit): (usize, &f32)| {
                *logit > target || logit.is_nan() || (*logit == target && class < **expected)
            };
            let ahead = logits
                .iter()
                .enumerate()
                .filter(|entry| goes_before(*entry));
            !target.is_nan() && ahead.count() < k
        })
        .count();
    Ok(hits as f64 / examples as f64)
}

#[cfg(test)]
mod tests {
    //! Expected values: scikit-learn 1.9.1 on the same lists,
    //! `accuracy_score(y, p)`, `f1_score(y, p)`, `f1_score(y, p, average="macro")`,
    //! `matthews_corrcoef(y, p)`, `top_k_accuracy_score(y, logits, k=k, labels=range(4))`.

    use super::*;

    /// Class 3 of five never occurs.
    const EXPECTED: [usize; 12] = [0, 1, 2, 2, 1, 0, 4, 2, 1, 1, 0, 4];
    const PREDICTED: [usize; 12] = [0, 2, 2, 2, 1, 1, 4, 0, 1, 2, 0, 2];
    const EXPECTED_BINARY: [usize; 9] = [1, 0, 1, 1, 0, 0, 1, 0, 1];
    const PREDICTED_BINARY: [usize; 9] = [1, 0, 0, 1, 1, 0, 1, 1, 1];

    #[track_caller]
    fn assert_close(found: f64, expected: f64) {
        // Both sides are a few f64 operations on small integers.
        assert!(
            (found - expected).abs() < 1e-14,
            "{found} is not {expected}"
        );
    }

    #[test]
    fn many_classes_agree_with_scikit_learn() {
        let counts = ClassificationMetrics::new(&PREDICTED, &EXPECTED, 5).unwrap();
        assert_close(counts.accuracy(), 0.5833333333333334);
        assert_close(counts.macro_f1(), 0.6011904761904762);
        assert_close(counts.matthews(), 0.4467914966843415);
    }

    #[test]
    fn two_classes_agree_with_scikit_learn() {
        let counts = ClassificationMetrics::new(&PREDICTED_BINARY, &EXPECTED_BINARY, 2).unwrap();
        assert_close(counts.accuracy(), 0.6666666666666666);
        assert_close(counts.f1(1), 0.7272727272727273);
        assert_close(counts.macro_f1(), 0.6493506493506493);
        assert_close(counts.matthews(), 0.31622776601683794);
    }

    #[test]
    fn constant_predictions_agree_with_scikit_learn() {
        let ones = ClassificationMetrics::new(&[1; 9], &EXPECTED_BINARY, 2).unwrap();
        assert_close(ones.matthews(), 0.0);
        let zeros = ClassificationMetrics::new(&[0; 9], &EXPECTED_BINARY, 2).unwrap();
        assert_close(zeros.f1(1), 0.0);
        assert_close(zeros.macro_f1(), 0.3076923076923077);
        let without_positives = ClassificationMetrics::new(&[0; 3], &[0; 3], 2).unwrap();
        assert_close(without_positives.f1(1), 0.0);
        assert_close(without_positives.macro_f1(), 1.0);
    }

    #[test]
    fn hits_agree_with_scikit_learn() {
        #[rustfmt::skip]
        let logits = [
            0.1, 0.9, 0.3, 0.2,
            2.0, 1.0, 0.0, -1.0,
            0.0, 0.5, 0.4, 0.3,
            1.0, 1.5, 3.0, 2.0,
        ];
        let expected = [2, 0, 3, 0];
        for (k, fraction) in [(1, 0.25), (2, 0.5), (3, 0.75), (4, 1.0)] {
            assert_close(hits_at(k, &logits, 4, &expected).unwrap(), fraction);
        }
        assert_eq!(predicted_classes(&logits, 4), [1, 0, 1, 2]);
    }

    #[test]
    fn of_equal_logits_the_first_class_goes_first() {
        let logits = [1.0, 1.0, 3.0, 1.0, 1.0, 3.0];
        assert_close(hits_at(2, &logits, 3, &[0, 1]).unwrap(), 0.5);
        assert_eq!(predicted_classes(&[0.5, 2.0, 2.0], 3), [1]);
    }

    #[test]
    fn a_logit_that_is_no_number_never_hits() {
        let logits = [f32::NAN, 1.0, 0.0, 0.5, f32::NAN, 0.0];
        assert_close(hits_at(2, &logits, 3, &[0, 0]).unwrap(), 0.5);
        assert_eq!(predicted_classes(&logits, 3), [0, 1]);
    }

    #[test]
    fn unequal_lengths_unknown_classes_and_nothing_are_refused() {
        let error = ClassificationMetrics::new(&[0, 1], &[0], 2).unwrap_err();
        let expected = MetricError::UnequalLengths {
            predicted: 2,
            expected: 1,
        };
        assert_eq!(error, expected);
        let error = ClassificationMetrics::new(&[0], &[3], 3).unwrap_err();
        let expected = MetricError::UnknownClass {
            found: 3,
            classes: 3,
        };
        assert_eq!(error, expected);
        let error = ClassificationMetrics::new(&[], &[], 3).unwrap_err();
        assert_eq!(error, MetricError::NoPredictions);
        assert!(hits_at(1, &[0.5, 0.5], 2, &[0, 1]).is_err());
        assert!(hits_at(1, &[0.5, 0.5], 2, &[2]).is_err());
        assert_eq!(hits_at(1, &[], 0, &[]), Err(MetricError::NoPredictions));
    }
}
