//! What a batch is trained towards.

use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use eigenmix_models::Network;

/// The targets of a batch.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Objective {
    /// A class for each example: cross-entropy.
    Classes(Vec<i32>),
    /// A number for each example: squared error.
    Values(Vec<f32>),
    /// A token for each of some rows: cross-entropy.
    Tokens { rows: Vec<i32>, targets: Vec<i32> },
}

impl Objective {
    /// How many targets there are; the loss is their mean.
    pub fn targets(&self) -> usize {
        match self {
            Self::Classes(classes) => classes.len(),
            Self::Values(values) => values.len(),
            Self::Tokens { targets, .. } => targets.len(),
        }
    }

    /// The mean loss of a batch.
    ///
    /// - hidden: `[rows, d_model]`, what the network's trunk gave
    pub fn loss(&self, network: &Network, hidden: Tensor<2>, device: &Device) -> Tensor<1> {
        match self {
            Self::Classes(classes) => cross_entropy(network.logits(hidden), classes, device),
            Self::Values(values) => squared_error(network.logits(hidden), values, device),
            Self::Tokens { rows, targets } => network.next_token_loss(hidden, rows, targets),
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
    use crate::loss::host_loss;
    use eigenmix_data::EncodedTargets;

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
