//! Error messages and exit statuses.

use std::process::ExitCode;

use eigenmix_experiment::{is_bad_input, message};

use crate::console::{OutputClosed, say_error};

/// The status for wrong usage and bad input, which clap uses as well.
const BAD_INPUT: u8 = 2;
const OTHER: u8 = 1;

/// Prints `error` in one line and returns its exit status.
///
/// - speaks: whether this process is the one that says it
pub(crate) fn report(error: &anyhow::Error, speaks: bool) -> ExitCode {
    // The reader of the pipe, such as `head`, closed it on purpose.
    if error.is::<OutputClosed>() {
        return ExitCode::SUCCESS;
    }
    if speaks {
        say_error(message(error.as_ref()));
    }
    ExitCode::from(status(error))
}

fn status(error: &anyhow::Error) -> u8 {
    match is_bad_input(error.as_ref()) {
        true => BAD_INPUT,
        false => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::Context;
    use eigenmix_tensors::FileError;

    use super::*;

    #[test]
    fn bad_input_is_found_beneath_any_context() {
        let failed: Result<(), _> = Err(FileError::NotFound("x".into()));
        let error = failed.context("while reading").expect_err("an error");
        assert_eq!(status(&error), 2);
        assert!(message(error.as_ref()).starts_with("while reading: "));
    }

    #[test]
    fn a_full_disk_is_not_the_inputs_fault() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = FileError::io("write", "x".as_ref())(full);
        assert_eq!(status(&error.into()), 1);
    }
}
