//! Merging LoRA adapters into one adapter: a *space* gives each adapter's representation and the
//! way back, a *method* combines representations. Any space goes with any method.
//!
//! ```text
//! one module:  ΔW_t = s_t·B_t·A_t [m, n]      the updates, adapter t of T, never formed
//!              L = [s_1B_1 … s_TB_T] [m, Σr]  R = [A_1ᵀ … A_Tᵀ] [n, Σr]
//!              L = U·C_L, R = V·C_R           singular bases; all else happens in Σr × Σr
//! full:        τ_t = ΔW_t                     back: τ
//! KnOTS:       τ_t = Σ·V_tᵀ [k, n]            back: U_k·τ     (arXiv 2410.19735)
//! Core Space:  τ_t = Uᵀ·ΔW_t·V [Σr, Σr]       back: U·τ·Vᵀ    (arXiv 2509.17786)
//! ```
//!
//! ```
//! # use std::collections::BTreeMap;
//! # use eigenmix_adapter::{Adapter, AdapterFile, LoraModule, PeftConfig, TargetModules};
//! # use eigenmix_tensors::Matrix;
//! use eigenmix_merging::{MergeOptions, Method, Space, merge};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let save = |name: &str, seed: usize| {
//! #     let factor = |rows, cols| {
//! #         Matrix::from_fn(rows, cols, |row, col| (((row + 2) * (col + seed)) as f32).sin())
//! #     };
//! #     let module = LoraModule::new(factor(9, 2), factor(7, 2).transposed(), 0.5);
//! #     let modules = BTreeMap::from([("layers.0.query".to_owned(), module)]);
//! #     let targets = TargetModules::Names(vec!["query".to_owned()]);
//! #     let config = PeftConfig::lora("org/base", 2, targets, &[], None, &BTreeMap::new()).unwrap();
//! #     let path = directory.path().join(name);
//! #     Adapter::new(config, modules).save(&path, &Default::default()).unwrap();
//! #     path
//! # };
//! # let (banking, travel) = (save("banking", 1), save("travel", 4));
//! let adapters = [AdapterFile::open(&banking)?, AdapterFile::open(&travel)?];
//! let options = MergeOptions::new(Space::Core, Method::Ties { density: 0.2 });
//! let merged = merge(&adapters, &options, &|done, of| println!("{done} of {of}"))?;
//! assert!(merged.report.modules["layers.0.query"].rank <= 4);
//! # let path = directory.path().join("merged");
//! merged.adapter.save(&path, &Default::default())?;
//! # Ok(())
//! # }
//! ```
//!
//! The names of methods and parameters, their ranges, defaults and searched values are in one
//! table, [`MethodKind`] and [`Parameter`]; [`RequestedOptions`] is a merge in those terms. [`search`]
//! looks for the best λ, density, drop or rank fraction by any score, as the papers do.
//!
//! Decompositions run in f64, entries are compared and averaged as f32. The cost is linear in m and
//! n; the result is the same on any number of threads.

/// The examples of the guide compile.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/library.md")]
struct LibraryGuide;

mod cart;
mod compression;
mod coordinates;
mod core_space;
mod dare;
mod election;
mod entries;
mod error;
mod factors;
mod full_space;
mod iso_cts;
mod isotropize;
mod knots_space;
mod linear;
mod magnitude;
mod merge;
mod merged_config;
mod merged_svd;
mod method;
mod names;
mod options;
mod parameter;
mod parameter_values;
mod report;
mod requested_options;
mod robust;
mod search;
mod source;
mod space;
mod stack_basis;
mod tsv;
mod update;

pub use error::MergeError;
pub use knots_space::KnotsRows;
pub use merge::{Merge, merge};
pub use method::{Method, MethodInfo, MethodKind};
pub use names::UnknownName;
pub use options::{MergeOptions, Scope};
pub use parameter::{Parameter, ParameterInfo, Range, SearchInfo};
pub use parameter_values::{Given, ParameterValues, PerParameter, SearchValues};
pub use report::{MergeReport, MergedModule, MergedSource};
pub use requested_options::RequestedOptions;
pub use search::{Coordinate, SearchGrid, SearchOutcome, Setting, Trial, search};
pub use source::MergeSource;
pub use space::Space;
