//! A mean over seeds and their standard deviation.

use serde::{Deserialize, Serialize};

/// A mean and a standard deviation (over n − 1; 0 for a single value).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    #[serde(with = "eigenmix_trainer::one_metric")]
    pub mean: f64,
    #[serde(with = "eigenmix_trainer::one_metric")]
    pub deviation: f64,
}

impl Spread {
    pub fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = match values.len() {
            0 | 1 => 0.0,
            _ => (squares / (count - 1.0)).sqrt(),
        };
        Self { mean, deviation }
    }

    /// As [`Spread::of`], `None` if there are no values.
    pub fn of_any(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().collect();
        (!values.is_empty()).then(|| Self::of(&values))
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
        assert_eq!(Spread::of_any([]), None);
    }
}
