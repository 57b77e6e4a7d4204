//! Fused operations, each with a backward pass of its own.
//!
//! On Burn's flex backend they are vectorised kernels that run on all threads and keep for the
//! backward pass only what it needs; on GPUs they are kernels of the crate `eigenmix-cube` (feature
//! `gpu`); on every other backend the same function composes Burn's own operations. Which one runs is
//! decided by the tensor's device, so models call one function on any device.
//!
//! ```
//! use burn::tensor::{Device, Tensor, TensorData};
//! use eigenmix_kernels::{FrozenWeight, Weight};
//!
//! let device = Device::flex();
//! // W [d_out, d_in] = [2, 3] is frozen, x [rows, d_in] = [1, 3].
//! let values = vec![1.0f32, 0.0, 2.0, 0.0, 3.0, 0.0];
//! let weight = Tensor::<2>::from_data(TensorData::new(values, [2, 3]), &device);
//! let weight = Weight::Frozen(FrozenWeight::from(weight));
//! let x = Tensor::<2>::from_data(TensorData::new(vec![1.0f32, 4.0, 5.0], [1, 3]), &device);
//! // x · Wᵀ
//! let y: Vec<f32> = weight.product(x).into_data().try_to_vec().expect("f32");
//! assert_eq!(y, [11.0, 12.0]);
//! ```

mod activation;
mod adamw;
mod adapted_linear;
mod adapted_linear_rows;
mod attention;
mod attention_gradient;
#[cfg(test)]
mod attention_reference;
mod attention_rows;
mod attention_shape;
mod backward;
mod buffer;
mod cached_attention;
mod chunked_cross_entropy;
mod codes;
mod column_product;
mod composed_linear;
mod composed_norm;
mod composed_turn;
mod composition;
mod convolution;
mod convolution_rows;
mod convolution_shape;
mod device_weight;
mod embedding;
mod encoded_product;
#[cfg(test)]
mod every_form;
mod few_rows;
mod frozen_weight;
mod fused_dot;
mod gate;
#[cfg(feature = "gpu")]
mod gpu;
mod group_norm;
mod group_norm_rows;
mod joined;
mod key_value_cache;
mod latest;
mod linear_cross_entropy;
#[cfg(target_arch = "x86_64")]
mod lookups;
mod norm;
mod packed_product;
mod packed_weight;
mod padded_attention;
mod padding;
mod product;
mod rotary;
mod row_numbers;
mod row_product;
mod simd;
mod stored_weight;
mod tensor_list;
mod transposition;
mod unit;
mod vector;
#[cfg(test)]
mod waves;
mod weight;

pub use activation::Activation;
pub use adamw::{AdamWState, AdamWStep, sum_of_squares};
pub use adapted_linear::{AdaptedLayer, LowRankFactors, adapted_linear};
pub use attention::{attention, cross_attention, self_attention};
pub use attention_shape::{AttentionShape, Visibility};
pub use cached_attention::{cached_attention, cached_self_attention};
pub use convolution::{convolution, convolved_factor};
pub use convolution_shape::ConvolutionShape;
pub use embedding::sum_of_rows;
pub use frozen_weight::FrozenWeight;
pub use group_norm::{GroupNormShape, group_norm};
pub use joined::joined;
pub use key_value_cache::KeyValueCache;
pub use latest::Latest;
pub use linear_cross_entropy::{linear_cross_entropy, smoothed_cross_entropy};
pub use norm::{layer_norm, rms_norm};
pub use rotary::rotary;
pub use row_numbers::row_numbers;
pub use weight::Weight;

use burn::backend::DispatchDevice;
use burn::tensor::Device;

/// How many values a thread works on at a time: enough to outweigh the cost of handing over the
/// work, few enough to stay in its second-level cache.
const CHUNK: usize = 16 * 1024;

/// Whether this device computes with half-precision weights only by widening them.
pub fn widens_half_precision(device: &Device) -> bool {
    has_kernels(device)
}

/// Whether this device computes on its own while the host goes on, so that reading a value is waiting for it:
/// whether it is a GPU.
pub fn computes_later(device: &Device) -> bool {
    #[cfg(feature = "gpu")]
    if matches!(
        device.clone().inner().as_dispatch(),
        DispatchDevice::Cube(_)
    ) {
        return true;
    }
    let _ = device;
    false
}

/// Whether tensors of this device are flex tensors, which the kernels are written for.
fn has_kernels(device: &Device) -> bool {
    matches!(
        device.clone().inner().as_dispatch(),
        DispatchDevice::Flex(_)
    )
}

/// As many whole rows of `width` values as a thread works on at a time.
fn chunk_of_rows(width: usize) -> usize {
    (CHUNK / width).max(1) * width
}
