//! Base models on Burn and their weights from Hugging Face checkpoints.
//!
//! A model is described from its `config.json` alone ([`Description`]: every linear layer with its
//! path and shape), so that adapters can be matched and updates prepared before a weight is read.
//! Loading then places an [`Adaptation`] on top of frozen weights.

mod adaptation;
mod builder;
mod checkpoint;
mod description;
mod encoder;
mod error;
mod sequence_classifier;
mod tokens;

pub use adaptation::{Adaptation, LoadReport};
pub use builder::Train;
pub use checkpoint::Checkpoint;
pub use description::{Description, LinearLayer};
pub use encoder::{EncoderConfig, Family};
pub use error::ModelError;
pub use sequence_classifier::{LoadOptions, Loaded, SequenceClassifier};
pub use tokens::TokenBatch;
