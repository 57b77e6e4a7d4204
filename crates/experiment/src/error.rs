//! Why an experiment, a merge or an extraction could not be done.

use std::error::Error;
use std::io;

use eigenmix_adapter::AdapterError;
use eigenmix_data::DataError;
use eigenmix_data::metrics::MetricError;
use eigenmix_eigenlorax::EigenloraxError;
use eigenmix_hub::HubError;
use eigenmix_merging::MergeError;
use eigenmix_models::ModelError;
use eigenmix_tensors::FileError;
use eigenmix_trainer::{RunError, TrainerError};

use crate::config_file::{BadConfig, ConfigError, OverrideError};

/// What was given cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadInput(pub String);

/// Why something of this crate failed; [`crate::is_bad_input`] says whose fault that is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExperimentError {
    #[error(transparent)]
    Input(#[from] BadInput),

    #[error(transparent)]
    Config(#[from] ConfigError),

    /// What an error happened in, such as a stage or the data of a task.
    #[error("{what}")]
    Within {
        what: String,
        #[source]
        source: Box<ExperimentError>,
    },

    /// What a cell in a process of its own failed with, as that process tells it.
    #[error("{problem}")]
    Cell { problem: String, is_bad_input: bool },

    /// A process for a cell ended without a word about its cell.
    #[error("its process ended: {status}{}", said(.words))]
    Crashed { status: String, words: String },

    #[error("cannot {action}")]
    Process {
        action: &'static str,
        #[source]
        source: io::Error,
    },

    #[error("a [[train]] stage failed, and without it nothing else can be made")]
    StageFailed,

    /// Some cells ended in an error; the others are finished and reported.
    #[error("{failed} of {of} cells failed; the same command tries them again")]
    CellsFailed { failed: usize, of: usize },

    /// The work was stopped before its end, and what it did so far is saved.
    #[error("interrupted")]
    Interrupted,

    #[error("cannot be written as JSON")]
    Json(#[from] serde_json::Error),

    #[error("cannot be written as TOML")]
    Toml(#[from] toml::ser::Error),

    #[error(transparent)]
    File(#[from] FileError),

    #[error(transparent)]
    Hub(Box<HubError>),

    #[error(transparent)]
    Adapter(Box<AdapterError>),

    #[error(transparent)]
    Eigenlorax(Box<EigenloraxError>),

    #[error(transparent)]
    Merge(Box<MergeError>),

    #[error(transparent)]
    Data(Box<DataError>),

    #[error(transparent)]
    Metric(#[from] MetricError),

    #[error(transparent)]
    Model(Box<ModelError>),

    #[error(transparent)]
    Run(Box<RunError>),

    #[error(transparent)]
    Trainer(Box<TrainerError>),
}

/// Boxed, so that what succeeds need not carry the room for them.
macro_rules! boxed {
    ($($variant:ident($kind:ty)),+ $(,)?) => {
        $(impl From<$kind> for ExperimentError {
            fn from(error: $kind) -> Self {
                Self::$variant(Box::new(error))
            }
        })+
    };
}

boxed!(
    Hub(HubError),
    Adapter(AdapterError),
    Eigenlorax(EigenloraxError),
    Merge(MergeError),
    Data(DataError),
    Model(ModelError),
    Run(RunError),
    Trainer(TrainerError),
);

impl From<BadConfig> for ExperimentError {
    fn from(error: BadConfig) -> Self {
        Self::Config(error.into())
    }
}

impl From<OverrideError> for ExperimentError {
    fn from(error: OverrideError) -> Self {
        Self::Config(error.into())
    }
}

impl ExperimentError {
    /// An [`ExperimentError::Process`]; `action` completes "cannot …".
    pub(crate) fn process(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Process { action, source }
    }
}

fn said(words: &str) -> String {
    match words.trim() {
        "" => String::new(),
        words => format!("; it said: {words}"),
    }
}

/// Names what an error happened in.
pub(crate) trait Within<T> {
    fn within(self, what: impl FnOnce() -> String) -> Result<T, ExperimentError>;
}

impl<T, E: Into<ExperimentError>> Within<T> for Result<T, E> {
    fn within(self, what: impl FnOnce() -> String) -> Result<T, ExperimentError> {
        self.map_err(|error| ExperimentError::Within {
            what: what(),
            source: Box::new(error.into()),
        })
    }
}

/// An error and its causes in one line, except the causes that it quotes already.
pub fn message(error: &(dyn Error + 'static)) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !message.contains(&words) {
            message = format!("{message}: {words}");
        }
        cause = error.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> io::Error {
        io::Error::from(io::ErrorKind::StorageFull)
    }

    #[test]
    fn a_cause_is_said_once() {
        let error = FileError::io("write", "x".as_ref())(full());
        assert_eq!(message(&error), format!("cannot write `x`: {}", full()));
        let quoting: Result<(), _> = Err(FileError::io("write", "x".as_ref())(full()))
            .within(|| format!("no luck: cannot write `x`, {}", full()));
        let quoting = quoting.expect_err("an error");
        assert_eq!(
            message(&quoting),
            format!("no luck: cannot write `x`, {}", full())
        );
    }
}
