//! Operations of a training step as kernels of [CubeCL](https://github.com/tracel-ai/cubecl), one source for every
//! GPU: Vulkan, WebGPU, Metal and CUDA.
//!
//! Each function takes and gives tensors outside of a graph; their backward passes are functions of their own.
//! Products of matrices are CubeCL's, tuned for the sizes; what lies between them is one kernel each, so that a
//! step launches few of them. All of them compute in f32; weights may be in half precision.
//!
//! The crate is empty without the feature `gpu`.
#![cfg(feature = "gpu")]
#![allow(
    clippy::collapsible_if,
    reason = "kernels ask for what is known when they are compiled apart from what is not"
)]

mod adamw;
mod adapted_linear;
mod attention;
mod block_formats;
mod bytes;
mod cross_entropy;
mod decoding;
mod gate;
mod halves;
mod heads;
mod join;
mod limits;
mod linear_layers;
mod low_rank;
mod norm;
mod operation;
mod packed;
mod product;
mod reduction;
mod regions;
mod rotary;
mod softmax;
mod tanh;
mod tasks;
mod thin;

pub use adamw::{AdamWNumbers, adamw};
pub use adapted_linear::{adapted_linear, adapted_linear_gradients};
pub use attention::{Attention, PackedSequences, Seen};
pub use cross_entropy::{LossRule, cross_entropy};
pub use gate::{Function, gate, gate_gradient};
pub use join::join;
pub use limits::most_values;
pub use linear_layers::{LayerWeight, LinearLayer, Update};
pub use norm::{Norm, norm, norm_gradient};
pub use packed::PackedMatrix;
pub use rotary::{Turn, rotary};
