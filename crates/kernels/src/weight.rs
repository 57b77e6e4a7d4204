//! A weight that is frozen or trained.

use burn::backend::Dispatch;
use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor};

use crate::composition::constant;
use crate::device_weight::DeviceWeight;
use crate::stored_weight::StoredWeight;
use crate::{AdaptedLayer, FrozenWeight, adapted_linear};

/// A matrix W `[d_out, d_in]`: of a linear layer, a table of embeddings, or both.
#[derive(Module, Debug)]
pub enum Weight {
    Frozen(FrozenWeight),
    /// In f32. The kernels compute no gradients of it; composed operations run.
    Trained(Param<Tensor<2>>),
}

impl Weight {
    /// `[d_out, d_in]`
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Frozen(weight) => weight.dims(),
            Self::Trained(values) => values.val().dims(),
        }
    }

    pub fn device(&self) -> Device {
        match self {
            Self::Frozen(weight) => weight.device(),
            Self::Trained(values) => values.val().device(),
        }
    }

    /// x · Wᵀ
    ///
    /// # Shapes
    /// - input: `[rows, d_in]`
    /// - output: `[rows, d_out]`, f32
    pub fn product(&self, input: Tensor<2>) -> Tensor<2> {
        let layer = AdaptedLayer {
            weight: self,
            bias: None,
            update: None,
        };
        adapted_linear(input, &[layer], None)
    }

    /// Whether it needs a gradient.
    pub(crate) fn is_tracked(&self) -> bool {
        match self {
            Self::Frozen(_) => false,
            Self::Trained(values) => values.val().is_tracked(),
        }
    }

    /// The form for operations that compute no gradient of it, on devices without kernels.
    pub(crate) fn on_device(&self) -> DeviceWeight {
        match self {
            Self::Frozen(weight) => weight.on_device(),
            Self::Trained(values) => DeviceWeight::Float(constant(values.val())),
        }
    }

    /// x · Wᵀ, composed of Burn's operations, with shapes as for [`Weight::product`].
    pub(crate) fn composed_product(&self, input: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Frozen(weight) => weight.composed_product(input),
            Self::Trained(values) => input.matmul(values.val().transpose()),
        }
    }

    /// Rows of W in f32, composed of Burn's operations.
    ///
    /// - indices: `[rows]`
    /// - output: `[rows, d_in]`
    pub(crate) fn composed_rows(&self, indices: Tensor<1, Int>) -> Tensor<2> {
        match self {
            Self::Frozen(weight) => weight.composed_rows(indices),
            Self::Trained(values) => values.val().select(0, indices),
        }
    }

    /// The form for kernels, which compute no gradient of it.
    pub(crate) fn stored(&self) -> StoredWeight<Dispatch> {
        match self {
            Self::Frozen(weight) => weight.stored(),
            Self::Trained(values) => StoredWeight::Float(values.val().into_dispatch()),
        }
    }
}
