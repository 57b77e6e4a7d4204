//! The loss of a UNet's output.

use burn::tensor::{Tensor, TensorData};

use crate::schedule::{NoiseSchedule, Prediction};

impl NoiseSchedule {
    /// The mean over the images of weight · mean((output − target)²).
    ///
    /// With min-SNR weighting (arXiv 2303.09556) the weight of an image is min(snr, γ) / snr for a model that
    /// predicts noise, min(snr, γ) / (snr + 1) for one that predicts the velocity; otherwise 1.
    ///
    /// # Shapes
    /// - output, target: `[images, channels, height, width]`
    /// - times: `[images]`
    pub fn loss(
        &self,
        output: Tensor<4>,
        target: Tensor<4>,
        times: &[usize],
        min_snr: Option<f32>,
    ) -> Tensor<1> {
        let losses = self.losses(output, target);
        match min_snr {
            Some(limit) => {
                let weights = self.min_snr_weights(times, limit);
                let weights = TensorData::new(weights, [times.len()]);
                let weights = Tensor::from_data(weights, &losses.device());
                (losses * weights).mean()
            }
            None => losses.mean(),
        }
    }

    /// mean((output − target)²) of each image.
    pub fn losses(&self, output: Tensor<4>, target: Tensor<4>) -> Tensor<1> {
        let [images, channels, height, width] = output.dims();
        (output - target)
            .square()
            .reshape([images, channels * height * width])
            .mean_dim(1)
            .reshape([images])
    }

    /// The weight of each image.
    ///
    /// - limit: γ
    pub fn min_snr_weights(&self, times: &[usize], limit: f32) -> Vec<f32> {
        let weight = |&time: &usize| {
            let alpha = self.alphas[time];
            // With s = ᾱ / (1 − ᾱ): min(s, γ) / s = min(1, γ / s), and s + 1 = 1 / (1 − ᾱ). Without
            // signal left, ε tells nothing and weighs one, v is told in full and weighs nothing.
            let capped = (alpha / (1.0 - alpha)).min(limit);
            match self.prediction {
                Prediction::Epsilon if alpha <= 0.0 => 1.0,
                Prediction::Epsilon => capped * (1.0 - alpha) / alpha,
                Prediction::Velocity => capped * (1.0 - alpha),
            }
        };
        times.iter().map(weight).collect()
    }
}
