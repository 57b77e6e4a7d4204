//! Language models in GGUF files: their configuration, and where their tensors are, in the terms of
//! Hugging Face checkpoints.

mod adapters_base;
mod config;
mod config_keys;
mod family;
mod names;
mod rotary;
#[cfg(test)]
mod tests;

pub use adapters_base::gguf_base;
pub use config::GgufConfig;
pub use eigenmix_gguf::{GgufFamily, gguf_row_order};
pub use names::{GgufNames, GgufSource};
