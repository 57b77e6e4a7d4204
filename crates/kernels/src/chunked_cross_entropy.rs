//! The cross-entropy of a frozen output layer, composed of Burn's operations a few rows at a time: for devices
//! without the kernel.

use burn::tensor::{Int, Tensor, TensorData, activation};

use crate::composition::Composition;
use crate::device_weight::DeviceWeight;

/// How many logits exist at a time, if the device has tensors as large: 256 MiB.
const LOGITS: usize = 64 * 1024 * 1024;

/// The mean loss of rows of hidden states `[rows, d_model]` against target tokens, as `[1, 1]`. In a graph the
/// gradient by the hidden states is found with the logits, and is all that is kept.
#[derive(Clone, Debug)]
pub(crate) struct ChunkedCrossEntropy {
    weight: DeviceWeight,
    /// `[rows, 1]`
    targets: Tensor<2, Int>,
    softcap: Option<f32>,
    smoothing: f32,
    /// Logits at a time.
    logits: usize,
}

impl ChunkedCrossEntropy {
    pub fn new(
        weight: DeviceWeight,
        targets: &[i32],
        softcap: Option<f32>,
        smoothing: f32,
        device: &burn::tensor::Device,
    ) -> Self {
        let targets = TensorData::new(targets.to_vec(), [targets.len(), 1]);
        #[cfg(feature = "gpu")]
        let most = eigenmix_cube::most_values(device).unwrap_or(LOGITS);
        #[cfg(not(feature = "gpu"))]
        let most = LOGITS;
        Self {
            weight,
            targets: Tensor::from_data(targets, device),
            softcap,
            smoothing,
            logits: LOGITS.min(most),
        }
    }

    /// The same with fewer logits at a time.
    #[cfg(test)]
    pub fn in_chunks_of(self, logits: usize) -> Self {
        Self { logits, ..self }
    }

    /// The sum of the losses of a few rows, and if wanted the gradient of it by their hidden states.
    fn chunk(
        &self,
        weight: &DeviceWeight,
        hidden: Tensor<2>,
        targets: Tensor<2, Int>,
        is_tracked: bool,
    ) -> (Tensor<2>, Option<Tensor<2>>) {
        let ([vocabulary, _], smoothing) = (self.weight.dims(), self.smoothing);
        let mut logits = weight.product(hidden);
        #[cfg(feature = "gpu")]
        if crate::computes_later(&logits.device()) {
            let rule = eigenmix_cube::LossRule {
                softcap: self.softcap,
                smoothing,
            };
            let (losses, slope) = eigenmix_cube::cross_entropy(logits, targets, rule, is_tracked);
            let slope = slope.map(|slope| weight.input_gradient(slope));
            return (losses.sum_dim(0), slope);
        }
        let mut slope_of_cap = None;
        if let Some(cap) = self.softcap {
            let capped = (logits / cap).tanh();
            slope_of_cap = Some(-capped.clone().square() + 1.0);
            logits = capped * cap;
        }
        let logarithms = activation::log_softmax(logits, 1);
        let of_targets = logarithms.clone().gather(1, targets.clone()).sum_dim(0);
        let mut loss = -of_targets * (1.0 - smoothing);
        if smoothing != 0.0 {
            let everywhere = logarithms.clone().sum_dim(1).sum_dim(0);
            loss = loss - everywhere * (smoothing / vocabulary as f32);
        }
        if !is_tracked {
            return (loss, None);
        }
        let device = targets.device();
        let tokens = Tensor::<1, Int>::arange(0..vocabulary as i64, &device).float();
        // Whole numbers this small are exact in f32.
        let distance = tokens.reshape([1, vocabulary]) - targets.float();
        let is_target = distance.equal_elem(0.0).float();
        let mut slope = logarithms.exp() - is_target * (1.0 - smoothing);
        if smoothing != 0.0 {
            slope = slope - smoothing / vocabulary as f32;
        }
        if let Some(slope_of_cap) = slope_of_cap {
            slope = slope * slope_of_cap;
        }
        (loss, Some(weight.input_gradient(slope)))
    }
}

impl Composition for ChunkedCrossEntropy {
    /// The gradient by the hidden states.
    type Kept = Option<Tensor<2>>;

    fn forward(&self, mut inputs: Vec<Tensor<2>>, is_tracked: bool) -> (Tensor<2>, Self::Kept) {
        let hidden = inputs.remove(0);
        let ([rows, d_model], [vocabulary, _]) = (hidden.dims(), self.weight.dims());
        let step = (self.logits / vocabulary).clamp(1, rows);
        // One in few bits is decoded once for all chunks.
        let weight = DeviceWeight::Float(self.weight.values());
        let (mut losses, mut slopes) = (None, Vec::new());
        for start in (0..rows).step_by(step) {
            let end = rows.min(start + step);
            let (hidden, targets) = match step == rows {
                true => (hidden.clone(), self.targets.clone()),
                false => (
                    hidden.clone().slice([start..end, 0..d_model]),
                    self.targets.clone().slice([start..end, 0..1]),
                ),
            };
            let (loss, slope) = self.chunk(&weight, hidden, targets, is_tracked);
            losses = Some(match losses.take() {
                Some(losses) => losses + loss,
                None => loss,
            });
            slopes.extend(slope);
        }
        let share = 1.0 / rows as f32;
        let slope = match slopes.len() {
            0 => None,
            1 => Some(slopes.remove(0) * share),
            _ => Some(Tensor::cat(slopes, 0) * share),
        };
        let loss = losses.expect("at least one row") * share;
        (loss, slope)
    }

    fn backward(
        &self,
        slope: Self::Kept,
        gradient: Tensor<2>,
        _: &[bool],
    ) -> Vec<Option<Tensor<2>>> {
        vec![slope.map(|slope| slope * gradient)]
    }
}
