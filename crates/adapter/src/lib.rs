//! LoRA adapters on the host side: their factors and scaling, PEFT directories and other dialects in
//! and out, sets of them that belong together, the Hub.
//!
//! This crate is the only one that knows how PEFT, kohya, diffusers and mlx-lm name and orient their
//! tensors. Whoever depends on it sees [`LoraModule`]s, whose scaling is already a number and whose
//! factors are always B `[d_out, rank]` and A `[rank, d_in]`.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use eigenmix_adapter::{Adapter, AdapterFile, AdapterSet, LoraModule, PeftConfig, TargetModules};
//! use eigenmix_tensors::Matrix;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("banking");
//! // ΔW = s·B·A of one module, [3, 2] and of rank 1.
//! let (b, a) = (Matrix::new(3, 1, vec![1.0, 2.0, 3.0]), Matrix::new(1, 2, vec![4.0, -2.0]));
//! let modules = BTreeMap::from([("layers.0.query".to_owned(), LoraModule::new(b, a, 0.5))]);
//! let targets = TargetModules::Names(vec!["query".to_owned()]);
//! let config = PeftConfig::lora("org/base", 1, targets, &[], None, &BTreeMap::new())?;
//! Adapter::new(config, modules).save(&path, &Default::default())?;
//!
//! let file = AdapterFile::open(&path)?;
//! file.require_clean()?;
//! let module = file.module("layers.0.query")?;
//! assert_eq!(module.update().values(), [2.0, -1.0, 4.0, -2.0, 6.0, -3.0]);
//!
//! // Before several are merged or decomposed: are they for one model, in one shape?
//! let adapters = [&file, &file];
//! let set = AdapterSet::new(&adapters, false)?;
//! assert_eq!(set.base_model(), Some("org/base"));
//! # Ok(())
//! # }
//! ```
//!
//! Nothing that comes from a file is trusted: headers, offsets, shapes, ranks and numbers are checked
//! before use, pickled files are never opened, and every error says what was found and what to do.

mod adapter;
mod adapter_set;
mod adapter_set_error;
mod adapter_source;
mod config;
mod config_fields;
mod dialect;
mod dora;
mod error;
mod export;
mod file;
mod file_report;
mod gguf_base;
mod index;
mod key;
mod labels;
mod layer_kind;
mod loaded_adapter;
mod lora;
mod model_card;
mod module_name;
mod module_naming;
mod named_tensor;
mod pattern;
mod prompts;
mod repository_files;
mod saving;
mod single_file;
mod source;
mod style;
mod support;
mod synthetic_config;
mod target;
mod token_rows;
mod token_table;
mod vera;
mod weights_file;

pub use adapter::{Adapter, SaveOptions};
pub use adapter_set::{AdapterSet, ModuleMembers, check_low_rank};
pub use adapter_set_error::AdapterSetError;
pub use adapter_source::{AdapterSource, ModuleShape};
pub use config::{BiasKind, PeftConfig};
pub use dialect::Dialect;
pub use dora::{dora_factors, dora_weight};
pub use error::AdapterError;
pub use file::AdapterFile;
pub use file_report::{FileReport, UnexpectedTensor};
pub use gguf_base::GgufBase;
pub use labels::Labels;
pub use layer_kind::LayerKind;
pub use loaded_adapter::LoadedAdapter;
pub use lora::LoraModule;
pub use model_card::{CardResult, ModelCard, Publication};
pub use module_name::known_under_other_name;
pub use module_naming::{current_name, earlier_names};
pub use prompts::{PromptError, Prompts};
pub use repository_files::RepositoryFiles;
pub use source::{Companion, Provenance, Source};
pub use style::Style;
pub use target::{TargetModules, is_saved_by};
pub use token_rows::{RowProblem, TokenRows, table_of_rows};
pub use token_table::{is_input_table, is_output_layer, is_token_table};
