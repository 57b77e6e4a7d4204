//! Operations composed of Burn's own, with a backward pass of their own: what devices without kernels run.
//!
//! Left to autodiff, a composed operation keeps what each of its parts needs. One of these is a single node of
//! the graph that keeps what it names, and computes the rest again.

use std::fmt::Debug;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, Backend, Dispatch, DispatchKindConversion, DispatchTensor, Flex, backend_extension,
};
use burn::tensor::Tensor;

use crate::backward::Differentiable;
use crate::tensor_list::TensorList;

/// An operation of matrices and its gradient, both of tensors outside of a graph. Constants, such as frozen
/// weights, are its fields; see [`constant`].
pub(crate) trait Composition: Clone + Debug + Send + 'static {
    /// What the backward pass needs of the forward pass.
    type Kept: Clone + Debug + Send + 'static;

    /// The output, and what is kept.
    ///
    /// - is_tracked: whether there may be a backward pass
    fn forward(&self, inputs: Vec<Tensor<2>>, is_tracked: bool) -> (Tensor<2>, Self::Kept);

    /// The gradient of each input, in their order; those that are not wanted are dropped, and may be `None`.
    ///
    /// - gradient: of the output
    fn backward(
        &self,
        kept: Self::Kept,
        gradient: Tensor<2>,
        wanted: &[bool],
    ) -> Vec<Option<Tensor<2>>>;
}

/// The output of an operation of one to eight inputs, on any device.
///
/// # Panics
/// If there are no inputs, or more than eight.
pub(crate) fn compose<O: Composition>(inputs: Vec<Tensor<2>>, operation: O) -> Tensor<2> {
    let inputs = inputs.into_iter().map(Tensor::into_dispatch).collect();
    Tensor::from_dispatch(Dispatch::composed(TensorList::new(inputs), operation))
}

/// A tensor outside of the graph, as operations take their constants.
pub(crate) fn constant<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    match tensor.device().is_autodiff() {
        true => tensor.inner(),
        false => tensor,
    }
}

#[backend_extension(Autodiff, Flex, NdArray: cfg(feature = "ndarray"), Cube: cfg(feature = "gpu"))]
pub(crate) trait Compose: Backend {
    fn composed<O: Composition>(
        #[extension_type] inputs: TensorList<Self>,
        operation: O,
    ) -> FloatTensor<Self>;
}

macro_rules! composes {
    ($backend:ty) => {
        impl Compose for $backend {
            fn composed<O: Composition>(
                inputs: TensorList<Self>,
                operation: O,
            ) -> FloatTensor<Self> {
                forward::<Self, O>(inputs.into_vec(), &operation, false).0
            }
        }
    };
}

composes!(Flex);
#[cfg(feature = "ndarray")]
composes!(burn::backend::NdArray);
#[cfg(feature = "gpu")]
composes!(burn::backend::Cube);

impl<B: Compose, C: CheckpointStrategy> Compose for Autodiff<B, C>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    fn composed<O: Composition>(inputs: TensorList<Self>, operation: O) -> FloatTensor<Self> {
        Self::differentiable_list(
            inputs.into_vec(),
            |inputs, is_tracked| {
                let (output, kept) = forward::<B, O>(inputs, &operation, is_tracked);
                (output, (operation, kept))
            },
            |(operation, kept), gradient, wanted| {
                let gradient = Tensor::from_primitive::<B>(gradient);
                let found = operation.backward(kept, gradient, wanted).into_iter();
                found.map(|found| found.map(primitive::<B>)).collect()
            },
        )
    }
}

fn forward<B: Backend, O: Composition>(
    inputs: Vec<FloatTensor<B>>,
    operation: &O,
    is_tracked: bool,
) -> (FloatTensor<B>, O::Kept)
where
    DispatchTensor: DispatchKindConversion<B>,
{
    let inputs = inputs.into_iter().map(Tensor::from_primitive::<B>);
    let (output, kept) = operation.forward(inputs.collect(), is_tracked);
    (primitive::<B>(output), kept)
}

fn primitive<B: Backend>(tensor: Tensor<2>) -> FloatTensor<B>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    tensor
        .try_into_primitive::<B>()
        .expect("operations compute on the device of their inputs")
}

#[cfg(test)]
#[path = "composition_tests.rs"]
mod tests;
