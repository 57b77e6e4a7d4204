//! The Python module `eigenmix._engine`: commands called in process, and the matrices of subspaces and
//! adapters as arrays without a copy. What people import is the Python package around it, in `python/`.

mod adapter;
mod array;
mod call;
mod host;
mod main_function;
mod raised;
mod start;
mod subspace;
mod toml_text;

use pyo3::prelude::*;

#[pymodule]
#[pyo3(name = "_engine")]
fn engine(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<adapter::Adapter>()?;
    module.add_class::<array::Array>()?;
    module.add_class::<subspace::Subspace>()?;
    module.add_function(wrap_pyfunction!(call::call, module)?)?;
    module.add_function(wrap_pyfunction!(main_function::main, module)?)?;
    module.add_function(wrap_pyfunction!(start::factor_start, module)?)?;
    module.add_function(wrap_pyfunction!(start::basis_start, module)?)?;
    module.add_function(wrap_pyfunction!(toml_text::to_toml, module)?)?;
    Ok(())
}
