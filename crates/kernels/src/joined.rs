//! Many tensors as one.

use burn::tensor::Tensor;

/// The values of all tensors, one after the other: `[Σ count]`. On a GPU a few tensors are joined with each kernel
/// that is launched, not one.
///
/// - tensors: `[count]` each, in f32, outside of a graph
///
/// # Panics
/// If there are none.
pub fn joined(tensors: Vec<Tensor<1>>) -> Tensor<1> {
    #[cfg(feature = "gpu")]
    if crate::computes_later(&tensors[0].device()) {
        return eigenmix_cube::join(tensors);
    }
    Tensor::cat(tensors, 0)
}
