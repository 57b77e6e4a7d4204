//! The residual block of UNets and of their VAEs.

use burn::module::Module;
use burn::tensor::Tensor;
use eigenmix_models::ModelError;
use eigenmix_moslora::{AdaptedConvolution, AdaptedLinear};

use crate::layers::{GroupNorm, Parts, same_size};
use crate::pixels::Pixels;

/// (x + conv2(silu(norm2(conv1(silu(norm1(x))) + t)))) / scale, with x through a convolution of its own
/// where the channels change.
#[derive(Module, Debug)]
pub(crate) struct ResidualBlock {
    norm1: GroupNorm,
    conv1: AdaptedConvolution,
    /// Projects the time embedding, where there is one.
    time: Option<AdaptedLinear>,
    norm2: GroupNorm,
    conv2: AdaptedConvolution,
    shortcut: Option<AdaptedConvolution>,
    scale: f64,
}

/// What residual blocks of a part have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResidualShape {
    pub groups: usize,
    pub epsilon: f64,
    pub scale: f64,
    pub takes_time: bool,
}

impl ResidualBlock {
    pub fn build(parts: &mut Parts, path: &str, shape: ResidualShape) -> Result<Self, ModelError> {
        let at = |name: &str| format!("{path}.{name}");
        let ResidualShape {
            groups, epsilon, ..
        } = shape;
        Ok(Self {
            norm1: parts.group_norm(&at("norm1"), &at("conv1"), groups, epsilon)?,
            conv1: parts.convolution(&at("conv1"))?,
            time: match shape.takes_time {
                true => Some(parts.linear(&at("time_emb_proj"))?),
                false => None,
            },
            norm2: parts.group_norm(&at("norm2"), &at("conv2"), groups, epsilon)?,
            conv2: parts.convolution(&at("conv2"))?,
            shortcut: parts.optional_convolution(&at("conv_shortcut"))?,
            scale: shape.scale,
        })
    }

    /// - time: silu of the time embedding, `[images, time width]`
    pub fn forward(&self, input: Pixels, time: Option<&Tensor<2>>) -> Pixels {
        let normalised = self.norm1.activated(&input, None);
        let hidden = same_size(&self.conv1, &input, normalised, None);
        let shift = self
            .time
            .as_ref()
            .zip(time)
            .map(|(layer, time)| layer.forward(time.clone()));
        let normalised = self.norm2.activated(&hidden, shift);
        let residual = match &self.shortcut {
            Some(shortcut) => shortcut.of_pixels(input.rows, None),
            None => input.rows,
        };
        let output = same_size(&self.conv2, &hidden, normalised, Some(residual));
        match self.scale {
            1.0 => output,
            scale => output.with(output.rows.clone() / scale),
        }
    }
}
