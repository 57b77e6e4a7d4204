//! The report of an extraction: inputs, requested and available components.

use std::collections::BTreeMap;

use eigenmix_adapter::{AdapterSource, Source};
use serde::Serialize;

use crate::basis::{Basis, kept_share};
use crate::error::EigenloraxError;
use crate::subspace::ModuleSubspace;

/// The report of an extraction.
#[derive(Clone, Debug, Serialize)]
pub struct ExtractReport {
    /// The adapters, in the order in which they were given.
    pub adapters: Vec<AdapterReport>,
    /// The modules of the subspace.
    pub modules: BTreeMap<String, ModuleReport>,
    /// Modules that no adapter changes: the subspace doesn't have them, random columns or not.
    pub left_out: Vec<String>,
    /// The share of the variance of all left sides that the principal components explain.
    pub left_kept: f64,
    /// The same of the right sides. Adapters whose A was drawn from one seed share much of it by
    /// accident, which is why the sides are reported separately.
    pub right_kept: f64,
    #[serde(skip)]
    left_sums: VarianceSums,
    #[serde(skip)]
    right_sums: VarianceSums,
}

/// Kept and total variance over the modules so far.
#[derive(Clone, Copy, Debug, Default)]
struct VarianceSums {
    kept: f64,
    total: f64,
}

impl VarianceSums {
    /// Adds one side and returns the share kept of all sides so far.
    fn add(&mut self, basis: &Basis) -> f64 {
        self.kept += basis.kept_variance();
        self.total += basis.total_variance();
        kept_share(self.kept, self.total)
    }
}

impl ExtractReport {
    pub(crate) fn of_adapters(adapters: Vec<AdapterReport>) -> Self {
        Self {
            adapters,
            modules: BTreeMap::new(),
            left_out: Vec::new(),
            left_kept: 1.0,
            right_kept: 1.0,
            left_sums: VarianceSums::default(),
            right_sums: VarianceSums::default(),
        }
    }

    pub(crate) fn add(&mut self, path: String, module: ModuleReport, subspace: &ModuleSubspace) {
        self.left_kept = self.left_sums.add(&subspace.left);
        self.right_kept = self.right_sums.add(&subspace.right);
        self.modules.insert(path, module);
    }

    /// The modules in which a side has fewer components than requested.
    pub fn short(&self) -> impl Iterator<Item = (&str, &ModuleReport)> {
        self.modules
            .iter()
            .filter(|(_, module)| module.left.is_short() || module.right.is_short())
            .map(|(path, module)| (path.as_str(), module))
    }
}

/// One of the adapters.
#[derive(Clone, Debug, Serialize)]
pub struct AdapterReport {
    pub source: Source,
    /// How many modules it has.
    pub modules: usize,
    /// The modules in which its update is zero.
    pub without_effect: Vec<String>,
    /// The modules in which B has a bias, which no subspace describes.
    pub biased: Vec<String>,
    /// Its heads and biases of the base model, which belong to its task and are not decomposed.
    pub whole_tensors: Vec<String>,
}

impl AdapterReport {
    pub(crate) fn of<S: AdapterSource>(adapter: &S) -> Result<Self, EigenloraxError> {
        Ok(Self {
            source: adapter.source(),
            modules: adapter.shapes()?.len(),
            without_effect: Vec::new(),
            biased: Vec::new(),
            whole_tensors: adapter.whole_tensors()?,
        })
    }
}

/// One module of the subspace.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ModuleReport {
    /// How many adapters have it.
    pub adapters: usize,
    /// Σr: the sum of their ranks; of a flattened subspace their number.
    pub columns: usize,
    pub left: SideReport,
    pub right: SideReport,
}

/// One side of a module.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SideReport {
    /// How many principal components were requested, if a number was.
    pub asked: Option<usize>,
    /// How many are available.
    pub available: usize,
    /// How many were taken.
    pub principal: usize,
    /// Whether the mean was added.
    pub has_mean: bool,
    /// How many random columns were added.
    pub augmented: usize,
    /// The share of the variance that the principal components explain.
    pub kept: f64,
}

impl SideReport {
    pub(crate) fn of(basis: &Basis, asked: Option<usize>, available: usize) -> Self {
        Self {
            asked,
            available,
            principal: basis.principal(),
            has_mean: basis.has_mean(),
            augmented: basis.augmented(),
            kept: basis.kept(),
        }
    }

    /// Whether fewer principal components were available than requested.
    pub fn is_short(&self) -> bool {
        self.asked.is_some_and(|asked| asked > self.available)
    }
}
