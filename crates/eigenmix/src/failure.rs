//! What a failed command says and which status it leaves.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use eigenmix_adapter::{AdapterError, AdapterSetError};
use eigenmix_data::DataError;
use eigenmix_eigenlorax::EigenloraxError;
use eigenmix_hub::HubError;
use eigenmix_merging::MergeError;
use eigenmix_models::ModelError;
use eigenmix_tensors::FileError;
use eigenmix_trainer::TrainerError;

use crate::config_file::BadConfig;
use crate::console::{OutputClosed, say_error};
use crate::overrides::OverrideError;

/// The status for wrong usage and bad input, which clap uses as well.
const BAD_INPUT: u8 = 2;
const OTHER: u8 = 1;

/// What was given cannot be used: the status will be 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadInput(pub(crate) String);

/// Prints `error` in one line and gives the status it stands for.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    // Whoever closed the pipe, such as `head`, has seen enough.
    if error.is::<OutputClosed>() {
        return ExitCode::SUCCESS;
    }
    say_error(message(error));
    ExitCode::from(status(error))
}

/// The error and its causes, except those that it quotes already.
pub(crate) fn message(error: &anyhow::Error) -> String {
    let mut message = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if message.is_empty() {
            message = cause;
        } else if !message.contains(&cause) {
            message = format!("{message}: {cause}");
        }
    }
    message
}

fn status(error: &anyhow::Error) -> u8 {
    if error.chain().any(is_bad_input) {
        BAD_INPUT
    } else {
        OTHER
    }
}

/// Whether something in what the user gave has to change before the command can succeed.
fn is_bad_input(cause: &(dyn Error + 'static)) -> bool {
    if let Some(error) = cause.downcast_ref::<AdapterError>() {
        return adapter_is_bad_input(error);
    }
    if let Some(error) = cause.downcast_ref::<FileError>() {
        return file_is_bad_input(error);
    }
    if let Some(error) = cause.downcast_ref::<HubError>() {
        return hub_is_bad_input(error);
    }
    if let Some(error) = cause.downcast_ref::<DataError>() {
        return data_is_bad_input(error);
    }
    if let Some(error) = cause.downcast_ref::<EigenloraxError>() {
        return match error {
            EigenloraxError::Set(error) => set_is_bad_input(error),
            EigenloraxError::Adapter(error) => adapter_is_bad_input(error),
            EigenloraxError::File(error) => file_is_bad_input(error),
            EigenloraxError::Unreadable { source, .. } => source.kind() == io::ErrorKind::NotFound,
            EigenloraxError::Decomposition { .. } => false,
            _ => true,
        };
    }
    if let Some(error) = cause.downcast_ref::<MergeError>() {
        return match error {
            MergeError::Set(error) => set_is_bad_input(error),
            MergeError::Adapter(error) => adapter_is_bad_input(error),
            MergeError::File(error) => file_is_bad_input(error),
            MergeError::Decomposition { .. } => false,
            _ => true,
        };
    }
    if let Some(error) = cause.downcast_ref::<TrainerError>() {
        return trainer_is_bad_input(error);
    }
    cause.is::<BadInput>()
        || cause.is::<BadConfig>()
        || cause.is::<OverrideError>()
        || cause.is::<ModelError>()
}

fn trainer_is_bad_input(error: &TrainerError) -> bool {
    match error {
        TrainerError::Checkpoint { .. } => false,
        TrainerError::Adapter(error) => adapter_is_bad_input(error),
        TrainerError::File(error) => file_is_bad_input(error),
        TrainerError::Data(error) => data_is_bad_input(error),
        _ => true,
    }
}

/// A Hub id that cannot be fetched counts as bad input: it may as well be a misspelt path.
fn adapter_is_bad_input(error: &AdapterError) -> bool {
    match error {
        AdapterError::Hub(error) => hub_is_bad_input(error),
        AdapterError::File(error) => file_is_bad_input(error),
        _ => true,
    }
}

fn set_is_bad_input(error: &AdapterSetError) -> bool {
    match error {
        AdapterSetError::Adapter(error) => adapter_is_bad_input(error),
        _ => true,
    }
}

/// What the disk refuses is nobody's input.
fn file_is_bad_input(error: &FileError) -> bool {
    !matches!(error, FileError::Io { .. })
}

fn data_is_bad_input(error: &DataError) -> bool {
    match error {
        DataError::Hub(error) => hub_is_bad_input(error),
        _ => true,
    }
}

fn hub_is_bad_input(error: &HubError) -> bool {
    !matches!(
        error,
        HubError::Io { .. }
            | HubError::Answer { .. }
            | HubError::Damaged { .. }
            | HubError::NoCacheDirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn bad_input_is_found_beneath_any_context() {
        let failed: Result<(), _> = Err(FileError::NotFound("x".into()));
        let error = failed.context("while reading").expect_err("an error");
        assert_eq!(status(&error), 2);
        let wrapped = EigenloraxError::Adapter(AdapterError::NotAnAdapter("x".into()));
        assert_eq!(status(&wrapped.into()), 2);
    }

    #[test]
    fn a_cause_is_said_once() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let error = anyhow::Error::new(full()).context("cannot write");
        assert_eq!(message(&error), format!("cannot write: {}", full()));
        let quoting = anyhow::Error::new(full()).context(format!("no luck: {}", full()));
        assert_eq!(message(&quoting), format!("no luck: {}", full()));
    }

    #[test]
    fn a_full_disk_is_not_the_inputs_fault() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = FileError::io("write", "x".as_ref())(full);
        assert_eq!(status(&error.into()), 1);
    }
}
