//! The UNet of Stable Diffusion: noisy latents, a time and a text in, the noise (or velocity) out.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use eigenmix_kernels::Activation;
use eigenmix_models::{Adaptation, Checkpoint, Description, ModelError};
use eigenmix_moslora::{AdaptedConvolution, ParameterNames};

use crate::layers::{GroupNorm, Parts, enlarged, halved, same_size};
use crate::pixels::Pixels;
use crate::residual_block::{ResidualBlock, ResidualShape};
use crate::time_embedding::TimeEmbedding;
use crate::transformer::{PixelTransformer, Texts};
use crate::unet_config::{BlockSizes, UnetConfig};
use crate::{DiffusionError, VaeConfig};

impl UnetConfig {
    /// Its linear layers and convolutions, for matching adapters.
    pub fn describe(&self) -> Description {
        self.layers().description()
    }

    /// How many parameters it has: those of its layers, and two for every channel that a norm is in front of a
    /// layer for.
    pub fn parameters(&self) -> usize {
        const NORMED: [&str; 7] = [
            ".conv1",
            ".conv2",
            ".proj_in",
            ".attn1.to_q",
            ".attn2.to_q",
            ".ff.net.0.proj",
            "conv_out",
        ];
        let (description, kernels) = (self.describe(), self.kernels());
        let normed = description.layers.iter();
        let normed = normed.filter(|layer| NORMED.iter().any(|name| layer.path.ends_with(name)));
        let channels = normed.map(|layer| {
            let kernel = kernels
                .get(&layer.path)
                .map_or(1, |[height, width]| height * width);
            layer.d_in / kernel
        });
        description.parameters + 2 * channels.sum::<usize>()
    }

    /// Height and width of the kernels of those that are convolutions, by path.
    pub fn kernels(&self) -> BTreeMap<String, [usize; 2]> {
        self.layers().kernels()
    }

    /// Checks that it goes from the latents of a VAE to as many, as models of prompts do.
    ///
    /// # Errors
    /// If it takes something else along, such as one for inpainting.
    pub fn check_latents(&self, vae: &VaeConfig) -> Result<(), DiffusionError> {
        let (takes, has) = (self.in_channels, vae.latent_channels);
        if takes == has && self.out_channels == has {
            return Ok(());
        }
        Err(DiffusionError::Input(format!(
            "the UNet takes {takes} channels and the VAE's latents have {has}: a model for inpainting or another task, which images of prompts cannot be made with"
        )))
    }

    /// Height and width in pixels that it was trained for, with latents of this VAE.
    pub fn usual_size(&self, vae: &VaeConfig) -> [usize; 2] {
        let latents = self.sample_size.unwrap_or([64; 2]);
        latents.map(|side| side * vae.reduction())
    }

    /// By what both sides of an image's latents must be divisible so that every level halves them whole.
    pub fn halvings(&self) -> usize {
        1 << self.down.iter().filter(|block| block.resampled).count()
    }

    /// The tensors of a checkpoint that nothing reads.
    pub(crate) fn unread(&self, checkpoint: &Checkpoint) -> Vec<String> {
        self.layers().unread(checkpoint.names())
    }
}

/// What a UNet is given.
#[derive(Clone, Debug)]
pub struct UnetInput {
    /// Noisy latents: `[images, in_channels, height, width]`.
    pub sample: Tensor<4>,
    /// The time of each image, 0 to 999: `[images]`.
    pub timesteps: Vec<f32>,
    /// The hidden states of the texts: `[images, tokens, cross_attention_dim]`.
    pub states: Tensor<3>,
    /// SDXL's conditions.
    pub added: Option<AddedInput>,
}

/// SDXL's conditions of each image.
#[derive(Clone, Debug)]
pub struct AddedInput {
    /// The pooled text: `[images, text width]`.
    pub text_embeds: Tensor<2>,
    /// Original size, crop and target size: `[images · 6]`.
    pub time_ids: Vec<f32>,
}

