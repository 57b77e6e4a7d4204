//! Training a diffusion model: its images and captions go through the frozen parts once, and the UNet learns
//! to see the noise in them.

mod class_images;
mod config;
mod denoiser;
#[cfg(test)]
mod denoiser_tests;
mod denoising_batch;
mod diffusion_base;
mod encoded_data;
mod encoding;
mod examples;
mod memory;
mod rebuilding;
mod result;
mod samples;
mod store;
mod task_data;
mod training;

pub use config::{DiffusionConfig, SamplesConfig};
pub use rebuilding::{has_only_coefficients, rebuild_adapter};
pub use training::DiffusionTraining;
