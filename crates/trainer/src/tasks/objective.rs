//! Training objectives.

use burn::tensor::{Device, Tensor};
use eigenmix_models::Network;

/// The targets of a batch, and the loss of a network against them.
pub trait Objective {
    /// How many targets there are; the loss is their mean.
    fn targets(&self) -> usize;

    /// The mean loss of a batch.
    ///
    /// - hidden: `[rows, d_model]`, the [hidden states](Network::hidden_states) of the batch
    fn loss(&self, network: &Network, hidden: Tensor<2>, device: &Device) -> Tensor<1>;
}
