//! An adapter of any dialect, as Python reads it.

use std::collections::BTreeMap;
use std::sync::Arc;

use eigenmix_adapter as adapter;
use eigenmix_experiment::{ExperimentError, OpenedAdapter};
use pyo3::prelude::*;

use crate::array::{Array, Factor};
use crate::raised::{bad_input, or_raised};

/// The factors of every module, the scaling that belongs to them, and the heads.
#[pyclass(frozen, module = "eigenmix._engine")]
pub(crate) struct Adapter {
    inner: Arc<adapter::Adapter>,
    base_model: Option<String>,
}

/// B, A, a mixer if there is one, and the scaling.
type Factors = (Array, Array, Option<Array>, f32);

#[pymethods]
impl Adapter {
    /// Opens a directory, a file, an adapter of a store or a Hub id.
    #[staticmethod]
    fn load(py: Python<'_>, location: &str) -> PyResult<Self> {
        let loaded = py.detach(|| -> Result<adapter::Adapter, ExperimentError> {
            let opened = OpenedAdapter::open(location)?;
            opened.file.require_clean()?;
            Ok(opened.file.load()?)
        });
        let inner = Arc::new(or_raised(py, loaded)?);
        let base_model = inner.config.base_model().map(str::to_owned);
        Ok(Self { inner, base_model })
    }

    #[getter]
    fn base_model(&self) -> Option<&str> {
        self.base_model.as_deref()
    }

    /// The paths of the modules.
    #[getter]
    fn modules(&self) -> Vec<&str> {
        self.inner.modules.keys().map(String::as_str).collect()
    }

    /// As the file has them: ΔW = s · B · A, or s · B · W · A with the mixer W.
    fn factors(&self, py: Python<'_>, module: &str) -> PyResult<Factors> {
        let factor = |which| Array::of_factor(&self.inner, module, which);
        match (
            self.inner.modules.get(module),
            factor(Factor::B),
            factor(Factor::A),
        ) {
            (Some(found), Some(b), Some(a)) => Ok((b, a, factor(Factor::Mixer), found.scaling)),
            _ => Err(bad_input(
                py,
                format!("the adapter has no module `{module}`"),
            )),
        }
    }

    /// B' and A with ΔW = B' · A: scaling and mixer multiplied into B.
    fn folded(&self, py: Python<'_>, module: &str) -> PyResult<(Array, Array)> {
        let found = self.inner.modules.get(module);
        let found =
            found.ok_or_else(|| bad_input(py, format!("the adapter has no module `{module}`")))?;
        let (b, a) = found.folded();
        Ok((b.into(), a.into()))
    }

    /// The heads that it brings, by their names.
    #[getter]
    fn heads(&self) -> BTreeMap<&str, Array> {
        let heads = self.inner.heads.iter();
        heads
            .map(|(name, head)| (name.as_str(), head.clone().into()))
            .collect()
    }

    /// The names of the labels, if it has them.
    #[getter]
    fn labels(&self) -> Option<Vec<String>> {
        self.inner.labels.as_ref().map(|labels| labels.0.clone())
    }
}
