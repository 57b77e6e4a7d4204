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
/// the store. Likewise of the tensors that are kept whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterError {
    /// Over all modules together.
    pub relative_error: f64,
    /// The module with the largest error.
    pub worst_module: String,
    pub worst_error: f64,
    /// The largest relative error of a tensor that is kept whole, such as a head.
    pub whole_error: f64,
}

impl AdapterError {
    /// Takes in a tensor that is kept whole, as it was and as it comes out.
    pub(crate) fn of_whole(&mut self, before: &[f32], after: &[f32]) {
        let square = |value: f32| f64::from(value).powi(2);
        let norm: f64 = before.iter().copied().map(square).sum();
        let both = before.iter().zip(after);
        let lost: f64 = both.map(|(before, after)| square(before - after)).sum();
        if norm > 0.0 {
            self.whole_error = self.whole_error.max((lost / norm).sqrt());
        }
    }

    /// Takes in modules with ‖ΔW − ΔŴ‖ and ‖ΔW‖.
    pub(crate) fn of_modules<'a>(
        &mut self,
        modules: impl IntoIterator<Item = (&'a str, f64, f64)>,
    ) {
        let (mut lost, mut total) = (0.0, 0.0);
        for (path, residual, norm) in modules {
            lost += residual.powi(2);
            total += norm.powi(2);
            let relative = if norm > 0.0 { residual / norm } else { 0.0 };
            if relative > self.worst_error || self.worst_module.is_empty() {
                (self.worst_error, self.worst_module) = (relative, path.to_owned());
            }
        }
        if total > 0.0 {
            self.relative_error = (lost / total).sqrt();
        }
    }
}
