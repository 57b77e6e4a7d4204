//! What a UNet knows of the time and, for SDXL, of the image's sizes: sines and cosines through two
//! layers.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use eigenmix_kernels::Activation;
use eigenmix_models::ModelError;
use eigenmix_moslora::AdaptedLinear;

use crate::layers::Parts;
use crate::unet_config::SinusoidShape;

impl SinusoidShape {
    /// sin(v · ω) and cos(v · ω) with ω_i = 10000^(−i / (half − shift)), computed in f32 as diffusers
    /// does: arguments of hundreds are rounded as they were in training.
    ///
    /// - output: `[numbers, width]`
    pub fn of(&self, numbers: &[f32], device: &Device) -> Tensor<2> {
        let half = self.width / 2;
        let span = half as f32 - self.shift as f32;
        let frequencies: Vec<f32> = (0..half)
            .map(|index| (-(10_000f64.ln()) as f32 * index as f32 / span).exp())
            .collect();
        let mut values = Vec::with_capacity(numbers.len() * self.width);
        for number in numbers {
            let angles = frequencies
                .iter()
                .map(|frequency| f64::from(number * frequency));
            let sines = angles.clone().map(|angle| angle.sin() as f32);
            let cosines = angles.map(|angle| angle.cos() as f32);
            match self.flipped {
                true => values.extend(cosines.chain(sines)),
                false => values.extend(sines.chain(cosines)),
            }
            values.extend(std::iter::repeat_n(0.0, self.width - 2 * half));
        }
        Tensor::from_data(TensorData::new(values, [numbers.len(), self.width]), device)
    }
}

/// linear_2(silu(linear_1(x))).
#[derive(Module, Debug)]
pub(crate) struct TimeEmbedding {
    first: AdaptedLinear,
    second: AdaptedLinear,
}

impl TimeEmbedding {
    pub fn build(parts: &mut Parts, path: &str) -> Result<Self, ModelError> {
        Ok(Self {
            first: parts.linear(&format!("{path}.linear_1"))?,
            second: parts.linear(&format!("{path}.linear_2"))?,
        })
    }

    /// - input: `[images, width]`
    /// - output: `[images, time width]`
    pub fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        let hidden = Activation::Silu.forward(self.first.forward(input));
        self.second.forward(hidden)
    }
}
