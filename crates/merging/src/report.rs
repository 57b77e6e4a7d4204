//! The report of a merge: inputs, results, omissions.

use std::collections::BTreeMap;

use eigenmix_adapter::Source;
use serde::Serialize;

use crate::error::MergeError;
use crate::source::MergeSource;

/// The report of a merge.
#[derive(Clone, Debug, Serialize)]
pub struct MergeReport {
    /// The adapters, in the order in which they were given.
    pub adapters: Vec<MergedSource>,
    /// All modules that any adapter has.
    pub modules: BTreeMap<String, MergedModule>,
    /// The adapter whose heads and biases the merged one has, if only one has any.
    pub heads_of: Option<usize>,
    /// The share of ‖ΔW‖² over all modules that truncation kept.
    pub energy_kept: f64,
}

/// One of the adapters.
#[derive(Clone, Debug, Serialize)]
pub struct MergedSource {
    pub source: Source,
    /// w, its weight.
    pub weight: f64,
    /// How many modules it has.
    pub modules: usize,
    /// The share of ‖ΔW_t‖² over all its modules that the compression kept; none without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<f64>,
    /// Its heads and biases of the base model, which belong to its task and are never merged.
    pub whole_tensors: Vec<String>,
}

/// One module.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MergedModule {
    /// The adapters that have it, as indices into [`MergeReport::adapters`].
    pub adapters: Vec<usize>,
    /// `[d_out, d_in]`.
    pub shape: [usize; 2],
    /// Σr: the sum of their ranks.
    pub columns: usize,
    /// The rank of the merged update; 0 if it is zero, and then the merged adapter lacks the
    /// module.
    pub rank: usize,
    /// The share of ‖ΔW‖² that truncation kept; 1 without.
    pub energy_kept: f64,
    /// ‖ΔW_t‖ of its adapters, before weights, Frobenius.
    pub input_norms: Vec<f64>,
    /// The share of ‖ΔW_t‖² of its adapters that the compression kept; none without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<Vec<f64>>,
    /// ‖ΔW‖ of the merged update.
    pub norm: f64,
}

impl MergeReport {
    /// The modules that only some adapters have, which were merged from those.
    pub fn partial(&self) -> impl Iterator<Item = (&str, &MergedModule)> {
        self.modules
            .iter()
            .filter(|(_, module)| module.adapters.len() < self.adapters.len())
            .map(|(path, module)| (path.as_str(), module))
    }

    /// The modules whose merged update is zero.
    pub fn left_out(&self) -> impl Iterator<Item = &str> {
        self.modules
            .iter()
            .filter(|(_, module)| module.rank == 0)
            .map(|(path, _)| path.as_str())
    }

    pub(crate) fn new<S: MergeSource>(
        adapters: &[S],
        weights: &[f64],
        modules: BTreeMap<String, MergedModule>,
    ) -> Result<Self, MergeError> {
        let adapters = adapters
            .iter()
            .zip(weights)
            .enumerate()
            .map(|(index, (adapter, &weight))| {
                Ok(MergedSource {
                    source: adapter.source(),
                    weight,
                    modules: adapter.shapes()?.len(),
                    kept: kept_of(index, &modules),
                    whole_tensors: adapter.whole_tensors()?,
                })
            })
            .collect::<Result<Vec<_>, MergeError>>()?;
        let mut with_heads = (0..adapters.len()).filter(|&index| {
            let adapter: &MergedSource = &adapters[index];
            !adapter.whole_tensors.is_empty()
        });
        let heads_of = match (with_heads.next(), with_heads.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        };
        let kept: f64 = modules.values().map(|module| module.norm.powi(2)).sum();
        let total: f64 = modules
            .values()
            .map(|module| module.norm.powi(2) / module.energy_kept)
            .sum();
        Ok(Self {
            adapters,
            modules,
            heads_of,
            energy_kept: if total > 0.0 { kept / total } else { 1.0 },
        })
    }
}

/// The share of ‖ΔW_t‖² of one adapter that the compression kept, over all modules; 1 if it is zero.
fn kept_of(adapter: usize, modules: &BTreeMap<String, MergedModule>) -> Option<f64> {
    let (mut kept, mut total) = (0.0, 0.0);
    for module in modules.values() {
        let shares = module.kept.as_ref()?;
        let members = module.adapters.iter().zip(&module.input_norms).zip(shares);
        for ((_, norm), share) in members.filter(|((index, _), _)| **index == adapter) {
            kept += share * norm.powi(2);
            total += norm.powi(2);
        }
    }
    Some(if total > 0.0 { kept / total } else { 1.0 })
}
