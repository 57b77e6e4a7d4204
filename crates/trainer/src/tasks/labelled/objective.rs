//! Losses of logits against labels, on the device.

use burn::tensor::{Device, Tensor, TensorData};
use eigenmix_data::EncodedTargets;
use eigenmix_models::Network;

use super::binary_cross_entropy::binary_cross_entropy;
use super::cross_entropy::{cross_entropy, total_weight};
use super::label_loss::LabelLoss;
use crate::tasks::Objective;

/// The labels of a batch.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum LabelObjective {
    /// A class for each example: cross-entropy.
    Classes { classes: Vec<i32>, loss: LabelLoss },
    /// Any number of labels for each example: binary cross-entropy.
    Labels {
        applying: Vec<Vec<usize>>,
        weights: Option<Vec<f32>>,
    },
    /// A value for each example: squared error.
    Values(Vec<f32>),
}

impl LabelObjective {
    /// The targets of some of the examples.
    pub fn new(targets: &EncodedTargets, loss: &LabelLoss, examples: &[usize]) -> Self {
        let examples = examples.iter();
        match targets {
            EncodedTargets::Classes(classes) => Self::Classes {
                classes: examples.map(|&index| classes[index] as i32).collect(),
                loss: loss.clone(),
            },
            EncodedTargets::Labels { outputs, .. } => Self::Labels {
                applying: examples.map(|&index| outputs[index].clone()).collect(),
                weights: loss.weights.clone(),
            },
            EncodedTargets::Values(values) => {
                Self::Values(examples.map(|&index| values[index] as f32).collect())
            }
        }
    }
}

impl Objective for LabelObjective {
    fn weight(&self) -> f64 {
        match self {
            Self::Classes { classes, loss } => total_weight(classes, loss),
            Self::Labels { applying, .. } => applying.len() as f64,
            Self::Values(values) => values.len() as f64,
        }
    }

    fn loss(&self, network: &Network, hidden: Tensor<2>, device: &Device) -> Tensor<1> {
        let logits = network.logits(hidden);
        match self {
            Self::Classes { classes, loss } => cross_entropy(logits, classes, loss, device),
            Self::Labels { applying, weights } => {
                binary_cross_entropy(logits, applying, weights.as_deref(), device)
            }
            Self::Values(values) => squared_error(logits, values, device),
        }
    }
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
        let logits_of_classes = tensor(&logits, [2, 3], &device);
        let found = cross_entropy(logits_of_classes, &[2, 0], &LabelLoss::default(), &device);
        let expected = host_loss(&logits, 3, &EncodedTargets::Classes(vec![2, 0]));
        assert!((f64::from(found.into_scalar::<f32>()) - expected).abs() < 1e-6);
        let values = [0.0f32, 0.0, 1.0, 0.25, 0.75, 0.5];
        let found = squared_error(tensor(&logits, [6, 1], &device), &values, &device);
        let values = values.iter().map(|&value| f64::from(value)).collect();
        let expected = host_loss(&logits, 1, &EncodedTargets::Values(values));
        assert!((f64::from(found.into_scalar::<f32>()) - expected).abs() < 1e-6);
    }
}
