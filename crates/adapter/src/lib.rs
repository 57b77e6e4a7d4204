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
//! # fn main() -> Result<(), adapter::AdapterError> {
//! let file = adapter::AdapterFile::open(Path::new("adapters/banking"))?;
//! file.require_clean()?;
//! for path in file.module_paths() {
//!     let (left, right) = file.module(path)?.folded();
//!     println!("{path}: {:?} · {:?}", left.shape(), right.shape());
//! }
//! file.load()?.save(Path::new("copy"), &adapter::SaveOptions::default())?;
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
mod file_lock;
mod hub;
mod index;
mod key;
mod labels;
mod layer_kind;
mod location;
mod lora;
mod matrix;
mod model_card;
mod output;
mod pattern;
mod prompts;
mod saving;
mod single_file;
mod source;
mod style;
mod support;
mod synthetic_config;
mod target;
mod tensor_file;
mod tensor_output;
mod vera;
mod weights_file;

pub use adapter::{Adapter, HeadTensor, SaveOptions};
pub use config::{BiasKind, PeftConfig};
pub use dialect::Dialect;
pub use error::AdapterError;
pub use file::{AdapterFile, FileReport, UnexpectedTensor};
pub use file_lock::FileLock;
pub use hub::{
    Commit, Committed, FileWish, Hub, HubError, Repository, RequestError, Transfer,
    TransferDirection, TransferObserver, TransferProgress, UploadContent, UploadFile,
    locate_adapter, observe_transfers,
};
pub use labels::Labels;
pub use layer_kind::LayerKind;
pub use location::{HubId, Location};
pub use lora::LoraModule;
pub use matrix::Matrix;
pub use model_card::{CardResult, ModelCard, Publication};
pub use output::{write_directory, write_file, write_file_with};
pub use prompts::{PromptError, Prompts};
pub use safetensors::Dtype;
pub use source::{Provenance, Source};
pub use style::Style;
pub use target::TargetModules;
pub use tensor_file::TensorFile;
pub use tensor_output::{TensorOutput, write_tensor_file, write_tensor_file_with};
