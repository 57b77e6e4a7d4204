//! Training a diffusion model: its images and captions go through the frozen parts once, and the UNet learns
//! to see the noise in them.

mod base;
mod class_images;
mod config;
mod denoiser;
#[cfg(test)]
mod denoiser_tests;
mod denoising_batch;
mod encoded_data;
mod encoding;
mod examples;
mod memory;
mod result;
mod samples;
mod store;
mod task_data;
mod training;

pub(crate) use base::DiffusionBase;
pub use config::{DiffusionConfig, SamplesConfig};
pub use training::DiffusionTraining;
