//! Images in latents with their captions, and the noise that a step adds to them.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use eigenmix_diffusion::{NoiseConfig, NoiseSchedule, PromptIds, TextConditions};
use eigenmix_moslora::{TrainedValues, random_stream};
use rand_distr::{Distribution, StandardNormal};

use super::config::DiffusionConfig;
use super::diffusion_base::DiffusionBase;
use crate::training::{Minibatch, Pass};

/// What a training of a diffusion model does with every batch.
#[derive(Clone, Debug)]
pub(crate) struct DenoisingSettings {
    pub schedule: NoiseSchedule,
    pub(crate) noise: NoiseConfig,
    pub(crate) min_snr: Option<f32>,
    /// What latents are multiplied by before a UNet sees them, and what is subtracted from them before.
    pub(crate) scaling: [f32; 2],
    /// The empty caption, which others are replaced by.
    pub(crate) empty: CaptionInput,
}

/// A caption as a UNet or text encoders take it.
#[derive(Clone, Debug)]
pub(crate) enum CaptionInput {
    /// `states` `[tokens, width]` and, of SDXL, `pooled` `[width]`.
    States(Arc<TrainedValues>),
    Ids(Arc<PromptIds>),
}

/// An image of a batch.
#[derive(Clone, Debug)]
pub(crate) struct LatentImage {
    /// The number by which its noise is drawn.
    pub number: usize,
    /// `mean` and `logvar` `[channels, height, width]`, as the VAE gives them.
    pub moments: Arc<TrainedValues>,
    pub caption: CaptionInput,
    /// SDXL: original size, crop and target size.
    pub time_ids: [f32; 6],
    /// How much its loss counts.
    pub weight: f32,
}

/// Images with their captions. Those of one size go through the UNet together.
#[derive(Debug)]
pub(crate) struct DenoisingBatch {
    pub(crate) groups: Vec<DenoisingGroup>,
    pub(crate) settings: Arc<DenoisingSettings>,
    /// How many examples there are, class images not counted.
    pub(crate) examples: usize,
}

/// Images of one size.
#[derive(Debug)]
pub(crate) struct DenoisingGroup {
    /// Channels, height and width of the latents.
    pub shape: [usize; 3],
    pub images: Vec<LatentImage>,
    pub time_ids: Vec<[f32; 6]>,
}

/// What a UNet is given, and what it should give.
pub(crate) struct Noised {
    pub sample: Tensor<4>,
    pub target: Tensor<4>,
    pub times: Vec<usize>,
    pub texts: Texts,
    /// Of the images' losses in that of the batch: `[images]`.
    pub weights: Tensor<1>,
}

/// The captions of a group.
pub(crate) enum Texts {
    States(TextStates),
    Ids(TextIds),
}

/// The states of several captions.
pub(crate) struct TextStates(Vec<Arc<TrainedValues>>);

/// The tokens of several captions.
pub(crate) struct TextIds(Vec<Arc<PromptIds>>);

impl DenoisingSettings {
    /// Those of a model, with an empty caption that is put in its place once it is encoded.
    pub fn unconditional(base: &DiffusionBase, config: &DiffusionConfig) -> Self {
        Self {
            schedule: base.schedule.clone(),
            noise: config.noise(),
            min_snr: config.min_snr,
            scaling: [base.vae_config.scaling_factor, base.vae_config.shift_factor]
                .map(|factor| factor as f32),
            empty: CaptionInput::States(Arc::default()),
        }
    }
}

impl DenoisingBatch {
    /// - examples: how many there are, class images not counted
    pub fn new(
        images: Vec<LatentImage>,
        examples: usize,
        settings: &Arc<DenoisingSettings>,
    ) -> Self {
        let mut groups: Vec<DenoisingGroup> = Vec::new();
        for image in images {
            let shape = &image.moments["mean"].shape;
            let shape = [shape[0], shape[1], shape[2]];
            let group = match groups.iter_mut().find(|group| group.shape == shape) {
                Some(group) => group,
                None => {
                    groups.push(DenoisingGroup {
                        shape,
                        images: Vec::new(),
                        time_ids: Vec::new(),
                    });
                    groups.last_mut().expect("just added")
                }
            };
            group.time_ids.push(image.time_ids);
            group.images.push(image);
        }
        Self {
            groups,
            examples,
            settings: Arc::clone(settings),
        }
    }
}

impl Minibatch for DenoisingBatch {
    fn weight(&self) -> f64 {
        self.examples as f64
    }

    fn examples(&self) -> usize {
        self.examples
    }

    fn tokens(&self) -> usize {
        let pixels = self.groups.iter().map(|group| {
            let [_, height, width] = group.shape;
            group.images.len() * height * width
        });
        pixels.sum()
    }
}

