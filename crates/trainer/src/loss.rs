//! The losses of the tasks.

use burn::tensor::{Device, Int, Tensor, TensorData, activation};

use crate::data::EncodedTargets;

/// The mean loss over the examples of a batch: cross-entropy of classes, squared error of numbers.
///
/// - logits: `[examples, outputs]`
/// - examples: which of the targets the rows belong to
pub(crate) fn loss(
    logits: Tensor<2>,
    targets: &EncodedTargets,
    examples: &[usize],
    device: &Device,
) -> Tensor<1> {
    let count = examples.len();
    match targets {
        EncodedTargets::Classes(classes) => {
            let classes: Vec<i32> = examples
                .iter()
                .map(|&index| classes[index] as i32)
                .collect();
            let classes = TensorData::new(classes, [count, 1]);
            let classes = Tensor::<2, Int>::from_data(classes, device);
            -activation::log_softmax(logits, 1).gather(1, classes).mean()
        }
        EncodedTargets::Values(values) => {
            let values: Vec<f32> = examples.iter().map(|&index| values[index] as f32).collect();
            let values = Tensor::<2>::from_data(TensorData::new(values, [count, 1]), device);
            (logits - values).square().mean()
        }
    }
}

/// The same mean loss of logits `[examples, outputs]` on the host, in f64, over all examples.
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
    fn the_loss_on_the_host_is_the_loss_on_the_device() {
        let device = Device::flex();
        let logits = [0.5f32, -1.0, 2.0, 0.25, 0.75, -0.5];
        let on_device = |shape, targets: &EncodedTargets, examples: &[usize]| {
            let logits = Tensor::<2>::from_data(TensorData::new(logits.to_vec(), shape), &device);
            f64::from(loss(logits, targets, examples, &device).into_scalar::<f32>())
        };
        let classes = EncodedTargets::Classes(vec![2, 0]);
        // −ln softmax: ln(e^0.5 + e^−1 + e^2) − 2 = 0.241 and ln(e^0.25 + e^0.75 + e^−0.5) − 0.25.
        let expected = ((0.5f64.exp() + (-1f64).exp() + 2f64.exp()).ln() - 2.0
            + (0.25f64.exp() + 0.75f64.exp() + (-0.5f64).exp()).ln()
            - 0.25)
            / 2.0;
        assert!((host_loss(&logits, 3, &classes) - expected).abs() < 1e-6);
        assert!((on_device([2, 3], &classes, &[0, 1]) - expected).abs() < 1e-6);
        let values = EncodedTargets::Values(vec![0.0, 0.0, 1.0, 0.25, 0.75, 0.5]);
        let expected = (0.25 + 1.0 + 1.0 + 1.0) / 6.0;
        assert!((host_loss(&logits, 1, &values) - expected).abs() < 1e-6);
        assert!((on_device([6, 1], &values, &[0, 1, 2, 3, 4, 5]) - expected).abs() < 1e-6);
    }
}
