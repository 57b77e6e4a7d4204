//! What packing lost, and what it saved.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The report of packing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PackReport {
    /// By the name of the adapter.
    pub adapters: BTreeMap<String, AdapterError>,
    /// By module, how many directions the left and the right basis have.
    pub directions: BTreeMap<String, [usize; 2]>,
    /// The bytes of the bases, of the coefficients, and of heads and other tensors kept whole.
    pub basis_bytes: u64,
    pub coefficient_bytes: u64,
    pub whole_bytes: u64,
}

/// ‖ΔW − ΔŴ‖ / ‖ΔW‖ of one adapter, in Frobenius norms; ΔŴ is that of the adapter that comes out of
/// the store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterError {
    /// Over all modules together.
    pub relative_error: f64,
    /// The module with the largest error.
    pub worst_module: String,
    pub worst_error: f64,
}

impl AdapterError {
    /// Of modules with ‖ΔW − ΔŴ‖ and ‖ΔW‖.
    pub(crate) fn of<'a>(modules: impl IntoIterator<Item = (&'a str, f64, f64)>) -> Self {
        let mut error = Self::default();
        let (mut lost, mut total) = (0.0, 0.0);
        for (path, residual, norm) in modules {
            lost += residual.powi(2);
            total += norm.powi(2);
            let relative = if norm > 0.0 { residual / norm } else { 0.0 };
            if relative > error.worst_error || error.worst_module.is_empty() {
                (error.worst_error, error.worst_module) = (relative, path.to_owned());
            }
        }
        if total > 0.0 {
            error.relative_error = (lost / total).sqrt();
        }
        error
    }
}