impl DenoisingGroup {
    /// The images with the noise of a step, drawn by seed, step and image alone, so that a resumed training is
    /// the uninterrupted one.
    pub fn noised(&self, batch: &DenoisingBatch, pass: &Pass) -> Noised {
        let settings = &*batch.settings;
        let step = pass.step as u64;
        let times = settings.schedule.times();
        let draw = |image: &LatentImage| {
            let config = &settings.noise;
            config.draw(pass.seed, step, image.number, times, self.shape)
        };
        let draws: Vec<_> = self.images.iter().map(draw).collect();
        let latents = self.images.iter().flat_map(|image| {
            let names = ["latents", &step.to_string(), &image.number.to_string()];
            let spread = StandardNormal.sample_iter(random_stream(pass.seed, &names));
            image.drawn(spread, settings.scaling)
        });
        let latents = self.tensor(latents.collect(), pass.device);
        let noise = draws.iter().flat_map(|draw| draw.noise.iter().copied());
        let noise = self.tensor(noise.collect(), pass.device);
        let times: Vec<usize> = draws.iter().map(|draw| draw.time).collect();
        let schedule = &settings.schedule;
        let captions = self.images.iter().zip(&draws);
        let captions = captions.map(|(image, draw)| match draw.drops_caption {
            true => &settings.empty,
            false => &image.caption,
        });
        let by_snr = match settings.min_snr {
            Some(limit) => schedule.min_snr_weights(&times, limit),
            None => vec![1.0; times.len()],
        };
        let factor = pass.weight / batch.examples as f64;
        let weights = self.images.iter().zip(by_snr);
        let weights: Vec<f32> = weights
            .map(|(image, by_snr)| (f64::from(image.weight) * f64::from(by_snr) * factor) as f32)
            .collect();
        let count = weights.len();
        Noised {
            sample: schedule.noisy(latents.clone(), noise.clone(), &times),
            target: schedule.target(latents, noise, &times),
            texts: Texts::of(captions),
            weights: Tensor::from_data(TensorData::new(weights, [count]), pass.device),
            times,
        }
    }

    /// Values of all images, one after the other.
    pub fn tensor(&self, values: Vec<f32>, device: &Device) -> Tensor<4> {
        let [channels, height, width] = self.shape;
        let shape = [self.images.len(), channels, height, width];
        Tensor::from_data(TensorData::new(values, shape), device)
    }
}

impl LatentImage {
    /// Latents as a UNet sees them, drawn from what the VAE gives: (mean + σ · ε − shift) · scaling.
    pub fn drawn(&self, spread: impl Iterator<Item = f32>, [scaling, shift]: [f32; 2]) -> Vec<f32> {
        let [mean, logvar] = ["mean", "logvar"].map(|name| &self.moments[name].values);
        let moments = mean.iter().zip(logvar).zip(spread);
        moments
            .map(|((mean, logvar), spread)| {
                (mean + (0.5 * logvar).exp() * spread - shift) * scaling
            })
            .collect()
    }
}

impl Texts {
    /// - captions: all of them states, or all of them tokens
    pub fn of<'a>(captions: impl Iterator<Item = &'a CaptionInput>) -> Self {
        let (mut states, mut ids) = (Vec::new(), Vec::new());
        for caption in captions {
            match caption {
                CaptionInput::States(found) => states.push(Arc::clone(found)),
                CaptionInput::Ids(found) => ids.push(Arc::clone(found)),
            }
        }
        match ids.is_empty() {
            true => Self::States(TextStates(states)),
            false => Self::Ids(TextIds(ids)),
        }
    }
}

impl TextStates {
    pub fn tensors(&self, device: &Device) -> TextConditions {
        let texts = self.0.len();
        let joined = |name: &str| -> Option<Vec<f32>> {
            let values = self.0.iter().map(|text| Some(&text.get(name)?.values));
            let values: Option<Vec<&Vec<f32>>> = values.collect();
            Some(values?.into_iter().flatten().copied().collect())
        };
        let states = joined("states").unwrap_or_default();
        let shape = &self.0[0]["states"].shape;
        let shape = [texts, shape[0], shape[1]];
        TextConditions {
            states: Tensor::from_data(TensorData::new(states, shape), device),
            pooled: joined("pooled").map(|pooled| {
                let shape = [texts, pooled.len() / texts];
                Tensor::from_data(TensorData::new(pooled, shape), device)
            }),
        }
    }
}

impl TextIds {
    /// Those of all captions for an encoder, if there is such an encoder.
    pub fn of_encoder(&self, encoder: usize) -> Option<Vec<i64>> {
        let ids = self.0.iter().map(|text| text.ids.get(encoder));
        let ids: Option<Vec<&Vec<i64>>> = ids.collect();
        Some(ids?.into_iter().flatten().copied().collect())
    }

    /// Texts and tokens of each.
    pub fn shape(&self) -> [usize; 2] {
        [self.0.len(), self.0[0].ids[0].len()]
    }
}
