//! A frozen weight as operations composed for devices without kernels take it: outside of the graph.

use burn::tensor::{DType, FloatDType, Tensor};

use crate::packed_weight::PackedWeight;

/// W `[d_out, d_in]`. Weights in half precision are multiplied in their own type.
#[expect(
    clippy::large_enum_variant,
    reason = "most weights are of the larger form"
)]
#[derive(Clone, Debug)]
pub(crate) enum DeviceWeight {
    /// In any float type, outside of the graph.
    Float(Tensor<2>),
    /// Decoded for each product, so that nothing decoded is kept.
    Packed(Box<PackedWeight>),
}

impl DeviceWeight {
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Float(values) => values.dims(),
            Self::Packed(weight) => weight.dims(),
        }
    }

    /// As the kernels of a GPU take it.
    #[cfg(feature = "gpu")]
    pub fn on_gpu(&self) -> eigenmix_cube::LayerWeight {
        match self {
            Self::Packed(weight) => match &**weight {
                PackedWeight::Launched(matrix) => {
                    eigenmix_cube::LayerWeight::Packed(Box::new(matrix.clone()))
                }
                PackedWeight::Composed(_) => eigenmix_cube::LayerWeight::Values(weight.decoded()),
            },
            Self::Float(values) => eigenmix_cube::LayerWeight::Values(values.clone()),
        }
    }

    /// W, in the type that it is multiplied in.
    pub fn values(&self) -> Tensor<2> {
        match self {
            Self::Float(values) => values.clone(),
            Self::Packed(weight) => weight.decoded(),
        }
    }

    /// x · Wᵀ in f32.
    ///
    /// - input: `[rows, d_in]`, f32
    pub fn product(&self, input: Tensor<2>) -> Tensor<2> {
        #[cfg(feature = "gpu")]
        if crate::computes_later(&input.device()) {
            return eigenmix_cube::adapted_linear(input, vec![self.layer()], None);
        }
        self.multiplied(input, |values| values.transpose())
    }

    /// dy · W in f32: the gradient of x from that of x · Wᵀ.
    ///
    /// - gradient: `[rows, d_out]`, f32
    pub fn input_gradient(&self, gradient: Tensor<2>) -> Tensor<2> {
        #[cfg(feature = "gpu")]
        if crate::computes_later(&gradient.device()) {
            let layers = vec![self.layer()];
            let found = eigenmix_cube::adapted_linear_gradients(None, layers, gradient, &[true]);
            return found
                .into_iter()
                .flatten()
                .next()
                .expect("the one gradient");
        }
        self.multiplied(gradient, |values| values)
    }

    /// The layer without anything but its weight.
    #[cfg(feature = "gpu")]
    fn layer(&self) -> eigenmix_cube::LinearLayer {
        eigenmix_cube::LinearLayer {
            weight: self.on_gpu(),
            bias: None,
            update: None,
        }
    }

    fn multiplied(&self, rows: Tensor<2>, right: impl FnOnce(Tensor<2>) -> Tensor<2>) -> Tensor<2> {
        let values = self.values();
        let kept = match values.dtype() {
            DType::F32 => return rows.matmul(right(values)),
            DType::BF16 => FloatDType::BF16,
            _ => FloatDType::F16,
        };
        rows.cast(kept).matmul(right(values)).cast(FloatDType::F32)
    }
}
