//! Kernels as operations that Burn differentiates.

use std::fmt::Debug;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend};

/// Computes the gradient of each parent, in their order, from what the forward pass kept, the
/// output's gradient and which parents need one. Gradients that are not needed are dropped, and may
/// be `None`.
pub(crate) type Gradient<B, K> = fn(K, FloatTensor<B>, &[bool]) -> Vec<Option<FloatTensor<B>>>;

/// A backend that keeps a graph of what the backend `B` computes.
pub(crate) trait Differentiable<B: Backend>: Backend {
    /// The output of an operation with its own backward pass.
    ///
    /// - parents: the tensors whose gradients the operation gives
    /// - forward: the output, and what the backward pass needs; its argument says whether there may
    ///   be a backward pass, without which nothing is kept
    fn differentiable<K: Clone + Debug + Send + 'static, const N: usize>(
        parents: [FloatTensor<Self>; N],
        forward: impl FnOnce([FloatTensor<B>; N], bool) -> (FloatTensor<B>, K),
        gradient: Gradient<B, K>,
    ) -> FloatTensor<Self>;

    /// [`Differentiable::differentiable`] for the one to eight parents of a kernel.
    ///
    /// # Panics
    /// If there are no parents, or more than eight.
    fn differentiable_list<K: Clone + Debug + Send + 'static>(
        parents: Vec<FloatTensor<Self>>,
        forward: impl FnOnce(Vec<FloatTensor<B>>, bool) -> (FloatTensor<B>, K),
        gradient: Gradient<B, K>,
    ) -> FloatTensor<Self> {
        macro_rules! of_length {
            ($($n:literal)*) => {
                match parents.len() {
                    $($n => {
                        let Ok(parents) = <[_; $n]>::try_from(parents) else {
                            unreachable!("the length was just compared")
                        };
                        let forward = |parents: [FloatTensor<B>; $n], is_tracked| {
                            forward(Vec::from(parents), is_tracked)
                        };
                        Self::differentiable(parents, forward, gradient)
                    })*
                    count => panic!("{count} parents of an operation with one to eight"),
                }
            };
        }
        of_length!(1 2 3 4 5 6 7 8)
    }
}

impl<B: Backend, C: CheckpointStrategy> Differentiable<B> for Autodiff<B, C> {
    fn differentiable<K: Clone + Debug + Send + 'static, const N: usize>(
        parents: [FloatTensor<Self>; N],
        forward: impl FnOnce([FloatTensor<B>; N], bool) -> (FloatTensor<B>, K),
        gradient: Gradient<B, K>,
    ) -> FloatTensor<Self> {
        let nodes = parents.each_ref().map(|parent| parent.node());
        let parents = parents.map(|parent| parent.into_primitive());
        let preparation = Node { gradient }.prepare::<C>(nodes).compute_bound();
        match preparation.stateful() {
            OpsKind::Tracked(preparation) => {
                let (output, kept) = forward(parents, true);
                preparation.finish(kept, output)
            }
            OpsKind::UnTracked(preparation) => {
                let (output, _) = forward(parents, false);
                preparation.finish(output)
            }
        }
    }
}

/// An operation in Burn's graph.
struct Node<B: Backend, K> {
    gradient: Gradient<B, K>,
}

impl<B: Backend, K> Debug for Node<B, K> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the operation of a kernel")
    }
}

impl<B, K, const N: usize> Backward<B, N> for Node<B, K>
where
    B: Backend,
    K: Clone + Debug + Send + 'static,
{
    type State = K;

    fn backward(self, ops: Ops<K, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let found = (self.gradient)(ops.state, gradient, &wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(found) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                gradients.register::<B>(parent.id, gradient);
            }
        }
    }
}
