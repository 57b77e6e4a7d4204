//! Products of matrices, by CubeCL's kernels.

use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::tensor::CubeTensor;

use crate::operation::unwritten;

/// left · right in f32, in order.
///
/// - left: `[..., rows, inner]`
/// - right: `[..., inner, cols]`
pub(crate) fn product(left: CubeTensor, right: CubeTensor) -> CubeTensor {
    let rank = left.meta.num_dims();
    let mut shape: Vec<usize> = left.meta.shape().to_vec();
    shape[rank - 1] = right.meta.shape()[rank - 1];
    // Left to itself, a product has rows of a length that the device prefers.
    let output = unwritten(&left, Shape::from(shape));
    product_into(left, right, output.clone());
    output
}

/// [`product`] into an existing tensor.
pub(crate) fn product_into(left: CubeTensor, right: CubeTensor, output: CubeTensor) {
    let strategy = MatmulStrategy::default();
    matmul(left, right, Some(output), strategy, DType::F32).expect("matrices that fit each other");
}

/// The same values as matrices the other way round; nothing is moved.
pub(crate) fn transposed(mut tensor: CubeTensor) -> CubeTensor {
    let rank = tensor.meta.num_dims();
    tensor.meta.swap(rank - 2, rank - 1);
    tensor
}
