//! How frozen weights are stored in memory.

use burn::tensor::FloatDType;
use eigenmix_quant::{EncodedMatrix, QuantError, int8, int8_size, nf4, nf4_size};
use eigenmix_tensors::Dtype;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How frozen matrices are stored in memory; everything else, and all computation on the CPU, is f32.
/// Matrices of a quantised checkpoint stay in its form unless they are to be widened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// As stored if the device computes in that type; widened to f32 on the CPU.
    #[default]
    Auto,
    /// Widened to f32; fastest on the CPU.
    Float32,
    /// As stored: half the memory; the CPU decodes a matrix each time it multiplies by it.
    Stored,
    /// The weights of layers are quantised to NF4 while they are loaded: an eighth of the memory of f32;
    /// tables and the output layer stay as stored.
    Nf4,
    /// The same to eight bits with a scale for each row: a quarter.
    Int8,
}

impl Precision {
    /// The names in configurations and flags.
    pub const NAMES: [(&str, Self); 5] = [
        ("auto", Self::Auto),
        ("float32", Self::Float32),
        ("stored", Self::Stored),
        ("nf4", Self::Nf4),
        ("int8", Self::Int8),
    ];

    /// The precision of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        let named = Self::NAMES.into_iter().find(|(known, _)| *known == name);
        named.map(|(_, precision)| precision)
    }

    /// Whether a matrix that the checkpoint stores in `stored` is kept so.
    ///
    /// - computes_in: whether the device computes in a type
    pub(crate) fn keeps(self, stored: Dtype, computes_in: impl Fn(FloatDType) -> bool) -> bool {
        let half = match stored {
            Dtype::F16 => FloatDType::F16,
            Dtype::BF16 => FloatDType::BF16,
            _ => return false,
        };
        match self {
            Self::Float32 => false,
            Self::Stored | Self::Nf4 | Self::Int8 => true,
            Self::Auto => computes_in(half),
        }
    }

    /// Whether the weights of layers are quantised while they are loaded.
    pub fn quantises(self) -> bool {
        self.quantised().is_some()
    }

    /// How many bytes the weight of a layer takes that is quantised while it is loaded.
    pub fn quantised_size(self, shape: [usize; 2]) -> Option<usize> {
        match self {
            Self::Nf4 => Some(nf4_size(shape)),
            Self::Int8 => Some(int8_size(shape)),
            Self::Auto | Self::Float32 | Self::Stored => None,
        }
    }

    /// How the weights of layers are quantised while they are loaded, `[d_out, d_in]`.
    pub(crate) fn quantised(self) -> Option<Quantise> {
        match self {
            Self::Nf4 => Some(|values, shape| Ok(nf4(values, shape)?.into())),
            Self::Int8 => Some(|values, shape| Ok(int8(values, shape)?.into())),
            Self::Auto | Self::Float32 | Self::Stored => None,
        }
    }
}

type Quantise = fn(&[f32], [usize; 2]) -> Result<EncodedMatrix, QuantError>;
