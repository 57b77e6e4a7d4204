//! Base models on Burn and their weights from Hugging Face checkpoints.
//!
//! A model is described from its `config.json` alone ([`Architecture`], [`Description`]: every linear
//! layer with its path and shape), so that adapters can be matched and updates prepared before a
//! weight is read. Loading then places an [`Adaptation`] on top of frozen weights.
//!
//! Three bodies share one interface: encoders (post-norm), and decoders and vision models, which are
//! stacks of one configurable pre-norm block.

mod activation_name;
mod adaptation;
mod architecture;
mod block;
mod builder;
mod cache;
mod checkpoint;
mod clip_text;
mod decoder;
mod decoder_config;
mod description;
mod dora;
mod encoder;
mod error;
mod images;
mod nested_config;
mod network;
mod norm;
mod precision;
mod read_rows;
mod recomputation;
mod residual;
mod rotary;
mod shared_tensors;
mod task;
mod tokens;
mod vision;
mod zero_shot;

pub use adaptation::{Adaptation, LoadReport};
pub use architecture::Architecture;
pub use builder::Train;
pub use cache::Cache;
pub use checkpoint::{Checkpoint, shard_names};
pub use clip_text::{ClipText, ClipTextConfig, is_of_text_tower, without_text_tower};
pub use decoder_config::{DecoderConfig, DecoderFamily};
pub use description::{Description, LinearLayer};
pub use encoder::{EncoderConfig, Family};
pub use error::ModelError;
pub use images::ImageBatch;
pub use network::{Batch, LoadOptions, Loaded, Network};
pub use precision::Precision;
pub use recomputation::Recomputation;
pub use task::Task;
pub use tokens::TokenBatch;
pub use vision::{VisionConfig, VisionFamily};
pub use zero_shot::TEXT_FEATURES;
