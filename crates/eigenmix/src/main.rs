//! The binary of the command line, which the library of this package is.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(eigenmix::main(std::env::args_os()))
}
