//! The losses of evaluations.

use eigenmix_data::EncodedTargets;

/// The mean loss over all examples, on the host and in f64: cross-entropy of classes, squared error
/// of values.
///
/// - logits: `[examples, outputs]`
pub(super) fn host_loss(logits: &[f32], outputs: usize, targets: &EncodedTargets) -> f64 {
    let sum: f64 = match targets {
        EncodedTargets::Classes(classes) => logits
            .chunks(outputs)
            .zip(classes)
            .map(|(logits, &class)| {
                let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let sum: f64 = logits
                    .iter()
                    .map(|&logit| f64::from(logit - largest).exp())
                    .sum();
                sum.ln() - f64::from(logits[class] - largest)
            })
            .sum(),
        EncodedTargets::Values(values) => logits
            .iter()
            .zip(values)
            .map(|(&logit, value)| (f64::from(logit) - value).powi(2))
            .sum(),
    };
    sum / (logits.len() / outputs) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_is_the_mean_over_the_examples() {
        let logits = [0.5f32, -1.0, 2.0, 0.25, 0.75, -0.5];
        // −ln softmax: ln(e^0.5 + e^−1 + e^2) − 2 = 0.241 and ln(e^0.25 + e^0.75 + e^−0.5) − 0.25.
        let expected = ((0.5f64.exp() + (-1f64).exp() + 2f64.exp()).ln() - 2.0
            + (0.25f64.exp() + 0.75f64.exp() + (-0.5f64).exp()).ln()
            - 0.25)
            / 2.0;
        let classes = EncodedTargets::Classes(vec![2, 0]);
        assert!((host_loss(&logits, 3, &classes) - expected).abs() < 1e-6);
        let values = EncodedTargets::Values(vec![0.0, 0.0, 1.0, 0.25, 0.75, 0.5]);
        let expected = (0.25 + 1.0 + 1.0 + 1.0) / 6.0;
        assert!((host_loss(&logits, 1, &values) - expected).abs() < 1e-6);
    }
}
