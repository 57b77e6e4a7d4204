//! The autoencoder of Stable Diffusion: images to latents and back.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use eigenmix_kernels::{AttentionShape, self_attention};
use eigenmix_models::{Adaptation, Checkpoint, ModelError};
use eigenmix_moslora::{AdaptedConvolution, AdaptedLinear};

use crate::layers::{GroupNorm, Parts, enlarged, halved, same_size};
use crate::pixels::Pixels;
use crate::residual_block::{ResidualBlock, ResidualShape};
use crate::transformer::offsets;
use crate::vae_config::VaeConfig;

/// What its attention's layers are called: today, and in the files of Stable Diffusion 1.5.
const ATTENTION: [[&str; 4]; 2] = [
    ["to_q", "to_k", "to_v", "to_out.0"],
    ["query", "key", "value", "proj_attn"],
];

/// The normal distribution of an image's latents.
#[derive(Clone, Debug)]
pub struct Moments {
    /// `[images, latent_channels, height, width]`
    pub mean: Tensor<4>,
    /// The logarithm of the variance, between −30 and 20.
    pub logvar: Tensor<4>,
}

/// An AutoencoderKL, frozen.
#[derive(Module, Debug)]
pub struct Vae {
    encoder: Encoder,
    decoder: Decoder,
    quant: Option<AdaptedConvolution>,
    post_quant: Option<AdaptedConvolution>,
    #[module(skip)]
    config: VaeConfig,
}

#[derive(Module, Debug)]
struct Encoder {
    conv_in: AdaptedConvolution,
    blocks: Vec<Block>,
    middle: Middle,
    norm_out: GroupNorm,
    conv_out: AdaptedConvolution,
}

#[derive(Module, Debug)]
struct Decoder {
    conv_in: AdaptedConvolution,
    middle: Middle,
    blocks: Vec<Block>,
    norm_out: GroupNorm,
    conv_out: AdaptedConvolution,
}

#[derive(Module, Debug)]
struct Block {
    residual: Vec<ResidualBlock>,
    sampler: Option<AdaptedConvolution>,
}

#[derive(Module, Debug)]
struct Middle {
    first: ResidualBlock,
    attention: Option<PixelAttention>,
    second: ResidualBlock,
}

/// x + attention(norm(x)) over the pixels, with one head.
#[derive(Module, Debug)]
struct PixelAttention {
    norm: GroupNorm,
    query: AdaptedLinear,
    key: AdaptedLinear,
    value: AdaptedLinear,
    output: AdaptedLinear,
}

impl Vae {
    /// # Errors
    /// If a tensor is missing or has another shape than the configuration implies.
    pub fn load(
        checkpoint: &Checkpoint,
        config: &VaeConfig,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let names = attention_names(checkpoint);
        let layers = config.layers(names);
        let adaptation = Adaptation::default();
        let mut parts = Parts::new(&layers, checkpoint, &adaptation, device);
        let parts = &mut parts;
        let groups = config.groups;
        let levels = config.channels.len();
        let n_layers = config.layers_per_block;
        let blocks = |parts: &mut Parts, way: &str, layers: usize, sampler: &str| {
            (0..levels)
                .map(|level| {
                    let path = format!("{way}.{level}");
                    Block::build(parts, &path, layers, sampler, groups)
                })
                .collect::<Result<Vec<_>, _>>()
        };
        let norm_out = |parts: &mut Parts, side: &str| {
            let (norm, layer) = (format!("{side}.conv_norm_out"), format!("{side}.conv_out"));
            parts.group_norm(&norm, &layer, groups, 1e-6)
        };
        let names = config.mid_attention.then_some(names);
        Ok(Self {
            encoder: Encoder {
                conv_in: parts.convolution("encoder.conv_in")?,
                blocks: blocks(parts, "encoder.down_blocks", n_layers, "downsamplers")?,
                middle: Middle::build(parts, "encoder.mid_block", names, groups)?,
                norm_out: norm_out(parts, "encoder")?,
                conv_out: parts.convolution("encoder.conv_out")?,
            },
            decoder: Decoder {
                conv_in: parts.convolution("decoder.conv_in")?,
                middle: Middle::build(parts, "decoder.mid_block", names, groups)?,
                blocks: blocks(parts, "decoder.up_blocks", n_layers + 1, "upsamplers")?,
                norm_out: norm_out(parts, "decoder")?,
                conv_out: parts.convolution("decoder.conv_out")?,
            },
            quant: parts.optional_convolution("quant_conv")?,
            post_quant: parts.optional_convolution("post_quant_conv")?,
            config: config.clone(),
        })
    }

    /// What the configuration says.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// - images: `[images, in_channels, height, width]`, −1 to 1, one after the other so that memory is
    ///   that of one
    pub fn encode(&self, images: Tensor<4>) -> Moments {
        let [count, ..] = images.dims();
        let moments = (0..count).map(|image| self.encode_one(images.clone().narrow(0, image, 1)));
        let moments = Tensor::cat(moments.collect(), 0);
        let channels = self.config.latent_channels;
        Moments {
            mean: moments.clone().narrow(1, 0, channels),
            logvar: moments.narrow(1, channels, channels).clamp(-30.0, 20.0),
        }
    }

