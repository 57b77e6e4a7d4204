//! LoRA adapters on the host side: their factors and scaling, PEFT directories and other dialects in
//! and out, the Hub.
//!
//! This crate is the only one that knows how PEFT, kohya, diffusers and mlx-lm name and orient their
//! tensors. Whoever depends on
//! it sees [`LoraModule`]s, whose scaling is already a number and whose factors are always
//! B `[d_out, rank]` and A `[rank, d_in]`.
//!
//! ```no_run
//! use std::path::Path;
//!
//! # fn main() -> Result<(), eigenmix_adapter::AdapterError> {
//! let file = eigenmix_adapter::AdapterFile::open(Path::new("adapters/banking"))?;
//! file.require_clean()?;
//! for path in file.module_paths() {
//!     let (left, right) = file.module(path)?.folded();
//!     println!("{path}: {:?} · {:?}", left.shape(), right.shape());
//! }
//! file.load()?.save(Path::new("copy"), &eigenmix_adapter::SaveOptions::default())?;
//! # Ok(())
//! # }
//! ```
//!
//! Nothing that comes from a file is trusted: headers, offsets, shapes, ranks and numbers are checked
//! before use, pickled files are never opened, and every error says what was found and what to do.

mod adapter;
mod config;
mod config_fields;
mod dialect;
mod error;
mod export;
mod file;
mod hub_adapter;
mod index;
mod key;
mod labels;
mod layer_kind;
mod lora;
mod model_card;
mod pattern;
mod prompts;
mod saving;
mod single_file;
mod source;
mod style;
mod support;
mod synthetic_config;
mod target;
mod vera;
mod weights_file;

pub use adapter::{Adapter, HeadTensor, SaveOptions};
pub use config::{BiasKind, PeftConfig};
pub use dialect::Dialect;
pub use error::AdapterError;
pub use file::{AdapterFile, FileReport, UnexpectedTensor};
pub use hub_adapter::{fetch_adapter, locate_adapter};
pub use labels::Labels;
pub use layer_kind::LayerKind;
pub use lora::LoraModule;
pub use model_card::{CardResult, ModelCard, Publication};
pub use prompts::{PromptError, Prompts};
pub use source::{Provenance, Source};
pub use style::Style;
pub use target::TargetModules;
