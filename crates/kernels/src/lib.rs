//! Fused operations, each with a backward pass of its own.
//!
//! On Burn's flex backend they are vectorised kernels that run on all threads and keep for the
//! backward pass only what it needs; on every other backend the same function composes Burn's own
//! operations, which autodiff differentiates. Which one runs is decided by the tensor's device, so
//! models call one function and need not know.

mod attention;
mod attention_rows;
mod gelu;
mod layer_norm;
mod row_product;
mod simd;

pub use attention::{AttentionShape, attention};
pub use gelu::gelu;
pub use layer_norm::layer_norm;

use burn::backend::DispatchDevice;
use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Device};

/// How many numbers a thread works on at a time: enough to pay for handing the work over, little
/// enough to stay in its second-level cache.
const CHUNK: usize = 16 * 1024;

/// Whether tensors of this device are flex tensors in f32, which the kernels are written for.
fn has_kernels(device: &Device) -> bool {
    matches!(
        device.clone().inner().as_dispatch(),
        DispatchDevice::Flex(_)
    )
}

/// An uninitialised tensor of the shape and type of `tensor`.
fn empty_like(tensor: &FlexTensor) -> FlexTensor {
    FlexTensor::empty(tensor.layout().shape().clone(), DType::F32)
}
