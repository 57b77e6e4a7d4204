//! Values of the engine as NumPy sees them: in place, read-only.

use std::sync::Arc;

use eigenmix_adapter::Adapter;
use eigenmix_eigenlorax::{Basis, Subspace};
use eigenmix_tensors::{HostTensor, Matrix};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// Whose values they are. An array keeps them alive.
enum Owner {
    Values(Vec<f32>),
    Side {
        subspace: Arc<Subspace>,
        module: String,
        is_left: bool,
    },
    Factor {
        adapter: Arc<Adapter>,
        module: String,
        which: Factor,
    },
}

/// A matrix of an adapted module.
#[derive(Clone, Copy)]
pub(crate) enum Factor {
    A,
    B,
    Mixer,
}

/// Values that `numpy.asarray` takes without copying them.
#[pyclass(frozen, module = "eigenmix._engine")]
pub(crate) struct Array {
    owner: Owner,
    shape: Vec<usize>,
}

impl Array {
    /// U `[d_out, p]` or V `[d_in, q]` of a module of the subspace; none if it has no such module.
    pub(crate) fn of_side(subspace: &Arc<Subspace>, module: &str, is_left: bool) -> Option<Self> {
        let shape = side(subspace, module, is_left)?.vectors().shape().to_vec();
        let owner = Owner::Side {
            subspace: Arc::clone(subspace),
            module: module.to_owned(),
            is_left,
        };
        Some(Self { owner, shape })
    }

    /// A matrix of a module of the adapter; none if it has no such module, or no such matrix.
    pub(crate) fn of_factor(adapter: &Arc<Adapter>, module: &str, which: Factor) -> Option<Self> {
        let shape = factor(adapter, module, which)?.shape().to_vec();
        let owner = Owner::Factor {
            adapter: Arc::clone(adapter),
            module: module.to_owned(),
            which,
        };
        Some(Self { owner, shape })
    }

    fn values(&self) -> &[f32] {
        let values = match &self.owner {
            Owner::Values(values) => Some(values.as_slice()),
            Owner::Side {
                subspace,
                module,
                is_left,
            } => side(subspace, module, *is_left).map(|side| side.vectors().values()),
            Owner::Factor {
                adapter,
                module,
                which,
            } => factor(adapter, module, *which).map(Matrix::values),
        };
        // Neither a subspace nor an adapter loses a module.
        values.unwrap_or_default()
    }
}

impl From<Matrix> for Array {
    fn from(matrix: Matrix) -> Self {
        Self {
            shape: matrix.shape().to_vec(),
            owner: Owner::Values(matrix.into_values()),
        }
    }
}

impl From<HostTensor> for Array {
    fn from(tensor: HostTensor) -> Self {
        Self {
            shape: tensor.shape,
            owner: Owner::Values(tensor.values),
        }
    }
}

fn side<'a>(subspace: &'a Subspace, module: &str, is_left: bool) -> Option<&'a Basis> {
    let module = subspace.modules.get(module)?;
    Some(match is_left {
        true => &module.left,
        false => &module.right,
    })
}

fn factor<'a>(adapter: &'a Adapter, module: &str, which: Factor) -> Option<&'a Matrix> {
    let module = adapter.modules.get(module)?;
    match which {
        Factor::A => Some(&module.a),
        Factor::B => Some(&module.b),
        Factor::Mixer => module.mixer.as_ref(),
    }
}

#[pymethods]
impl Array {
    /// What `numpy.asarray` asks for: where the values are, and their shape.
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let order = match cfg!(target_endian = "little") {
            true => "<f4",
            false => ">f4",
        };
        let is_read_only = true;
        let interface = PyDict::new(py);
        interface.set_item("shape", PyTuple::new(py, &self.shape)?)?;
        interface.set_item("typestr", order)?;
        let address = self.values().as_ptr().addr();
        interface.set_item("data", (address, is_read_only))?;
        interface.set_item("version", 3)?;
        Ok(interface)
    }
}
