//! Error messages and exit statuses.

use eigenmix_experiment::{is_bad_input, message};

use crate::console::{OutputClosed, say_error};

/// The status for wrong usage and bad input, which clap uses as well.
pub(crate) const BAD_INPUT: u8 = 2;
const OTHER: u8 = 1;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    /// What a person reads.
    pub message: String,
    /// The exit status that the command line has for it: 2 for wrong usage or bad input, 1 otherwise.
    pub status: u8,
}

/// An error of the libraries as the command line would report it.
pub fn failure(error: &(dyn std::error::Error + 'static)) -> CallError {
    CallError {
        message: message(error),
        status: match is_bad_input(error) {
            true => BAD_INPUT,
            false => OTHER,
        },
    }
}

/// Prints `error` in one line and returns its exit status.
///
/// - speaks: whether this process is the one that says it
pub(crate) fn report(error: &anyhow::Error, speaks: bool) -> u8 {
    // The reader of the pipe, such as `head`, closed it on purpose.
    if error.is::<OutputClosed>() {
        return 0;
    }
    let CallError { message, status } = failure(error.as_ref());
    if speaks {
        say_error(message);
    }
    status
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
        let failed = failure(error.as_ref());
        assert_eq!(failed.status, 2);
        assert!(failed.message.starts_with("while reading: "));
    }

    #[test]
    fn a_full_disk_is_not_the_inputs_fault() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = FileError::io("write", "x".as_ref())(full);
        assert_eq!(failure(&error).status, 1);
    }
}
