//! What the training of a diffusion model takes in memory, by its configuration.

use std::collections::BTreeMap;

use eigenmix_diffusion::Part;
use eigenmix_models::{Checkpoint, Description, HeadKind, LinearLayer};

use super::diffusion_base::DiffusionBase;
use crate::TrainerError;
use crate::config::TrainConfig;
use crate::frozen_weights::Said;
use crate::memory::{MemoryEstimate, PARAMETER_BYTES};

impl MemoryEstimate {
    /// Estimates the training of the diffusion model that `config` names, without reading weights or images.
    ///
    /// # Errors
    /// If the model is not there or not described as it should be, or the targets match no layer.
    pub fn of_diffusion(config: &TrainConfig) -> Result<Self, TrainerError> {
        let diffusion = config.diffusion();
        let trains_texts = diffusion.train_text_encoders;
        let base = DiffusionBase::open_config(&config.base, trains_texts)?;
        // Without a head, as every model of images.
        let head = HeadKind::ImageFeatures;
        let (mut estimate, _) = Self::of_layers(config, &base, &base.description, head)?;
        // Text encoders and the VAE are let go before the UNet is read, unless they are trained.
        let unet = base.unet_config.describe();
        estimate.weights =
            base.said_bytes(&base.unet, &unet, base.unet_config.parameters(), config);
        for text in base.texts.iter().filter(|_| trains_texts) {
            let description = text.describe();
            let parameters = description.parameters;
            estimate.weights += base.said_bytes(&text.checkpoint, &description, parameters, config);
        }
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
    /// What the weights of a part take: of quantised ones, linear layers alone have fewer bits.
    fn said_bytes(
        &self,
        checkpoint: &Checkpoint,
        description: &Description,
        parameters: usize,
        config: &TrainConfig,
    ) -> u64 {
        let is_linear = |layer: &&LinearLayer| {
            let path = format!("{}.{}", Part::Unet.name(), layer.path);
            self.kernel(&path).is_none()
        };
        let layers = || description.layers.iter().filter(is_linear);
        let in_layers: usize = layers().map(LinearLayer::parameters).sum();
        let said = Said::of(checkpoint.config(), config.base.weights);
        said.bytes(layers(), parameters - in_layers)
    }

    /// Those of the UNet, with its name in front.
    fn unet_layers(&self) -> impl Iterator<Item = &LinearLayer> {
        let layers = self.description.layers.iter();
        layers.filter(|layer| matches!(Self::part_of(&layer.path), Some((Part::Unet, _))))
    }

    /// How many numbers each block keeps of an image for the backward pass.
    ///
    /// - pixels: of the latents
    fn kept_values(&self, pixels: u64) -> BTreeMap<String, u64> {
        let mut blocks = BTreeMap::new();
        for layer in self.unet_layers() {
            let (block, pixels) = (self.block_of(layer), self.pixels_at(layer, pixels));
            *blocks.entry(block).or_default() += pixels * self.kept_before(layer);
        }
        blocks
    }

    /// The input of every block.
    fn inputs_of_blocks(&self, pixels: u64) -> u64 {
        let firsts = self.unet_layers();
        let firsts = firsts.filter(|layer| layer.path.ends_with(".conv1"));
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
        let kernel = self.kernel(&layer.path);
        (layer.d_in / kernel.map_or(1, |[height, width]| height * width)) as u64
    }

    /// How many pixels there are at the level of a layer.
    fn pixels_at(&self, layer: &LinearLayer, pixels: u64) -> u64 {
        let lowest = self.unet_config.halvings().ilog2();
        // After the part's name.
        let mut parts = layer.path.split('.').skip(1);
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
        let parts: Vec<&str> = layer.path.split('.').skip(1).take(4).collect();
        match parts.as_slice() {
            [way, block, _, index] => format!("{way}.{block}.{index}"),
            _ => parts.first().copied().unwrap_or_default().to_owned(),
        }
    }
}
