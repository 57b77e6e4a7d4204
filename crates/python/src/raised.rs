//! Errors of the libraries as the exception of the Python package.

use eigenmix::CallError;
use pyo3::prelude::*;

/// `eigenmix.EigenmixError` with the message and the exit status of `error`.
pub(crate) fn raised(py: Python<'_>, error: CallError) -> PyErr {
    let CallError { message, status } = error;
    let exception = py
        .import("eigenmix.errors")
        .and_then(|module| module.getattr("EigenmixError"))
        .and_then(|class| class.call1((message, status)));
    match exception {
        Ok(exception) => PyErr::from_value(exception),
        // Only if somebody took the package apart.
        Err(error) => error,
    }
}

/// The value, or the exception for an error of the libraries.
pub(crate) fn or_raised<T, E: std::error::Error + 'static>(
    py: Python<'_>,
    result: Result<T, E>,
) -> PyResult<T> {
    result.map_err(|error| raised(py, eigenmix::failure(&error)))
}

/// The exception for bad input.
pub(crate) fn bad_input(py: Python<'_>, message: String) -> PyErr {
    raised(py, CallError { message, status: 2 })
}
