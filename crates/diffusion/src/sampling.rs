//! Sampling with classifier-free guidance (arXiv 2207.12598).

use std::ops::ControlFlow;

use burn::tensor::{Device, Tensor, TensorData};
use eigenmix_moslora::random_stream;
use rand_distr::{Distribution, StandardNormal};

use crate::{AddedInput, Sampler, TextConditions, Unet, UnetInput};

/// What texts and, for SDXL, sizes a UNet is given for a batch of images.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// `[images, tokens, width]`
    pub states: Tensor<3>,
    pub added: Option<AddedInput>,
}

impl Conditions {
    /// Those of one image, whole and of the size that it was made in.
    ///
    /// - texts: one text
    /// - size: height and width in pixels
    pub fn of_one(texts: &TextConditions, [height, width]: [usize; 2]) -> Self {
        let numbers = [height, width, 0, 0, height, width];
        Self {
            states: texts.states.clone(),
            added: texts.pooled.clone().map(|text_embeds| AddedInput {
                text_embeds,
                time_ids: numbers.map(|number| number as f32).to_vec(),
            }),
        }
    }

    /// The images of these, then those of others.
    fn followed_by(self, others: Self) -> Self {
        let added = self
            .added
            .zip(others.added)
            .map(|(first, mut second)| AddedInput {
                text_embeds: Tensor::cat(vec![first.text_embeds, second.text_embeds], 0),
                time_ids: {
                    let mut ids = first.time_ids;
                    ids.append(&mut second.time_ids);
                    ids
                },
            });
        Self {
            states: Tensor::cat(vec![self.states, others.states], 0),
            added,
        }
    }
}

/// How a prompt guides.
#[derive(Clone, Debug)]
pub struct Guidance {
    /// The factor on what the prompt changes; 1 is the prompt alone.
    pub scale: f64,
    /// Conditions of the negative prompt, with as many images.
    pub negative: Conditions,
}

/// Latents from noise, or nothing if `observe` broke off.
///
/// - noise: of variance one, `[images, channels, height, width]`
/// - guidance: none takes the prompt alone, at half the cost
/// - observe: is shown the latents after every step
pub fn sample(
    unet: &Unet,
    sampler: &mut dyn Sampler,
    noise: Tensor<4>,
    prompt: &Conditions,
    guidance: Option<&Guidance>,
    mut observe: impl FnMut(usize, &Tensor<4>) -> ControlFlow<()>,
) -> Option<Tensor<4>> {
    let [images, ..] = noise.dims();
    let mut latents = noise * sampler.initial_scale();
    let conditions = match guidance {
        Some(guidance) => guidance.negative.clone().followed_by(prompt.clone()),
        None => prompt.clone(),
    };
    let times = sampler.times().to_vec();
    for (step, &time) in times.iter().enumerate() {
        let input = sampler.input(step, latents.clone());
        let sample = match guidance {
            Some(_) => Tensor::cat(vec![input.clone(), input], 0),
            None => input,
        };
        let [rows, ..] = sample.dims();
        let output = unet.forward(&UnetInput {
            sample,
            timesteps: vec![time; rows],
            states: conditions.states.clone(),
            added: conditions.added.clone(),
        });
        let output = match guidance {
            Some(guidance) => {
                let negative = output.clone().narrow(0, 0, images);
                let positive = output.narrow(0, images, images);
                negative.clone() + (positive - negative) * guidance.scale
            }
            None => output,
        };
        latents = sampler.advance(step, latents, output);
        if observe(step, &latents).is_break() && step + 1 < times.len() {
            return None;
        }
    }
    Some(latents)
}

/// Noise of variance one that depends on the seed and on what it is for alone.
pub fn gaussian_noise(seed: u64, names: &[&str], shape: [usize; 4], device: &Device) -> Tensor<4> {
    let random = random_stream(seed, names);
    let values = StandardNormal.sample_iter(random);
    let values: Vec<f32> = values.take(shape.iter().product()).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}
