//! In which type frozen weights are kept.

use burn::tensor::{DType, Device, FloatDType};
use eigenmix_tensors::Dtype;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// In which type the frozen matrices of a checkpoint in half precision are kept; everything else,
/// and everything that is computed on the CPU, is f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// As stored where the device computes in that type; on the CPU widened to f32.
    #[default]
    Auto,
    /// Widened to f32: the fastest on the CPU.
    Float32,
    /// As stored: half the memory; the CPU widens a matrix whenever it multiplies with it.
    Stored,
}

impl Precision {
    /// The names in configurations and flags.
    pub const NAMES: [&str; 3] = ["auto", "float32", "stored"];

    /// The half-precision type in which a matrix that is stored in `stored` is kept on `device`.
    pub(crate) fn kept(self, stored: Dtype, device: &Device) -> Option<DType> {
        let half = match stored {
            Dtype::F16 => FloatDType::F16,
            Dtype::BF16 => FloatDType::BF16,
            _ => return None,
        };
        let is_kept = match self {
            Self::Float32 => false,
            Self::Stored => true,
            Self::Auto => !eigenmix_kernels::widens_halves(device) && device.supports_dtype(half),
        };
        is_kept.then(|| half.into())
    }
}
