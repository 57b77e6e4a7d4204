//! The gradients of one batch.

use burn::tensor::{Device, Tensor};
use eigenmix_models::Network;
use eigenmix_moslora::ParameterNames;

use super::optimizer::{NamedGradients, accumulate, named_gradients};
use super::trained_model::{Pass, TrainedModel};
use crate::config::TrainConfig;

/// The forward and backward pass through the model at one step.
pub(super) struct BackwardPass<'a, M = Network> {
    pub config: &'a TrainConfig,
    pub model: &'a M,
    pub names: &'a ParameterNames,
    pub device: &'a Device,
    /// How many steps were taken.
    pub step: usize,
}

impl<M: TrainedModel> BackwardPass<'_, M> {
    /// The mean loss of a batch, and its gradients, times `weight`.
    ///
    /// - number: the index of the batch in the step
    pub fn run(&self, batch: &M::Batch, number: usize, weight: f64) -> (f64, NamedGradients) {
        let (loss, gradients) = self.unread(batch, number, weight);
        (f64::from(loss.into_scalar::<f32>()) / weight, gradients)
    }

    /// The mean loss of a batch and its gradients, both times `weight`, and both still on the device.
    ///
    /// - number: the index of the batch in the step
    pub fn unread(
        &self,
        batch: &M::Batch,
        number: usize,
        weight: f64,
    ) -> (Tensor<1>, NamedGradients) {
        let mut gradients = NamedGradients::new();
        let mut collect = |mut found| {
            accumulate(
                &mut gradients,
                named_gradients(self.model, self.names, &mut found),
            );
        };
        let pass = Pass {
            device: self.device,
            seed: self.config.seed,
            step: self.step,
            number,
            weight,
            checkpointing: self.config.training.gradient_checkpointing,
            before: &|layer| self.seed_dropout(number, layer),
        };
        let loss = self.model.descend(batch, &pass, &mut collect);
        (loss.inner(), gradients)
    }

    /// One seed per step makes a resumed training drop what an uninterrupted one drops.
    fn seed_dropout(&self, batch: usize, layer: Option<usize>) {
        let config = self.config;
        if config.base.dropout > 0.0 || config.adapter.drops_out() {
            let part = (batch as u64) << 16 | layer.map_or(0, |layer| layer as u64 + 1);
            let step = (self.step as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.device
                .seed(config.seed ^ step ^ part.wrapping_mul(0xd1b5_4a32_d192_ed03));
        }
    }
}
