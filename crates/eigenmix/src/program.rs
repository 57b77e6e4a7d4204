//! How this program is started again, for the cells of an experiment that have a process each.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// An executable and the arguments that come before those of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The executable.
    pub executable: PathBuf,
    /// Such as `-m eigenmix` of a Python interpreter.
    pub arguments: Vec<OsString>,
}

static PROGRAM: OnceLock<Program> = OnceLock::new();

/// Sets how the command line is started from a process whose executable is another program; only the
/// first call counts.
pub fn set_program(program: Program) {
    // A process has one executable, so a second call would say the same.
    let _ = PROGRAM.set(program);
}

/// A process of this program, without arguments of a command yet.
///
/// # Errors
/// If the system does not tell where the executable is.
pub(crate) fn command() -> io::Result<Command> {
    let Some(program) = PROGRAM.get() else {
        return Ok(Command::new(std::env::current_exe()?));
    };
    let mut command = Command::new(&program.executable);
    command.args(&program.arguments);
    Ok(command)
}
