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
//! An update ΔW `[d_out, d_in]` is never formed: everything goes through thin factors, in f64.

mod augmentation;
mod basis;
mod coefficients;
pub mod decomposition;
mod error;
mod extract;
mod low_rank;
mod principal;
mod project;
mod report;
mod similarity;
mod source;
mod spectrum;
mod strangers;
mod subspace;
mod subspace_file;

pub use basis::Basis;
pub use coefficients::Coefficients;
pub use error::EigenloraxError;
pub use extract::{Components, ExtractOptions, Extraction, Factors, extract};
pub use low_rank::LowRank;
pub use project::{ProjectOptions, Projection, project};
pub use report::{AdapterReport, ExtractReport, ModuleReport, SideReport};
pub use similarity::{Pairs, Similarity, similarity};
pub use source::{AdapterSource, LoadedAdapter, ModuleShape};
pub use spectrum::{ModuleSpectra, Spectrum};
pub use strangers::strangers;
pub use subspace::{ModuleSubspace, Subspace};
