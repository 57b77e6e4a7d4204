//! Gradient checkpointing: the activations of one layer at a time.

use burn::tensor::{Device, Gradients, Tensor};

use crate::{Batch, Network};

/// What the forward pass of a step does again in the backward pass, layer by layer.
pub struct Recomputation<'a> {
    /// Called before anything random is drawn for layer `Some(i)`, or for the embeddings and the
    /// head (`None`), so that a layer that runs twice drops the same activations twice.
    pub before: &'a dyn Fn(Option<usize>),
}

impl Network {
    /// The loss of a batch, and the gradients of everything that is trained, while only the inputs of
    /// the layers are kept: each layer runs once more when its gradients are due (arXiv 1604.06174).
    ///
    /// - objective: the loss from what [`Network::hidden_states`] would give
    /// - visit: gets the gradients, part by part; what a part does not train is not in it
    pub fn backward_by_layers(
        &self,
        batch: &Batch,
        device: &Device,
        recomputation: &Recomputation,
        objective: impl FnOnce(Tensor<2>) -> Tensor<1>,
        mut visit: impl FnMut(Gradients),
    ) -> Tensor<1> {
        let before = recomputation.before;
        before(None);
        let (embedded, context) = self.embed(batch, device);
        let embedding_is_trained = embedded.is_tracked();
        let mut inputs = Vec::with_capacity(self.n_layers());
        let mut trained = Vec::with_capacity(self.n_layers());
        let mut hidden = embedded.clone().detach();
        for layer in 0..self.n_layers() {
            before(Some(layer));
            inputs.push(hidden.clone());
            let output = self.layer(layer, hidden, &context);
            trained.push(output.is_tracked());
            hidden = output.clone().detach();
            release(output);
        }
        // Below the lowest layer that is trained, no gradient is needed.
        let lowest = match embedding_is_trained {
            true => Some(0),
            false => trained.iter().position(|&trained| trained),
        };
        before(None);
        let top = hidden.require_grad();
        let loss = objective(top.clone());
        let mut gradients = loss.backward();
        let mut gradient = top.grad_remove(&mut gradients);
        visit(gradients);
        for (layer, input) in inputs.into_iter().enumerate().rev() {
            let Some(above) = gradient.take_if(|_| lowest.is_some_and(|lowest| layer >= lowest))
            else {
                break;
            };
            let needs_gradient = embedding_is_trained || lowest.is_some_and(|low| layer > low);
            let input = match needs_gradient {
                true => input.require_grad(),
                false => input,
            };
            before(Some(layer));
            let output = self.layer(layer, input.clone(), &context);
            let mut gradients = along(output, above).backward();
            gradient = match needs_gradient {
                true => input.grad_remove(&mut gradients),
                false => None,
            };
            visit(gradients);
        }
        if let Some(above) = gradient {
            visit(along(embedded, above).backward());
        }
        loss.detach()
    }
}

/// Frees what was kept to differentiate `output`. Autodiff frees an unreferenced graph only in a
/// backward pass through it; this pass goes only through a scalar that is joined to the graph.
fn release(output: Tensor<2>) {
    if !output.is_tracked() {
        return;
    }
    let leaf = Tensor::<2>::zeros([1, 1], &output.device()).require_grad();
    drop(output.slice([0..1, 0..1]) * leaf.clone());
    leaf.sum().backward();
}

/// A scalar whose gradient by `output` is `gradient`.
fn along(output: Tensor<2>, gradient: Tensor<2>) -> Tensor<1> {
    let gradient = Tensor::from_inner(gradient);
    (output * gradient).sum()
}
