//! How frozen weights are stored in memory.

use burn::tensor::{DType, Device, FloatDType};
use eigenmix_tensors::Dtype;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How frozen half-precision matrices are stored in memory; everything else, and all computation on
/// the CPU, is f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// As stored if the device computes in that type; widened to f32 on the CPU.
    #[default]
    Auto,
    /// Widened to f32; fastest on the CPU.
    Float32,
    /// As stored: half the memory; the CPU widens a matrix each time it multiplies by it.
    Stored,
}

impl Precision {
    /// The names in configurations and flags.
    pub const NAMES: [&str; 3] = ["auto", "float32", "stored"];

    /// The half-precision type in which a matrix that the checkpoint stores in `stored` is kept on
    /// `device`; `None` if it is kept in f32.
    pub(crate) fn kept(self, stored: Dtype, device: &Device) -> Option<DType> {
        let half = match stored {
            Dtype::F16 => FloatDType::F16,
            Dtype::BF16 => FloatDType::BF16,
            _ => return None,
        };
        let is_kept = match self {
            Self::Float32 => false,
            Self::Stored => true,
            Self::Auto => {
                !eigenmix_kernels::widens_half_precision(device) && device.supports_dtype(half)
            }
        };
        is_kept.then(|| half.into())
    }
}
