//! Stable Diffusion 1.x, 2.x and SDXL on Burn, with adapters on top.
//!
//! A [`Pipeline`] is a directory in diffusers' form, or one file of the original layout. Its parts are a [`Unet`], a [`Vae`] and one or two
//! text encoders ([`TextEncoders`]); each is described from its `config.json` before a weight is read,
//! so that a [`PipelineAdapter`] of any dialect can be matched with it. [`AdaptedPipeline`] is a model with
//! adapters on top. Everything of the base is
//! frozen; what is trained are the updates of [`eigenmix_moslora`] on linear layers and convolutions.
//!
//! The pixels of an image are rows of channels everywhere, so that attention and projections are the
//! products that language models use, and a convolution is a product with windows of rows.

mod adapted_pipeline;
mod block_options;
mod combination;
mod config_reader;
mod ddim;
mod dpm_solver;
mod error;
mod euler;
mod generator;
mod image_record;
mod layers;
mod loss;
mod part_adapter;
mod part_forward;
mod pipeline;
mod pipeline_summary;
mod pixels;
mod prompts;
mod recomputation;
mod residual_block;
mod sampler;
mod sampling;
mod schedule;
mod single_file;
mod text;
mod text_to_image;
mod time_embedding;
mod training_draw;
mod transformer;
mod unet;
mod unet_config;
mod vae;
mod vae_config;

pub use adapted_pipeline::AdaptedPipeline;
pub use error::DiffusionError;
pub use generator::{Generator, ImageRequest};
pub use image_record::ImageRecord;
pub use part_adapter::PipelineAdapter;
pub use part_forward::{ForwardPart, part_forward};
pub use pipeline::{Kind, Part, Pipeline, TokenizerPlace};
pub use pipeline_summary::{PartSummary, PipelineSummary, SchedulerSummary};
pub use prompts::{Prompt, PromptIds, PromptTokenizers};
pub use sampler::{Sampler, SamplerKind};
pub use sampling::{Conditions, Guidance, gaussian_noise, sample};
pub use schedule::{NoiseSchedule, Prediction};
pub use text::{TextConditions, TextEncoderFiles, TextEncoders, TextSizes};
pub use text_to_image::{ImageSettings, PromptConditions, image_of_prompt, latents_of_prompt};
pub use training_draw::{NoiseConfig, StepDraw};
pub use unet::{AddedInput, LoadedUnet, Unet, UnetInput};
pub use unet_config::{AddedConditions, UnetConfig};
pub use vae::{Moments, Vae};
pub use vae_config::VaeConfig;
