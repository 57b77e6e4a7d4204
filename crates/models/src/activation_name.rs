//! What configurations call an activation function.

use eigenmix_kernels::Activation;
use serde::Deserialize;

/// An activation function by its name in a `config.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ActivationName {
    Gelu,
    #[serde(
        alias = "gelu_pytorch_tanh",
        alias = "gelu_fast",
        alias = "gelu_accurate"
    )]
    GeluNew,
    QuickGelu,
    #[serde(alias = "swish")]
    Silu,
    Relu,
}

impl From<ActivationName> for Activation {
    fn from(name: ActivationName) -> Self {
        match name {
            ActivationName::Gelu => Self::Gelu,
            ActivationName::GeluNew => Self::GeluTanh,
            ActivationName::QuickGelu => Self::QuickGelu,
            ActivationName::Silu => Self::Silu,
            ActivationName::Relu => Self::Relu,
        }
    }
}
