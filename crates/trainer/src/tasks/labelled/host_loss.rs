//! The losses of evaluations.

use eigenmix_data::EncodedTargets;

/// The mean loss over all examples, on the host and in f64: cross-entropy of classes, squared error
/// of values; of labels the binary cross-entropy, which is a mean over their outputs too.
///
/// - logits: `[examples, outputs]`
pub(crate) fn host_loss(logits: &[f32], outputs: usize, targets: &EncodedTargets) -> f64 {
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
        EncodedTargets::Labels { outputs: lists, .. } => logits
            .chunks(outputs)
            .zip(lists)
            .map(|(logits, labels)| {
                let of = |(output, &logit): (usize, &f32)| match labels.contains(&output) {
                    true => softplus(-f64::from(logit)),
                    false => softplus(f64::from(logit)),
                };
                logits.iter().enumerate().map(of).sum::<f64>() / outputs as f64
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

/// ln(1 + e^x), which is −ln of the probability that a label of logit x does not apply.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use eigenmix_data::Threshold;

    use super::*;

    #[test]
    fn the_loss_of_several_labels_is_that_of_pytorch() {
        // The logits and labels of `binary_cross_entropy.rs`, without weights.
        let logits = [0.5f32, -1.0, 2.0, 0.25, -30.0, 0.0];
        let targets = EncodedTargets::Labels {
            outputs: vec![vec![0, 2], vec![1]],
            threshold: Threshold::default(),
        };
        let found = host_loss(&logits, 3, &targets);
        // Rounded to f32 there.
        assert!((found - 5.405_559_063).abs() < 1e-6, "{found}");
    }

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
