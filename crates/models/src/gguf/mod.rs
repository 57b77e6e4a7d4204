//! Language models in GGUF files: their configuration, and where their tensors are, in the terms of
//! Hugging Face checkpoints.

mod config;
mod config_keys;
mod family;
mod names;
mod rotary;
mod row_order;
#[cfg(test)]
mod tests;

pub use config::GgufConfig;
pub use family::GgufFamily;
pub use names::{GgufNames, GgufSource};
pub use row_order::gguf_row_order;