/// A UNet2DConditionModel with an adaptation on top; only updates are trained.
#[derive(Module, Debug)]
pub struct Unet {
    time: TimeEmbedding,
    added: Option<TimeEmbedding>,
    conv_in: AdaptedConvolution,
    down: Vec<Block>,
    mid: Option<Middle>,
    up: Vec<Block>,
    norm_out: GroupNorm,
    conv_out: AdaptedConvolution,
    #[module(skip)]
    config: UnetConfig,
}

/// Residual blocks, each followed by attention where the block has it, and a change of size.
#[derive(Module, Debug)]
struct Block {
    residual: Vec<ResidualBlock>,
    attention: Vec<PixelTransformer>,
    sampler: Option<AdaptedConvolution>,
}

#[derive(Module, Debug)]
struct Middle {
    first: ResidualBlock,
    attention: Option<PixelTransformer>,
    second: Option<ResidualBlock>,
}

/// A part of the way that an input takes, as large as gradient checkpointing makes again at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The first convolution.
    In,
    /// A residual block and its attention.
    Down {
        block: usize,
        layer: usize,
    },
    Halve {
        block: usize,
    },
    Middle,
    Up {
        block: usize,
        layer: usize,
    },
    Enlarge {
        block: usize,
    },
    Out,
}

impl Place {
    /// Whether its output is taken along on the way up.
    pub fn leaves_skip(self) -> bool {
        matches!(self, Self::In | Self::Down { .. } | Self::Halve { .. })
    }

    /// Whether it takes along what the way down left last.
    pub fn takes_skip(self) -> bool {
        matches!(self, Self::Up { .. })
    }
}

/// What every place is given besides the image.
#[derive(Clone, Debug)]
pub(crate) struct PlaceConditions {
    /// silu of the embedding of the time: `[images, time width]`.
    pub time: Tensor<2>,
    pub texts: Texts,
}

/// Whether a module has a parameter that needs a gradient.
fn has_trained<M: Module>(module: &M) -> bool {
    struct Trained(bool);
    impl ModuleVisitor for Trained {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 |= param.val().is_require_grad();
        }
    }
    let mut trained = Trained(false);
    module.visit(&mut trained);
    trained.0
}

/// A loaded UNet and what is to be known of it.
pub struct LoadedUnet {
    pub unet: Unet,
    /// What is trained in it.
    pub names: ParameterNames,
    /// Whole tensors of the adapter that it has no place for.
    pub unplaced: Vec<String>,
}

impl Unet {
    /// # Errors
    /// If a tensor is missing or has another shape than the configuration implies.
    pub fn load(
        checkpoint: &Checkpoint,
        config: &UnetConfig,
        adaptation: &Adaptation,
        device: &Device,
    ) -> Result<LoadedUnet, ModelError> {
        let layers = config.layers();
        let mut parts = Parts::new(&layers, checkpoint, adaptation, device);
        let groups = config.groups;
        let shape = ResidualShape {
            groups,
            epsilon: config.norm_epsilon,
            scale: 1.0,
            takes_time: true,
        };
        let mid_shape = ResidualShape {
            scale: config.mid_scale,
            ..shape
        };
        let time = TimeEmbedding::build(&mut parts, "time_embedding")?;
        let added = match config.added {
            Some(_) => Some(TimeEmbedding::build(&mut parts, "add_embedding")?),
            None => None,
        };
        let blocks = |parts: &mut Parts, way: &str, sizes: &[BlockSizes], sampler: &str| {
            let build = |(index, sizes): (usize, &BlockSizes)| {
                let path = format!("{way}.{index}");
                Block::build(parts, &path, sizes, shape, sampler)
            };
            sizes
                .iter()
                .enumerate()
                .map(build)
                .collect::<Result<Vec<_>, _>>()
        };
        let unet = Self {
            time,
            added,
            conv_in: parts.convolution("conv_in")?,
            down: blocks(&mut parts, "down_blocks", &config.down, "downsamplers")?,
            mid: match &config.mid {
                Some(sizes) => Some(Middle {
                    first: ResidualBlock::build(&mut parts, "mid_block.resnets.0", mid_shape)?,
                    attention: match &sizes.attention {
                        Some(sizes) => {
                            let path = "mid_block.attentions.0";
                            Some(PixelTransformer::build(&mut parts, path, sizes, groups)?)
                        }
                        None => None,
                    },
                    second: match sizes.residual_blocks() {
                        2 => {
                            let path = "mid_block.resnets.1";
                            Some(ResidualBlock::build(&mut parts, path, mid_shape)?)
                        }
                        _ => None,
                    },
                }),
                None => None,
            },
            up: blocks(&mut parts, "up_blocks", &config.up, "upsamplers")?,
            norm_out: parts.group_norm("conv_norm_out", "conv_out", groups, config.norm_epsilon)?,
            conv_out: parts.convolution("conv_out")?,
            config: config.clone(),
        };
        let (names, unplaced) = parts.finish();
        Ok(LoadedUnet {
            unet,
            names,
            unplaced,
        })
    }

