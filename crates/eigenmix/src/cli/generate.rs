//! The command that makes images.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use eigenmix_diffusion::SamplerKind;
use eigenmix_models::Precision;

use super::model::precision_parser;

/// Make images of prompts with a diffusion model and adapters.
///
/// Writes a PNG for each prompt and seed, with how it was made inside, and images.json. The same seed
/// starts from the same noise whatever the adapters, so that images can be compared.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix generate --base stable-diffusion-v1-5 --prompt \"a red fox in the snow\" --out images
  eigenmix generate --base stable-diffusion-v1-5 --adapter style.safetensors:0.7 \\
      --adapter runs/fox --prompt \"a photo of a sks fox\" --images 4 --out images
  eigenmix generate --base stable-diffusion-v1-5 --arms runs/foxes --prompt \"a fox\" --out arms
  eigenmix generate --base sdxl --prompt \"a harbour\" --sampler dpm-solver --steps 20 --out images")]
pub(crate) struct GenerateArguments {
    /// The base model: a directory in diffusers' form, or a Hub id.
    #[arg(long, value_name = "MODEL")]
    pub(crate) base: String,

    /// How to store frozen weights in memory.
    #[arg(long, value_name = "TYPE", default_value = "auto", value_parser = precision_parser())]
    pub(crate) weights: Precision,

    /// An adapter; may be repeated. A number behind a colon is its weight, as in `style:0.7` [default:
    /// 1].
    #[arg(long = "adapter", value_name = "ADAPTER[:W]")]
    pub(crate) adapters: Vec<String>,

    /// The directory of an experiment: the same images with the base model and with the adapter of every arm, side
    /// by side.
    #[arg(long, value_name = "EXPERIMENT")]
    pub(crate) arms: Option<PathBuf>,

    /// What the image shows; may be repeated.
    #[arg(long = "prompt", value_name = "TEXT", required = true)]
    pub(crate) prompts: Vec<String>,

    /// What it should not show.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) negative_prompt: String,

    /// Where to write the images: a new directory.
    #[arg(long, short, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// How many images of each prompt, with consecutive seeds.
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) images: NonZeroUsize,

    /// Sampling steps.
    #[arg(long, value_name = "N", default_value = "30")]
    pub(crate) steps: NonZeroUsize,

    /// How strongly the prompt guides; 1 does without the negative prompt, at half the cost [default: 7.5,
    /// for SDXL 5].
    #[arg(long, value_name = "G", allow_negative_numbers = true)]
    pub(crate) guidance: Option<f64>,

    /// The sampler [default: the model's, or euler].
    #[arg(long, value_name = "NAME", value_parser = sampler_parser())]
    pub(crate) sampler: Option<SamplerKind>,

    /// The seed of the first image of each prompt.
    #[arg(long, value_name = "S", default_value = "0")]
    pub(crate) seed: u64,

    /// Width in pixels [default: what the model was trained for].
    #[arg(long, value_name = "PIXELS")]
    pub(crate) width: Option<usize>,

    /// Height in pixels [default: what the model was trained for].
    #[arg(long, value_name = "PIXELS")]
    pub(crate) height: Option<usize>,

    /// A CLIP with both towers, to measure how similar each image is to its prompt.
    #[arg(long, value_name = "MODEL")]
    pub(crate) clip: Option<String>,

    /// With --clip: an image, or a directory of images, to measure how similar each image is to them.
    #[arg(long, value_name = "DIR", requires = "clip")]
    pub(crate) references: Option<PathBuf>,

    /// Continue even if an adapter has tensors that do not fit the base model.
    #[arg(long)]
    pub(crate) allow_partial: bool,

    /// Overwrite DIR if it exists and eigenmix wrote it.
    #[arg(long, short)]
    pub(crate) force: bool,
}

fn sampler_parser() -> impl TypedValueParser<Value = SamplerKind> {
    let names = SamplerKind::NAMES.map(|(name, _)| name);
    PossibleValuesParser::new(names)
        .try_map(|name| SamplerKind::from_name(&name).ok_or("one of the names has no sampler"))
}
