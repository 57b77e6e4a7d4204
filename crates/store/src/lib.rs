//! Many adapters in one store: a basis that they share, and the coefficients of each on it
//! (Compress then Serve, arXiv 2407.00066).
//!
//! ```text
//! min over U, V, Σ_t of   Σ_t ‖ΔW_t − U · Σ_t · Vᵀ‖² / ‖ΔW_t‖²      U: [d_out, p]   V: [d_in, q]
//! ```
//!
//! per module, Σ_t full `[p, q]` on orthonormal bases, or, our own form, diagonal on columns of length 1. [`pack`] finds it and rounds it to the precision that is
//! asked for; [`Store::save`] and [`Store::load`] keep it on disk with everything else that an adapter
//! brings; [`Store::adapter`] gives a plain LoRA adapter back. The error that is told of each adapter is
//! that of this adapter, after rounding.

mod bases;
mod checksums;
mod diagonal_fit;
mod error;
mod pack;
mod report;
mod store;
mod store_file;
mod store_reader;
mod stored_name;
mod stored_tensor;

pub use error::StoreError;
pub use pack::{CoefficientKind, PackInput, PackOptions, pack};
pub use report::{AdapterError, PackReport};
pub use store::{Store, StoredAdapter};
pub use stored_name::StoredName;
pub use stored_tensor::{Precision, StoredTensor, UnknownPrecision};
