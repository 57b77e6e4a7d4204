//! Configurations that Python has as dictionaries.

use pyo3::prelude::*;

use crate::raised::bad_input;

/// A JSON object as TOML.
///
/// # Errors
/// If it has what TOML has not, such as lists of values of which some are null.
#[pyfunction]
pub(crate) fn to_toml(py: Python<'_>, content: &str) -> PyResult<String> {
    let refused = |problem: String| bad_input(py, format!("the configuration: {problem}"));
    let table: serde_json::Value =
        serde_json::from_str(content).map_err(|error| refused(error.to_string()))?;
    let table = toml::Value::try_from(table).map_err(|error| refused(error.to_string()))?;
    toml::to_string(&table).map_err(|error| refused(error.to_string()))
}
