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
//! ```no_run
//! use std::path::Path;
//!
//! use eigenmix_adapter::AdapterFile;
//! use eigenmix_merging::{MergeOptions, Method, Space, merge};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let adapters = [
//!     AdapterFile::open(Path::new("adapters/banking"))?,
//!     AdapterFile::open(Path::new("adapters/travel"))?,
//! ];
//! let options = MergeOptions::new(Space::Core, Method::Ties { density: 0.2 });
//! let merged = merge(&adapters, &options, &|done, of| eprintln!("{done} of {of}"))?;
//! merged.adapter.save(Path::new("merged"), &Default::default())?;
//! # Ok(())
//! # }
//! ```
//!
//! [`search`] looks for the best λ, density, drop or rank fraction by any score, as the papers do.
//!
//! Decompositions run in f64, entries are compared and averaged as f32. The cost is linear in m and
//! n; the result is the same on any number of threads.

mod cart;
mod coordinates;
mod core_space;
mod dare;
mod election;
mod entries;
mod error;
mod factors;
mod full_space;
mod isotropize;
mod knots_space;
mod linear;
mod magnitude;
mod merge;
mod merged_config;
mod method;
mod options;
mod plan;
mod report;
mod search;
mod source;
mod space;
mod spectrum;
mod stack_basis;
mod tsv;
mod update;

pub use error::MergeError;
pub use knots_space::KnotsRows;
pub use merge::{Merge, merge};
pub use method::Method;
pub use options::{MergeOptions, Scope};
pub use report::{AdapterReport, MergeReport, ModuleReport};
pub use search::{Coordinate, SearchGrid, SearchOutcome, Setting, Trial, search};
pub use source::MergeSource;
pub use space::Space;
