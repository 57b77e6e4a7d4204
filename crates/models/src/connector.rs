//! What stands between the tower of a vision-language model and its decoder: LLaVA's two-layer projector.

use burn::module::Module;
use burn::tensor::Tensor;
use eigenmix_kernels::Activation;
use eigenmix_moslora::AdaptedLinear;

use crate::builder::Builder;
use crate::{LinearLayer, ModelError};

/// The sizes of a projector and where it is in a model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ConnectorConfig {
    pub path: &'static str,
    /// The width of what the tower gives.
    pub d_in: usize,
    /// The width of the decoder's tokens.
    pub d_out: usize,
    pub activation: Activation,
    pub bias: bool,
}

impl ConnectorConfig {
    /// The two linear layers, in their order.
    pub fn layers(&self) -> [LinearLayer; 2] {
        let layer = |name: &str, shape| LinearLayer {
            bias: self.bias,
            ..LinearLayer::new(format!("{}.{name}", self.path), shape)
        };
        [
            layer("linear_1", [self.d_out, self.d_in]),
            layer("linear_2", [self.d_out, self.d_out]),
        ]
    }
}

/// W₂ · f(W₁ · x + b₁) + b₂, patch by patch (arXiv 2310.03744, section 3.2).
#[derive(Module, Debug)]
pub(crate) struct Connector {
    first: AdaptedLinear,
    second: AdaptedLinear,
    #[module(skip)]
    activation: Activation,
}

impl Connector {
    pub fn build(builder: &mut Builder, config: &ConnectorConfig) -> Result<Self, ModelError> {
        let [first, second] = config.layers();
        Ok(Self {
            first: builder.linear(&first)?,
            second: builder.linear(&second)?,
            activation: config.activation,
        })
    }

    /// - features: `[patches, d_in]`
    /// - output: `[patches, d_out]`
    pub fn forward(&self, features: Tensor<2>) -> Tensor<2> {
        let hidden = self.activation.forward(self.first.forward(features));
        self.second.forward(hidden)
    }
}
