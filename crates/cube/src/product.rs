//! Products of matrices, by CubeCL's kernels.

use burn::tensor::DType;
use burn_cubecl::kernel::cast;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::tensor::CubeTensor;

/// left · right in f32.
///
/// - left: `[..., rows, inner]`
/// - right: `[..., inner, cols]`
pub(crate) fn product(left: CubeTensor, right: CubeTensor) -> CubeTensor {
    matmul(left, right, None, MatmulStrategy::default(), DType::F32)
        .expect("matrices that fit each other")
}

/// [`product`] into an existing tensor.
pub(crate) fn product_into(left: CubeTensor, right: CubeTensor, output: CubeTensor) {
    matmul(
        left,
        right,
        Some(output),
        MatmulStrategy::default(),
        DType::F32,
    )
    .expect("matrices that fit each other");
}

/// The same values as matrices the other way round; nothing is moved.
pub(crate) fn transposed(mut tensor: CubeTensor) -> CubeTensor {
    let rank = tensor.meta.num_dims();
    tensor.meta.swap(rank - 2, rank - 1);
    tensor
}

/// A few tensors in the types of the weights that they are multiplied by, each converted once.
pub(crate) struct Converted {
    values: CubeTensor,
    others: Vec<CubeTensor>,
}

impl Converted {
    /// - values: in f32
    pub fn new(values: CubeTensor) -> Self {
        let others = Vec::new();
        Self { values, others }
    }

    pub fn to(&mut self, kind: DType) -> CubeTensor {
        if kind == DType::F32 {
            return self.values.clone();
        }
        let found = self.others.iter().find(|other| other.dtype == kind);
        found.cloned().unwrap_or_else(|| {
            let converted = cast(self.values.clone(), kind);
            self.others.push(converted.clone());
            converted
        })
    }
}
