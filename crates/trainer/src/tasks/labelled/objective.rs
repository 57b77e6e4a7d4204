//! Losses of logits against labels, on the device.

use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use eigenmix_data::EncodedTargets;
use eigenmix_models::Network;

use crate::tasks::Objective;

/// The labels of a batch.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum LabelObjective {
    /// A class for each example: cross-entropy.
    Classes(Vec<i32>),
    /// A value for each example: squared error.
    Values(Vec<f32>),
}

impl LabelObjective {
    /// The targets of some of the examples.
    pub fn new(targets: &EncodedTargets, examples: &[usize]) -> Self {
        let examples = examples.iter();
        match targets {
            EncodedTargets::Classes(classes) => {
                Self::Classes(examples.map(|&index| classes[index] as i32).collect())
            }
            EncodedTargets::Values(values) => {
                Self::Values(examples.map(|&index| values[index] as f32).collect())
            }
        }
    }
}

impl Objective for LabelObjective {
    fn targets(&self) -> usize {
        match self {
            Self::Classes(classes) => classes.len(),
            Self::Values(values) => values.len(),
        }
    }

    fn loss(&self, network: &Network, hidden: Tensor<2>, device: &Device) -> Tensor<1> {
        let logits = network.logits(hidden);
        match self {
            Self::Classes(classes) => cross_entropy(logits, classes, device),
            Self::Values(values) => squared_error(logits, values, device),
        }
    }
}

/// - logits: `[examples, classes]`
fn cross_entropy(logits: Tensor<2>, classes: &[i32], device: &Device) -> Tensor<1> {
    let classes = TensorData::new(classes.to_vec(), [classes.len(), 1]);
    let classes = Tensor::<2, Int>::from_data(classes, device);
    -activation::log_softmax(logits, 1).gather(1, classes).mean()
}

/// - predicted: `[examples, 1]`
fn squared_error(predicted: Tensor<2>, values: &[f32], device: &Device) -> Tensor<1> {
    let values = TensorData::new(values.to_vec(), [values.len(), 1]);
    (predicted - Tensor::<2>::from_data(values, device))
        .square()
        .mean()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::labelled::host_loss::host_loss;

    fn tensor(values: &[f32], shape: [usize; 2], device: &Device) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
    }

    #[test]
    fn the_loss_on_the_device_is_the_loss_on_the_host() {
        let device = Device::flex();
        let logits = [0.5f32, -1.0, 2.0, 0.25, 0.75, -0.5];
        let found = cross_entropy(tensor(&logits, [2, 3], &device), &[2, 0], &device);
        let expected = host_loss(&logits, 3, &EncodedTargets::Classes(vec![2, 0]));
        assert!((f64::from(found.into_scalar::<f32>()) - expected).abs() < 1e-6);
        let values = [0.0f32, 0.0, 1.0, 0.25, 0.75, 0.5];
        let found = squared_error(tensor(&logits, [6, 1], &device), &values, &device);
        let values = values.iter().map(|&value| f64::from(value)).collect();
        let expected = host_loss(&logits, 1, &EncodedTargets::Values(values));
        assert!((f64::from(found.into_scalar::<f32>()) - expected).abs() < 1e-6);
    }
}
