//! A subspace, as Python reads it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use eigenmix_adapter::LoraModule;
use eigenmix_eigenlorax::{self as eigenlorax, ModuleSubspace};
use eigenmix_experiment::{ExperimentError, OpenedAdapter};
use eigenmix_tensors::Matrix;
use pyo3::prelude::*;

use crate::array::Array;
use crate::raised::{bad_input, or_raised};

/// Bases of both sides of every module.
#[pyclass(frozen, module = "eigenmix._engine")]
pub(crate) struct Subspace {
    inner: Arc<eigenlorax::Subspace>,
}

/// What the functions that need directions of columns say of whole factors.
pub(crate) const FLATTENED: &str = "the subspace is flattened: `eigenmix.train` has the method \"eigenlorax\" for it; \
     here directions of columns are needed, which `extract` finds without kind=\"flattened\"";

impl Subspace {
    pub(crate) fn module(&self, py: Python<'_>, module: &str) -> PyResult<&ModuleSubspace> {
        let found = self.inner.modules.get(module);
        found.ok_or_else(|| bad_input(py, format!("the subspace has no module `{module}`")))
    }
}

#[pymethods]
impl Subspace {
    /// Reads what `eigenmix extract` wrote.
    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let inner = py.detach(|| eigenlorax::Subspace::load(&path));
        let inner = Arc::new(or_raised(py, inner)?);
        Ok(Self { inner })
    }

    /// The same with at most `count` principal components a side.
    fn with_components(&self, py: Python<'_>, count: usize) -> Self {
        let inner = py.detach(|| {
            let mut inner = eigenlorax::Subspace::clone(&self.inner);
            for module in inner.modules.values_mut() {
                *module = module.with_components(count);
            }
            Arc::new(inner)
        });
        Self { inner }
    }

    #[getter]
    fn base_model(&self) -> Option<&str> {
        self.inner.base_model.as_deref()
    }

    /// The adapters that it was extracted from.
    #[getter]
    fn sources(&self) -> Vec<&str> {
        let sources = self.inner.sources.iter();
        sources.map(|source| source.location.as_str()).collect()
    }

    /// Whether the columns are whole factors.
    #[getter]
    fn is_flattened(&self) -> bool {
        let mut modules = self.inner.modules.values();
        modules.any(|module| module.flattened.is_some())
    }

    /// The paths of the modules.
    #[getter]
    fn modules(&self) -> Vec<&str> {
        self.inner.modules.keys().map(String::as_str).collect()
    }

    /// U `[d_out, p]` (`is_left`) or V `[d_in, q]`.
    fn side(&self, py: Python<'_>, module: &str, is_left: bool) -> PyResult<Array> {
        let side = Array::of_side(&self.inner, module, is_left);
        side.ok_or_else(|| bad_input(py, format!("the subspace has no module `{module}`")))
    }

    /// The variance of each column of a side.
    fn variance(&self, py: Python<'_>, module: &str, is_left: bool) -> PyResult<Vec<f32>> {
        let module = self.module(py, module)?;
        let side = match is_left {
            true => &module.left,
            false => &module.right,
        };
        Ok(side.variance().to_vec())
    }

    /// The mean of the mixers M = Uᵀ ΔW V `[p, q]` of those adapters that have the module, by module.
    fn mixers(&self, py: Python<'_>, adapters: Vec<String>) -> PyResult<BTreeMap<String, Array>> {
        if self.is_flattened() {
            return Err(bad_input(py, FLATTENED.to_owned()));
        }
        let mixers = py.detach(|| mixers(&self.inner, &adapters));
        let mixers = or_raised(py, mixers)?.into_iter();
        Ok(mixers
            .map(|(module, mixer)| (module, mixer.into()))
            .collect())
    }
}

/// See [`Subspace::mixers`].
fn mixers(
    subspace: &eigenlorax::Subspace,
    adapters: &[String],
) -> Result<BTreeMap<String, Matrix>, ExperimentError> {
    let adapters = adapters
        .iter()
        .map(|adapter| Ok(OpenedAdapter::open(adapter)?.file.load()?.modules))
        .collect::<Result<Vec<BTreeMap<String, LoraModule>>, ExperimentError>>()?;
    let mut means = BTreeMap::new();
    for path in subspace.modules.keys() {
        let mut mixers = Vec::new();
        for lora in adapters.iter().filter_map(|modules| modules.get(path)) {
            let module = subspace.module_for(path, [lora.d_out(), lora.d_in()])?;
            mixers.push(module.mixer_of(lora));
        }
        let Some(first) = mixers.first() else {
            continue;
        };
        let [rows, cols] = first.shape();
        let mean = Matrix::from_fn(rows, cols, |row, col| {
            mixers.iter().map(|mixer| mixer.get(row, col)).sum::<f32>() / mixers.len() as f32
        });
        means.insert(path.clone(), mean);
    }
    Ok(means)
}