    /// What the configuration says.
    pub fn config(&self) -> &UnetConfig {
        &self.config
    }

    /// The noise or velocity that it sees in the sample: `[images, out_channels, height, width]`.
    ///
    /// # Panics
    /// If the inputs do not fit each other or the configuration.
    pub fn forward(&self, input: &UnetInput) -> Tensor<4> {
        let conditions = self.conditions(input);
        let mut hidden = self.sample(input);
        let mut skipped = Vec::new();
        for place in self.places() {
            let skip = place.takes_skip().then(|| skipped.pop()).flatten();
            let size = skipped.last().map(|skip: &Pixels| skip.size);
            hidden = self.at(place, hidden, skip, size, &conditions);
            if place.leaves_skip() {
                skipped.push(hidden.clone());
            }
        }
        hidden.into_images()
    }

    /// The sample as its first convolution takes it.
    pub(crate) fn sample(&self, input: &UnetInput) -> Pixels {
        Pixels::of(match self.config.centred_input {
            true => input.sample.clone() * 2.0 - 1.0,
            false => input.sample.clone(),
        })
    }

    /// What all places are given besides.
    pub(crate) fn conditions(&self, input: &UnetInput) -> PlaceConditions {
        let [images, tokens, width] = input.states.dims();
        PlaceConditions {
            time: Activation::Silu.forward(self.time(input)),
            texts: Texts {
                rows: input.states.clone().reshape([images * tokens, width]),
                tokens,
            },
        }
    }

    /// The places that an input passes, in order.
    pub(crate) fn places(&self) -> Vec<Place> {
        let mut places = vec![Place::In];
        for (block, layers) in self.down.iter().enumerate() {
            places.extend((0..layers.residual.len()).map(|layer| Place::Down { block, layer }));
            places.extend(layers.sampler.as_ref().map(|_| Place::Halve { block }));
        }
        places.extend(self.mid.as_ref().map(|_| Place::Middle));
        for (block, layers) in self.up.iter().enumerate() {
            places.extend((0..layers.residual.len()).map(|layer| Place::Up { block, layer }));
            places.extend(layers.sampler.as_ref().map(|_| Place::Enlarge { block }));
        }
        places.push(Place::Out);
        places
    }

