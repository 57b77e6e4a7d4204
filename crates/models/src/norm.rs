//! The two normalisations of transformers.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

/// Layer or root-mean-square normalisation of every row.
#[derive(Module, Debug)]
pub(crate) enum Norm {
    Layer(LayerNorm),
    Rms(RmsNorm),
}

/// Which of them, as a configuration says it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum NormKind {
    Layer,
    Rms,
    /// Gemma: the stored scale is γ − 1.
    RmsFromOne,
}

/// Layer normalisation over the last dimension.
#[derive(Module, Debug)]
pub(crate) struct LayerNorm {
    pub gamma: Param<Tensor<1>>,
    pub beta: Param<Tensor<1>>,
    pub epsilon: f64,
}

/// Root-mean-square normalisation of groups of as many values as the scale has.
#[derive(Module, Debug)]
pub(crate) struct RmsNorm {
    /// The scale less `offset`.
    pub gamma: Param<Tensor<1>>,
    pub offset: f64,
    pub epsilon: f64,
}

impl Norm {
    /// - input, output: `[rows, width]`
    pub fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Layer(norm) => norm.forward(input),
            Self::Rms(norm) => norm.forward(input),
        }
    }
}

impl NormKind {
    /// How many parameters a norm of that width has.
    pub fn parameters(self, width: usize) -> usize {
        match self {
            Self::Layer => 2 * width,
            Self::Rms | Self::RmsFromOne => width,
        }
    }
}

impl LayerNorm {
    /// - input, output: `[rows, width]`
    pub fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        eigenmix_kernels::layer_norm(input, self.gamma.val(), self.beta.val(), self.epsilon)
    }
}

impl RmsNorm {
    fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        let gamma = match self.offset {
            0.0 => self.gamma.val(),
            offset => self.gamma.val() + offset,
        };
        eigenmix_kernels::rms_norm(input, gamma, self.epsilon)
    }
}
