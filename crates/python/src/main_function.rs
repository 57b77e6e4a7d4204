//! The command line, for the console script of the package.

use std::ffi::OsString;
use std::path::PathBuf;

use eigenmix::Program;
use pyo3::prelude::*;

/// Runs the command line and returns its exit status.
///
/// - words: the name of the program and its arguments
/// - interpreter: the Python interpreter, which runs the cells of an experiment with `--jobs`
#[pyfunction]
pub(crate) fn main(py: Python<'_>, words: Vec<OsString>, interpreter: PathBuf) -> u8 {
    eigenmix::set_program(Program {
        executable: interpreter,
        arguments: ["-m", "eigenmix"].map(OsString::from).into(),
    });
    py.detach(|| eigenmix::main(words))
}
