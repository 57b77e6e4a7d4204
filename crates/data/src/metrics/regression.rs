//! Metrics of predicted numbers: correlations and the mean squared error.

use super::{MetricError, paired_length};

/// Predicted numbers beside the true ones.
#[derive(Clone, Copy, Debug)]
pub struct RegressionMetrics<'a> {
    predicted: &'a [f64],
    expected: &'a [f64],
}

impl<'a> RegressionMetrics<'a> {
    /// - predicted, expected: `[examples]`
    ///
    /// # Errors
    /// When there are no examples or the lengths differ.
    pub fn new(predicted: &'a [f64], expected: &'a [f64]) -> Result<Self, MetricError> {
        paired_length(predicted.len(), expected.len())?;
        Ok(Self {
            predicted,
            expected,
        })
    }

    /// Σ (predicted − expected)² / examples.
    pub fn mse(&self) -> f64 {
        let pairs = self.predicted.iter().zip(self.expected);
        let squares = pairs.map(|(predicted, expected)| (predicted - expected).powi(2));
        squares.sum::<f64>() / self.predicted.len() as f64
    }

    /// Pearson's correlation, 0 where one side is constant.
    ///
    /// It is undefined there, and scipy gives NaN. A model that predicts a constant has learnt
    /// nothing of the order, which 0 says, and which a choice of the best checkpoint can compare.
    pub fn pearson(&self) -> f64 {
        correlation(self.predicted, self.expected)
    }

    /// Spearman's correlation: Pearson's of the ranks, equals sharing their mean rank; 0 where one
    /// side is constant, as for [`RegressionMetrics::pearson`].
    pub fn spearman(&self) -> f64 {
        let is_nan = |value: &f64| value.is_nan();
        if self.predicted.iter().chain(self.expected).any(is_nan) {
            return f64::NAN;
        }
        correlation(&ranks(self.predicted), &ranks(self.expected))
    }
}

/// Σ (x − x̄)(y − ȳ) / √(Σ (x − x̄)² · Σ (y − ȳ)²)
fn correlation(left: &[f64], right: &[f64]) -> f64 {
    if is_constant(left) || is_constant(right) {
        return 0.0;
    }
    let left = centred(left);
    let right = centred(right);
    let product = |left: &[f64], right: &[f64]| -> f64 {
        left.iter()
            .zip(right)
            .map(|(left, right)| left * right)
            .sum()
    };
    let norms = (product(&left, &left) * product(&right, &right)).sqrt();
    (product(&left, &right) / norms).clamp(-1.0, 1.0)
}

/// Compared as they are: the rounding of a mean leaves a constant with a tiny variance.
fn is_constant(values: &[f64]) -> bool {
    values.windows(2).all(|pair| pair[0] == pair[1])
}

fn centred(values: &[f64]) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|value| value - mean).collect()
}

/// The rank of each value from 1; equal values share the mean of theirs (fractional ranking).
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|left, right| values[*left].total_cmp(&values[*right]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for equals in order.chunk_by(|left, right| values[*left] == values[*right]) {
        let last = first + equals.len() - 1;
        for index in equals {
            ranks[*index] = (first + last) as f64 / 2.0 + 1.0;
        }
        first = last + 1;
    }
    ranks
}

#[cfg(test)]
mod tests {
    //! Expected values: scipy 1.17.1 `pearsonr`, `spearmanr`, `rankdata` and scikit-learn 1.9.1
    //! `mean_squared_error` on the same lists.

    use super::*;

    const PREDICTED: [f64; 7] = [2.5, 0.0, 3.1, 4.4, 4.4, 1.0, 5.0];
    const EXPECTED: [f64; 7] = [2.0, 0.5, 3.0, 5.0, 4.0, 1.0, 4.0];

    #[track_caller]
    fn assert_close(found: f64, expected: f64) {
        // A few dozen f64 operations on numbers near 1.
        assert!(
            (found - expected).abs() < 1e-14,
            "{found} is not {expected}"
        );
    }

    #[test]
    fn metrics_agree_with_scipy_and_scikit_learn() {
        let pairs = RegressionMetrics::new(&PREDICTED, &EXPECTED).unwrap();
        assert_close(pairs.pearson(), 0.9555364609736626);
        assert_close(pairs.spearman(), 0.9181818181818182);
        assert_close(pairs.mse(), 0.29);
    }

    #[test]
    fn equal_values_share_their_mean_rank() {
        assert_eq!(ranks(&PREDICTED), [3.0, 1.0, 4.0, 5.5, 5.5, 2.0, 7.0]);
        assert_eq!(ranks(&EXPECTED), [3.0, 1.0, 4.0, 7.0, 5.5, 2.0, 5.5]);
    }

    #[test]
    fn a_constant_correlates_with_nothing() {
        // The mean of many 0.1 is not 0.1 in f64.
        let constant = RegressionMetrics::new(&[0.1; 7], &EXPECTED).unwrap();
        assert_eq!(constant.pearson(), 0.0);
        assert_eq!(constant.spearman(), 0.0);
        let single = RegressionMetrics::new(&[1.0], &[2.0]).unwrap();
        assert_eq!(single.pearson(), 0.0);
    }

    #[test]
    fn correlations_ignore_scale_and_offset_and_keep_the_sign() {
        let opposite: Vec<f64> = EXPECTED.iter().map(|value| 1e6 - 3.0 * value).collect();
        let pairs = RegressionMetrics::new(&opposite, &EXPECTED).unwrap();
        // The offset costs six of sixteen digits.
        assert!((pairs.pearson() + 1.0).abs() < 1e-9);
        assert_close(pairs.spearman(), -1.0);
    }

    #[test]
    fn numbers_that_are_none_are_not_hidden() {
        let pairs = RegressionMetrics::new(&[f64::NAN, 1.0], &[1.0, 2.0]).unwrap();
        assert!(pairs.mse().is_nan());
        assert!(pairs.pearson().is_nan());
        assert!(pairs.spearman().is_nan());
    }
}
