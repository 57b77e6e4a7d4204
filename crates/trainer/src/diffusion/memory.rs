//! What the training of a diffusion model takes in memory, by its configuration.

use std::collections::BTreeMap;

use eigenmix_models::{HeadKind, LinearLayer};

use super::base::DiffusionBase;
use crate::TrainerError;
use crate::config::TrainConfig;
use crate::memory::{MemoryEstimate, PARAMETER_BYTES};

impl MemoryEstimate {
    /// Estimates the training of the diffusion model that `config` names, without reading weights or images.
    ///
    /// # Errors
    /// If the model is not there or not described as it should be, or the targets match no layer.
    pub fn of_diffusion(config: &TrainConfig) -> Result<Self, TrainerError> {
        let diffusion = config.diffusion();
        let trains_texts = diffusion.train_text_encoders;
        let base = DiffusionBase::open_config(&config.base.model, trains_texts)?;
        // Without a head, as every model of images.
        let head = HeadKind::ImageFeatures;
        let (mut estimate, _) = Self::of_layers(config, &base, &base.description, head)?;
        let texts = base
            .texts
            .iter()
            .map(|text| text.describe().parameters as u64);
        let texts: u64 = texts.sum();
        // Text encoders and the VAE are let go before the UNet is read, unless they are trained.
        let held = estimate.frozen_parameters + if trains_texts { texts } else { 0 };
        estimate.weights = PARAMETER_BYTES * held;
        let reduction = base.vae_config.reduction();
        let sizes = config
            .data
            .preparation(base.usual_resolution(), base.multiple());
        let sizes = sizes.map_err(eigenmix_data::DataError::from)?.sizes();
        let latents = |[height, width]: &[usize; 2]| (height / reduction) * (width / reduction);
        let pixels = sizes.iter().map(latents).max().unwrap_or(0);
        let parts = config.training.micro_batches.map_or(1, |parts| parts.get());
        let batch = config.training.batch_size.map_or(1, |size| size.get());
        let with_class = if config.data.class_prompt.is_some() {
            2
        } else {
            1
        };
        let images = (batch.div_ceil(parts) * with_class) as u64;
        estimate.rows = images * pixels as u64;
        let kept = base.kept_values(pixels as u64);
        let largest = kept.values().copied().max().unwrap_or(0);
        let kept = match config.training.gradient_checkpointing {
            // The inputs of all blocks, and everything of one.
            true => base.inputs_of_blocks(pixels as u64) + largest,
            false => kept.values().sum(),
        };
        estimate.activations = PARAMETER_BYTES * images * kept;
        Ok(estimate)
    }
}

impl DiffusionBase {
    /// How many numbers each block keeps of an image for the backward pass.
    ///
    /// - pixels: of the latents
    fn kept_values(&self, pixels: u64) -> BTreeMap<String, u64> {
        let mut blocks = BTreeMap::new();
        for layer in &self.unet_config.describe().layers {
            let (block, pixels) = (self.block_of(layer), self.pixels_at(layer, pixels));
            *blocks.entry(block).or_default() += pixels * self.kept_before(layer);
        }
        blocks
    }

    /// The input of every block.
    fn inputs_of_blocks(&self, pixels: u64) -> u64 {
        let layers = self.unet_config.describe().layers;
        let firsts = layers.iter().filter(|layer| layer.path.ends_with(".conv1"));
        firsts
            .map(|layer| self.pixels_at(layer, pixels) * self.channels(layer))
            .sum()
    }

    /// How many numbers of a pixel are kept around a layer: what norms, gates and attention go back by.
    fn kept_before(&self, layer: &LinearLayer) -> u64 {
        let channels = self.channels(layer);
        let ends = |name: &str| layer.path.ends_with(name);
        if ends(".conv1") || ends(".conv2") {
            2 * channels
        } else if ends(".attn1.to_q") {
            // The norm's input and output, queries, keys, values, and what attention gives.
            6 * channels
        } else if ends(".attn2.to_q") {
            4 * channels
        } else if ends(".ff.net.0.proj") {
            channels + layer.d_out as u64
        } else if ends(".proj_in") || ends(".proj_out") {
            channels
        } else {
            0
        }
    }

    fn channels(&self, layer: &LinearLayer) -> u64 {
        let kernels = self.unet_config.kernels();
        let kernel = kernels
            .get(&layer.path)
            .map_or(1, |[height, width]| height * width);
        (layer.d_in / kernel) as u64
    }

    /// How many pixels there are at the level of a layer.
    fn pixels_at(&self, layer: &LinearLayer, pixels: u64) -> u64 {
        let lowest = self.unet_config.halvings().ilog2();
        let mut parts = layer.path.split('.');
        let place = (
            parts.next(),
            parts.next().and_then(|index| index.parse::<u32>().ok()),
        );
        let halvings = match place {
            (Some("down_blocks"), Some(block)) => block.min(lowest),
            (Some("up_blocks"), Some(block)) => lowest.saturating_sub(block),
            (Some("mid_block"), _) => lowest,
            _ => 0,
        };
        pixels >> (2 * halvings)
    }

    fn block_of(&self, layer: &LinearLayer) -> String {
        let parts: Vec<&str> = layer.path.split('.').take(4).collect();
        match parts.as_slice() {
            [way, block, _, index] => format!("{way}.{block}.{index}"),
            _ => parts.first().copied().unwrap_or_default().to_owned(),
        }
    }
}
