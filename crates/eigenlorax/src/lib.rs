//! EigenLoRAx: from LoRA adapters to the principal subspace that they share, from an adapter to
//! its coefficients in it, and back (arXiv 2502.04700).
//!
//! ```text
//! extract:      [B₁ … B_T] ≈ U [d_out, p]     [A₁ᵀ … A_Tᵀ] ≈ V [d_in, q]
//! coefficients: L_B = Uᵀ·B [p, r]             L_A = Vᵀ·Aᵀ [q, r]
//! mixer:        M = Uᵀ·ΔW·V [p, q]
//! back:         ΔW ≈ U·L_B·L_Aᵀ·Vᵀ = U·M·Vᵀ
//! ```
//!
//! ```
//! # use std::collections::BTreeMap;
//! # use eigenmix_adapter::{Adapter, LoraModule, PeftConfig, Source, TargetModules};
//! # use eigenmix_tensors::Matrix;
//! use eigenmix_adapter::LoadedAdapter;
//! use eigenmix_eigenlorax::{Components, ExtractOptions, ProjectOptions, extract, project};
//!
//! # fn adapter(name: &str, seed: usize) -> LoadedAdapter {
//! #     let factor = |rows, cols| {
//! #         Matrix::from_fn(rows, cols, |row, col| (((row + 2) * (col + seed)) as f32).sin())
//! #     };
//! #     let module = LoraModule::new(factor(9, 2), factor(7, 2).transposed(), 0.5);
//! #     let modules = BTreeMap::from([("layers.0.query".to_owned(), module)]);
//! #     let targets = TargetModules::Names(vec!["query".to_owned()]);
//! #     let config = PeftConfig::lora("org/base", 2, targets, &[], None, &BTreeMap::new());
//! #     LoadedAdapter {
//! #         source: Source { location: name.to_owned(), sha256: String::new() },
//! #         adapter: Adapter::new(config.unwrap(), modules),
//! #     }
//! # }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let adapters: [LoadedAdapter; 2] = [adapter("banking", 1), adapter("travel", 4)];
//! let options = ExtractOptions::new(Components::All);
//! let subspace = extract(&adapters, &options, &|_, _| {})?.subspace;
//! assert_eq!(subspace.modules["layers.0.query"].left.columns(), 4);
//!
//! // Every source lies in the subspace of all components, an adapter of another task need not.
//! let lost = |adapter| Ok::<_, eigenmix_eigenlorax::EigenloraxError>(
//!     project(adapter, &subspace, &ProjectOptions::default())?.overall,
//! );
//! assert!(lost(&adapters[0])? < 1e-6);
//! assert!(lost(&adapter("weather", 6))? > 0.1);
//! # Ok(())
//! # }
//! ```
//!
//! An update ΔW `[d_out, d_in]` is never formed: everything goes through thin factors, in f64.

mod augmentation;
mod basis;
mod clusters;
mod coefficients;
mod control;
pub mod decomposition;
mod error;
mod extract;
mod flattened;
mod growing_basis;
mod growth;
mod growth_report;
mod joining;
mod low_rank;
mod options;
mod principal;
mod project;
mod range_sketch;
mod report;
mod rotation;
mod selection;
mod shared_bases;
mod shared_energy;
mod similarity;
mod spectrum;
mod subspace;
mod subspace_file;
mod truncation;
mod weights;

pub use basis::Basis;
pub use clusters::{ClusterCount, Clusters};
pub use coefficients::Coefficients;
pub use error::EigenloraxError;
pub use extract::{Extraction, extract};
pub use flattened::Flattened;
pub use growth::{DEFAULT_RESIDUAL, GrowOptions, Growth, grow};
pub use growth_report::{AdapterGrowth, GrowthReport, ModuleGrowth, SideGrowth};
pub use low_rank::LowRank;
pub use options::{Components, ExtractOptions, Factors, SubspaceKind};
pub use project::{ProjectOptions, Projection, project};
pub use range_sketch::{LeadingPart, OVERSAMPLING, range_of, test_matrix};
pub use report::{AdapterReport, ExtractReport, ModuleReport, SideReport};
pub use selection::{
    Alignment, PoolAlignment, PoolModule, Ranked, Share, greedy_order, pool_share,
};
pub use shared_bases::shared_bases;
pub use shared_energy::SharedEnergy;
pub use similarity::{Pairs, Similarity, similarity};
pub use spectrum::{ModuleSpectra, Spectrum};
pub use subspace::{ModuleSubspace, Subspace, SubspaceUpdate};
pub use truncation::{Energy, truncate_module};
pub use weights::Weights;