    /// The output of a place.
    ///
    /// - skip: what it takes along from the way down
    /// - size: of what the way down left at this level, to which a place that enlarges does; of an odd
    ///   size on the way down, as it was there
    pub(crate) fn at(
        &self,
        place: Place,
        hidden: Pixels,
        skip: Option<Pixels>,
        size: Option<[usize; 2]>,
        conditions: &PlaceConditions,
    ) -> Pixels {
        let PlaceConditions { time, texts } = conditions;
        let through = |block: &Block, layer: usize, hidden: Pixels| {
            let hidden = block.residual[layer].forward(hidden, Some(time));
            match block.attention.get(layer) {
                Some(attention) => attention.forward(hidden, texts),
                None => hidden,
            }
        };
        let sampler = |block: &Block| {
            block
                .sampler
                .clone()
                .expect("a block that changes the size")
        };
        match place {
            Place::In => {
                let rows = hidden.rows.clone();
                same_size(&self.conv_in, &hidden, rows, None)
            }
            Place::Down { block, layer } => through(&self.down[block], layer, hidden),
            Place::Halve { block } => halved(&sampler(&self.down[block]), hidden, [1; 2]),
            Place::Middle => match &self.mid {
                Some(middle) => middle.forward(hidden, time, texts),
                None => hidden,
            },
            Place::Up { block, layer } => {
                let skip = skip.expect("as many outputs on the way down");
                let both = Tensor::cat(vec![hidden.rows.clone(), skip.rows], 1);
                through(&self.up[block], layer, hidden.with(both))
            }
            Place::Enlarge { block } => {
                let size = size.unwrap_or(hidden.size);
                enlarged(&sampler(&self.up[block]), hidden, size)
            }
            Place::Out => {
                let normalised = self.norm_out.activated(&hidden, None);
                same_size(&self.conv_out, &hidden, normalised, None)
            }
        }
    }

    /// Whether something of a place is trained.
    pub(crate) fn is_trained(&self, place: Place) -> bool {
        let through = |block: &Block, layer: usize| {
            let attention = block.attention.get(layer);
            has_trained(&block.residual[layer]) || attention.is_some_and(has_trained)
        };
        match place {
            Place::In => has_trained(&self.conv_in),
            Place::Down { block, layer } => through(&self.down[block], layer),
            Place::Halve { block } => has_trained(&self.down[block].sampler),
            Place::Middle => has_trained(&self.mid),
            Place::Up { block, layer } => through(&self.up[block], layer),
            Place::Enlarge { block } => has_trained(&self.up[block].sampler),
            Place::Out => has_trained(&self.conv_out),
        }
    }

    /// The embedding of time and, for SDXL, of pooled text and sizes: `[images, time width]`.
    fn time(&self, input: &UnetInput) -> Tensor<2> {
        let device = input.sample.device();
        let images = input.timesteps.len();
        let time = self
            .time
            .forward(self.config.time.of(&input.timesteps, &device));
        let (Some(layers), Some(shape)) = (&self.added, &self.config.added) else {
            return time;
        };
        let added = input.added.as_ref().expect("SDXL's conditions");
        let numbers = shape.sinusoids.of(&added.time_ids, &device);
        let numbers = numbers.reshape([images, shape.numbers * shape.sinusoids.width]);
        time + layers.forward(Tensor::cat(vec![added.text_embeds.clone(), numbers], 1))
    }
}

impl Block {
    fn build(
        parts: &mut Parts,
        path: &str,
        sizes: &BlockSizes,
        shape: ResidualShape,
        sampler: &str,
    ) -> Result<Self, ModelError> {
        let residual = (0..sizes.residual.len())
            .map(|index| ResidualBlock::build(parts, &format!("{path}.resnets.{index}"), shape))
            .collect::<Result<_, _>>()?;
        let attention = sizes.attention.iter().flatten().enumerate();
        let attention = attention
            .map(|(index, sizes)| {
                let path = format!("{path}.attentions.{index}");
                PixelTransformer::build(parts, &path, sizes, shape.groups)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            residual,
            attention,
            sampler: parts.optional_convolution(&format!("{path}.{sampler}.0.conv"))?,
        })
    }
}

impl Middle {
    fn forward(&self, hidden: Pixels, time: &Tensor<2>, texts: &Texts) -> Pixels {
        let mut hidden = self.first.forward(hidden, Some(time));
        if let Some(attention) = &self.attention {
            hidden = attention.forward(hidden, texts);
        }
        match &self.second {
            Some(second) => second.forward(hidden, Some(time)),
            None => hidden,
        }
    }
}
