//! Training objectives.

use burn::tensor::{Device, Tensor};
use eigenmix_models::Network;

/// The targets of a batch, and the loss of a network against them.
pub trait Objective {
    /// The sum of the weights of its targets, of which the loss is the weighted mean: their number,
    /// unless some count more than others.
    fn weight(&self) -> f64;

    /// The weighted mean loss of a batch.
    ///
    /// - hidden: `[rows, d_model]`, the [hidden states](Network::hidden_states) of the batch
    fn loss(&self, network: &Network, hidden: Tensor<2>, device: &Device) -> Tensor<1>;
}