    /// Mean and logarithm of the variance of one image: `[1, 2 · latent_channels, height, width]`.
    fn encode_one(&self, image: Tensor<4>) -> Tensor<4> {
        let encoder = &self.encoder;
        let image = Pixels::of(image);
        let rows = image.rows.clone();
        let mut hidden = same_size(&encoder.conv_in, &image, rows, None);
        for block in &encoder.blocks {
            hidden = block.forward(hidden);
            if let Some(sampler) = &block.sampler {
                hidden = halved(sampler, hidden, [0, 1]);
            }
        }
        hidden = encoder.middle.forward(hidden);
        let normalised = encoder.norm_out.activated(&hidden, None);
        let moments = same_size(&encoder.conv_out, &hidden, normalised, None);
        let moments = match &self.quant {
            Some(layer) => moments.with(layer.of_pixels(moments.rows.clone(), None)),
            None => moments,
        };
        moments.into_images()
    }

    /// - latents: `[images, latent_channels, height, width]`, as the encoder gives them, not scaled
    /// - output: `[images, out_channels, height, width]`, about −1 to 1; one after the other so that
    ///   memory is that of one
    pub fn decode(&self, latents: Tensor<4>) -> Tensor<4> {
        let [count, ..] = latents.dims();
        let images = (0..count).map(|image| self.decode_one(latents.clone().narrow(0, image, 1)));
        Tensor::cat(images.collect(), 0)
    }

    fn decode_one(&self, latents: Tensor<4>) -> Tensor<4> {
        let decoder = &self.decoder;
        let latents = Pixels::of(latents);
        let latents = match &self.post_quant {
            Some(layer) => latents.with(layer.of_pixels(latents.rows.clone(), None)),
            None => latents,
        };
        let rows = latents.rows.clone();
        let mut hidden = same_size(&decoder.conv_in, &latents, rows, None);
        hidden = decoder.middle.forward(hidden);
        for block in &decoder.blocks {
            hidden = block.forward(hidden);
            if let Some(sampler) = &block.sampler {
                let [height, width] = hidden.size;
                hidden = enlarged(sampler, hidden, [2 * height, 2 * width]);
            }
        }
        let normalised = decoder.norm_out.activated(&hidden, None);
        same_size(&decoder.conv_out, &hidden, normalised, None).into_images()
    }
}

/// What a checkpoint calls the layers of the attention.
fn attention_names(checkpoint: &Checkpoint) -> [&'static str; 4] {
    let is_old = checkpoint
        .shape("encoder.mid_block.attentions.0.query.weight")
        .is_some();
    ATTENTION[usize::from(is_old)]
}

impl VaeConfig {
    /// The tensors of a checkpoint that nothing reads.
    pub(crate) fn unread(&self, checkpoint: &Checkpoint) -> Vec<String> {
        self.layers(attention_names(checkpoint))
            .unread(checkpoint.names())
    }
}

/// The shape of a VAE's residual blocks.
fn residual_shape(groups: usize) -> ResidualShape {
    ResidualShape {
        groups,
        epsilon: 1e-6,
        scale: 1.0,
        takes_time: false,
    }
}

impl Block {
    fn build(
        parts: &mut Parts,
        path: &str,
        n_layers: usize,
        sampler: &str,
        groups: usize,
    ) -> Result<Self, ModelError> {
        let shape = residual_shape(groups);
        let residual = (0..n_layers)
            .map(|index| ResidualBlock::build(parts, &format!("{path}.resnets.{index}"), shape))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            residual,
            sampler: parts.optional_convolution(&format!("{path}.{sampler}.0.conv"))?,
        })
    }

    fn forward(&self, hidden: Pixels) -> Pixels {
        let blocks = self.residual.iter();
        blocks.fold(hidden, |hidden, block| block.forward(hidden, None))
    }
}

impl Middle {
    /// - attention: the names of its layers, if it has attention
    fn build(
        parts: &mut Parts,
        path: &str,
        attention: Option<[&str; 4]>,
        groups: usize,
    ) -> Result<Self, ModelError> {
        let shape = residual_shape(groups);
        let mut residual =
            |index: usize| ResidualBlock::build(parts, &format!("{path}.resnets.{index}"), shape);
        let (first, second) = (residual(0)?, residual(1)?);
        let attention = match attention {
            Some(names) => {
                let path = format!("{path}.attentions.0");
                Some(PixelAttention::build(parts, &path, names, groups)?)
            }
            None => None,
        };
        Ok(Self {
            first,
            attention,
            second,
        })
    }

    fn forward(&self, hidden: Pixels) -> Pixels {
        let hidden = self.first.forward(hidden, None);
        let hidden = match &self.attention {
            Some(attention) => attention.forward(hidden),
            None => hidden,
        };
        self.second.forward(hidden, None)
    }
}

impl PixelAttention {
    fn build(
        parts: &mut Parts,
        path: &str,
        names: [&str; 4],
        groups: usize,
    ) -> Result<Self, ModelError> {
        let [query, key, value, output] = names.map(|name| format!("{path}.{name}"));
        Ok(Self {
            norm: parts.group_norm(&format!("{path}.group_norm"), &query, groups, 1e-6)?,
            query: parts.linear(&query)?,
            key: parts.linear(&key)?,
            value: parts.linear(&value)?,
            output: parts.linear(&output)?,
        })
    }

    fn forward(&self, input: Pixels) -> Pixels {
        let normalised = self.norm.forward(&input);
        let [_, width] = normalised.dims();
        let layers = [&self.query, &self.key, &self.value];
        let projections = AdaptedLinear::forward_together(&layers, normalised, None);
        let offsets = offsets(input.images, input.count());
        let shape = AttentionShape::bidirectional(offsets, 1, width);
        let attended = self_attention(projections, &shape);
        let residual = Some(input.rows.clone());
        input.with(AdaptedLinear::forward_together(
            &[&self.output],
            attended,
            residual,
        ))
    }
}
