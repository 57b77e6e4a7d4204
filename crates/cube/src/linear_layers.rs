//! Frozen linear layers with their updates: as they are given, as an operation counts their tensors, and on the
//! device.

use std::ops::Range;

use burn::tensor::{DType, Tensor};
use burn_cubecl::kernel::slice;
use burn_cubecl::tensor::CubeTensor;

use crate::decoding::{FEW_ROWS, PackedLayout};
use crate::halves::{Converted, TypedRows};
use crate::operation::{Queued, in_order, queued};
use crate::packed::PackedMatrix;
use crate::product::{product, transposed};

/// A frozen linear layer: x · Wᵀ + b + s · (x · R) · Lᵀ.
#[derive(Clone, Debug)]
pub struct LinearLayer {
    /// W `[d_out, d_in]`
    pub weight: LayerWeight,
    /// b `[1, d_out]`
    pub bias: Option<Tensor<2>>,
    pub update: Option<Update>,
}

impl LinearLayer {
    /// d_out, if everything is of one size.
    pub(crate) fn check(&self, d_in: usize) -> usize {
        let [d_out, inner] = match &self.weight {
            LayerWeight::Values(values) => values.dims(),
            LayerWeight::Packed(matrix) => matrix.dims(),
        };
        assert_eq!(inner, d_in, "columns of a weight and of the input");
        if let Some(bias) = &self.bias {
            assert_eq!(bias.dims(), [1, d_out], "sizes of a bias");
        }
        if let Some(Update { left, right, .. }) = &self.update {
            let [_, rank] = left.dims();
            let sizes = (left.dims(), right.dims());
            assert_eq!(sizes, ([d_out, rank], [d_in, rank]), "sizes of an update");
        }
        d_out
    }
}

/// A frozen weight.
#[expect(
    clippy::large_enum_variant,
    reason = "most weights are of the larger form"
)]
#[derive(Clone, Debug)]
pub enum LayerWeight {
    /// In f32, or in half precision, which is multiplied in its own type.
    Values(Tensor<2>),
    /// Decoded where it is used; nothing decoded is kept.
    Packed(Box<PackedMatrix>),
}

/// An update s · L · Rᵀ.
#[derive(Clone, Debug)]
pub struct Update {
    /// L `[d_out, rank]`
    pub left: Tensor<2>,
    /// R `[d_in, rank]`
    pub right: Tensor<2>,
    /// s
    pub scaling: f32,
}

/// Which tensors the layers have, in the order in which they follow in the inputs of an operation.
#[derive(Debug)]
pub(crate) struct Plan(pub Vec<LayerPlan>);

#[derive(Debug)]
pub(crate) struct LayerPlan {
    packed: Option<PackedLayout>,
    has_bias: bool,
    /// `None` if there is no update.
    pub scaling: Option<f32>,
    /// `[d_out, d_in]`
    pub shape: [usize; 2],
    pub rank: usize,
}

/// A layer on the device.
pub(crate) struct Layer {
    pub weight: DeviceWeight,
    pub bias: Option<CubeTensor>,
    pub update: Option<Factors>,
}

pub(crate) struct Factors {
    /// `[d_out, rank]`
    pub left: CubeTensor,
    /// `[d_in, rank]`
    pub right: CubeTensor,
}

#[expect(
    clippy::large_enum_variant,
    reason = "an operation has up to three, which are not moved about"
)]
pub(crate) enum DeviceWeight {
    Values(CubeTensor),
    Packed(PackedLayout, Vec<CubeTensor>),
}

impl DeviceWeight {
    /// The type of what it is multiplied by.
    fn kind(&self) -> DType {
        match self {
            Self::Values(values) => values.dtype,
            Self::Packed(..) => DType::F32,
        }
    }

    /// x · Wᵀ
    pub fn product(self, input: &mut Converted) -> TypedRows {
        let TypedRows { values, scales } = input.to(self.kind());
        let [rows, _] = values.meta.shape().dims();
        let values = match self {
            Self::Packed(layout, tensors) if rows <= FEW_ROWS => layout.product(&tensors, &values),
            _ => product(values, transposed(self.values())),
        };
        TypedRows { values, scales }
    }

    /// dy · W
    ///
    /// - columns: of the layer in dy, which has the columns of all layers
    pub fn input_gradient(self, gradient: &mut Converted, columns: Range<usize>) -> TypedRows {
        let TypedRows { values, scales } = gradient.to(self.kind());
        let [rows, all] = values.meta.shape().dims();
        let part = match columns == (0..all) {
            true => values,
            false => slice(values, &[0..rows, columns]),
        };
        let values = product(part, self.values());
        TypedRows { values, scales }
    }

    fn values(self) -> CubeTensor {
        match self {
            Self::Values(values) => values,
            Self::Packed(layout, tensors) => layout.decoded(&tensors, None),
        }
    }
}

impl Plan {
    /// - inputs: to which the tensors are added
    pub fn of(layers: Vec<LinearLayer>, inputs: &mut Vec<Queued>) -> Self {
        let plans = layers.into_iter().map(|layer| {
            let (shape, packed) = match layer.weight {
                LayerWeight::Values(values) => {
                    let shape = values.dims();
                    inputs.push(queued(values));
                    (shape, None)
                }
                LayerWeight::Packed(matrix) => {
                    inputs.extend(matrix.queued());
                    (matrix.dims(), Some(matrix.layout()))
                }
            };
            let has_bias = layer.bias.is_some();
            inputs.extend(layer.bias.map(queued));
            let (mut scaling, mut rank) = (None, 0);
            if let Some(update) = layer.update {
                scaling = Some(update.scaling);
                [_, rank] = update.left.dims();
                inputs.extend([update.left, update.right].map(queued));
            }
            LayerPlan {
                packed,
                has_bias,
                scaling,
                shape,
                rank,
            }
        });
        Self(plans.collect())
    }

    /// Σ d_out
    pub fn width(&self) -> usize {
        self.0.iter().map(|layer| layer.shape[0]).sum()
    }

    pub fn d_in(&self) -> usize {
        self.0[0].shape[1]
    }

    /// Of each update.
    pub fn scalings(&self) -> Vec<f32> {
        self.0.iter().filter_map(|layer| layer.scaling).collect()
    }

    pub fn layers(&self, tensors: impl Iterator<Item = CubeTensor>) -> Vec<Layer> {
        let mut tensors = tensors;
        let mut next = || tensors.next().expect("a tensor that the plan counts");
        let layers = self.0.iter().map(|plan| Layer {
            weight: match plan.packed {
                None => DeviceWeight::Values(next()),
                Some(layout) => {
                    let tensors = (0..layout.tensors()).map(|_| in_order(next()));
                    DeviceWeight::Packed(layout, tensors.collect())
                }
            },
            bias: plan.has_bias.then(|| in_order(next())),
            update: plan.scaling.is_some().then(|| Factors {
                left: in_order(next()),
                right: in_order(next()),
            }),
        });
        layers.collect()
    }
}
