//! What the training loop asks of a model and of its batches.

use burn::module::Module;
use burn::tensor::{Device, Gradients, Tensor};
use eigenmix_models::{Network, Recomputation};

use crate::tasks::LabelledBatch;

/// A model that the loop trains: the network of a base model, or the parts of a diffusion model.
pub trait TrainedModel: Module + Sized {
    /// Examples as it takes them, with what it should make of them.
    type Batch: Minibatch;

    /// The mean loss of a batch times `pass.weight`; its gradients, in one piece or several, go to `collect`.
    fn descend(
        &self,
        batch: &Self::Batch,
        pass: &Pass,
        collect: &mut dyn FnMut(Gradients),
    ) -> Tensor<1>;
}

/// Examples that go through a model at once in training.
pub trait Minibatch {
    /// The sum of the weights of its targets, of which its loss is the weighted mean.
    fn weight(&self) -> f64;

    fn examples(&self) -> usize;

    /// As throughput counts them: tokens of texts, patches or latents of images.
    fn tokens(&self) -> usize;
}

/// How a batch goes through a model and back.
pub struct Pass<'a> {
    /// With autodiff.
    pub device: &'a Device,
    /// Of all random draws of the training.
    pub seed: u64,
    /// How many steps were taken.
    pub step: usize,
    /// The index of the batch in the step.
    pub number: usize,
    /// The factor of the loss.
    pub weight: f64,
    /// Whether only the inputs of layers are kept, and layers run again on the way back.
    pub checkpointing: bool,
    /// Is called before a layer runs, again or for the first time, or with nothing before the whole model does:
    /// seeds dropout.
    pub before: &'a dyn Fn(Option<usize>),
}

impl TrainedModel for Network {
    type Batch = LabelledBatch;

    fn descend(
        &self,
        batch: &LabelledBatch,
        pass: &Pass,
        mut collect: &mut dyn FnMut(Gradients),
    ) -> Tensor<1> {
        let LabelledBatch { batch, objective } = batch;
        let device = pass.device;
        let weighted = |hidden| objective.loss(self, hidden, device) * pass.weight;
        if pass.checkpointing {
            let recomputation = Recomputation {
                before: &pass.before,
            };
            return self.backward_by_layers(batch, device, &recomputation, weighted, &mut collect);
        }
        (pass.before)(None);
        let loss = weighted(self.hidden_states(batch, device));
        collect(loss.backward());
        loss
    }
}

impl Minibatch for LabelledBatch {
    fn weight(&self) -> f64 {
        self.objective.weight()
    }

    fn examples(&self) -> usize {
        self.batch.examples()
    }

    fn tokens(&self) -> usize {
        self.batch.tokens()
    }
}
