//! From which probability on a label applies.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The probability from which on a label of several applies: above 0 and below 1, 0.5 by default.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "f64", into = "f64")]
#[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
pub struct Threshold(f64);

impl Threshold {
    pub fn get(self) -> f64 {
        self.0
    }

    /// The labels that apply: those whose probability 1 / (1 + e^−logit) is at least the threshold.
    /// A logit that is no number never applies.
    ///
    /// - logits: `[examples, labels]`, row-major
    /// - output: for each example the outputs of its labels, in their order
    pub fn labels_of(self, logits: &[f32], labels: usize) -> Vec<Vec<usize>> {
        let examples = logits.chunks_exact(labels.max(1));
        let applying = |logits: &[f32]| {
            let outputs = logits.iter().enumerate();
            outputs
                .filter(|(_, logit)| probability(**logit) >= self.0)
                .map(|(output, _)| output)
                .collect()
        };
        examples.map(applying).collect()
    }
}

/// 1 / (1 + e^−logit).
pub fn probability(logit: f32) -> f64 {
    1.0 / (1.0 + (-f64::from(logit)).exp())
}

impl Default for Threshold {
    fn default() -> Self {
        Self(0.5)
    }
}

impl TryFrom<f64> for Threshold {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        match value > 0.0 && value < 1.0 {
            true => Ok(Self(value)),
            false => Err(format!(
                "a threshold is a probability above 0 and below 1, found {value}"
            )),
        }
    }
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let value: f64 = text
            .parse()
            .map_err(|_| format!("expected a number, found `{text}`"))?;
        Self::try_from(value)
    }
}

impl From<Threshold> for f64 {
    fn from(threshold: Threshold) -> Self {
        threshold.0
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_applies_from_the_threshold_on() {
        // 1 / (1 + e^−ln 3) = 3/4; e^−1.0986123 in f32 is a little above 1/3.
        let logits = [0.0, -0.1, 1.0986123, f32::NAN, 2.0, -3.0];
        let half = Threshold::default();
        assert_eq!(half.labels_of(&logits, 3), [vec![0, 2], vec![1]]);
        let high = Threshold::try_from(0.74).unwrap();
        assert_eq!(high.labels_of(&logits, 3), [vec![2], vec![1]]);
    }

    #[test]
    fn a_threshold_that_is_no_probability_is_refused() {
        for text in ["0", "1", "-0.5", "NaN", "x"] {
            assert!(text.parse::<Threshold>().is_err(), "{text}");
        }
        let error = serde_json::from_str::<Threshold>("1.5").unwrap_err();
        assert!(error.to_string().contains("above 0 and below 1"), "{error}");
    }
}
