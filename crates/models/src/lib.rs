//! Base models on Burn and their weights from Hugging Face checkpoints.
//!
//! A model is described from its `config.json` alone ([`Architecture`], [`Description`]: every linear
//! layer with its path and shape), so that adapters can be matched and updates prepared before a
//! weight is read. Loading then places an [`Adaptation`] on top of frozen weights.
//!
//! A [`Network`] is a body and a head. Bodies are encoders (post-norm), decoders and vision models, which
//! are stacks of one configurable pre-norm block, and vision-language models, which are composed of a
//! vision model, a connector and a decoder. A new architecture implements [`ModelConfig`]
//! and is a variant of [`Architecture`] and of the body.
//!
//! ```
//! use std::path::Path;
//!
//! use eigenmix_models::{Architecture, HeadKind};
//!
//! # fn main() -> Result<(), eigenmix_models::ModelError> {
//! let config = serde_json::json!({
//!     "model_type": "bert", "vocab_size": 100, "hidden_size": 12, "num_hidden_layers": 2,
//!     "num_attention_heads": 3, "intermediate_size": 24, "max_position_embeddings": 32,
//!     "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu"
//! });
//! let architecture = Architecture::from_json(&config, Path::new("config.json"))?;
//! let description = architecture.describe(HeadKind::Classification { labels: 3 })?;
//! let query = description.layer("bert.encoder.layer.1.attention.self.query").expect("a layer");
//! assert_eq!([query.d_out, query.d_in], [12, 12]);
//! # Ok(())
//! # }
//! ```

mod activation_name;
mod adaptation;
mod adapted_tables;
mod architecture;
mod batch;
mod block;
mod body;
mod builder;
mod cache;
mod checkpoint;
mod clip_names;
mod clip_text;
mod connector;
mod decoder;
mod decoder_config;
mod decoder_family;
mod description;
mod dora;
mod encoder;
mod encoder_config;
mod error;
mod gguf;
mod head;
mod head_kind;
mod holding;
mod images;
mod layer_stack;
mod model_config;
mod nested_config;
mod network;
mod norm;
mod plausible_sizes;
mod precision;
mod read_rows;
mod recomputation;
mod residual;
mod rotary;
mod shared_tensors;
mod stored;
mod tensor_sizes;
mod tensor_source;
mod token_tables;
mod tokens;
mod trained_tables;
mod vision;
mod vision_config;
mod vision_language;
mod vision_language_config;
mod vision_language_names;
mod zero_shot;

pub use adaptation::{Adaptation, LoadReport};
pub use adapted_tables::AdaptedTables;
pub use architecture::Architecture;
pub use batch::Batch;
pub use builder::{Builder, Train};
pub use cache::Cache;
pub use checkpoint::{Checkpoint, is_gguf, shard_names};
pub use clip_text::{
    ClipText, ClipTextConfig, ClipTextStates, is_of_text_tower, without_text_tower,
};
pub use decoder_config::DecoderConfig;
pub use decoder_family::DecoderFamily;
pub use description::{Description, LinearLayer};
pub use encoder_config::{EncoderConfig, EncoderFamily};
pub use error::ModelError;
pub use gguf::{GgufConfig, GgufFamily, GgufNames, GgufSource, gguf_base, gguf_row_order};
pub use head::HeadForm;
pub use head_kind::HeadKind;
pub use images::ImageBatch;
pub use layer_stack::LayerStack;
pub use model_config::{ImageTokens, ModelConfig};
pub use network::{LoadOptions, Loaded, Network};
pub use precision::Precision;
pub use recomputation::Recomputation;
pub use tensor_sizes::{ModelPart, TensorSize, TensorSizes};
pub use token_tables::{TokenTables, untie};
pub use tokens::TokenBatch;
pub use trained_tables::{Trained, TrainedTables, is_output_weight, updated};
pub use vision_config::{VisionConfig, VisionFamily};
pub use vision_language_config::VisionLanguageConfig;
pub use zero_shot::TEXT_FEATURES;
