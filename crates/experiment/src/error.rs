//! Why an experiment, a merge or an extraction could not be done.

use std::error::Error;
use std::io;

use eigenmix_adapter::{AdapterError, RowProblem};
use eigenmix_data::DataError;
use eigenmix_data::metrics::MetricError;
use eigenmix_diffusion::DiffusionError;
use eigenmix_eigenlorax::EigenloraxError;
use eigenmix_hub::HubError;
use eigenmix_merging::MergeError;
use eigenmix_models::ModelError;
use eigenmix_store::StoreError;
use eigenmix_tensors::FileError;
use eigenmix_trainer::{ProcessError, RunError, TrainerError};

use crate::config_file::{BadConfig, ConfigError, OverrideError};

/// An input that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadInput(pub String);

/// The error of this crate; [`crate::is_bad_input`] says whether the input caused it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExperimentError {
    #[error(transparent)]
    Input(#[from] BadInput),

    #[error(transparent)]
    Config(#[from] ConfigError),

    /// The context of an error, such as a stage or the data of a task.
    #[error("{what}")]
    Within {
        what: String,
        #[source]
        source: Box<ExperimentError>,
    },

    /// The error of a cell in its own process, as that process reported it.
    #[error("{problem}")]
    Cell { problem: String, is_bad_input: bool },

    /// The process of a cell ended without reporting the cell's result.
    #[error("its process ended: {status}{}", said(.words))]
    Crashed { status: String, words: String },

    #[error("cannot {action}")]
    Process {
        action: &'static str,
        #[source]
        source: io::Error,
    },

    #[error("a [[train]] stage failed, and later stages need it")]
    StageFailed,

    /// Some cells ended in an error; the others are finished and reported.
    #[error("{failed} of {of} cells failed; run the same command to retry them")]
    CellsFailed { failed: usize, of: usize },

    /// The work was stopped before its end; its results so far are saved.
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
    Store(Box<StoreError>),

    #[error(transparent)]
    Merge(Box<MergeError>),

    #[error(transparent)]
    Data(Box<DataError>),

    #[error(transparent)]
    Metric(#[from] MetricError),

    #[error(transparent)]
    Model(Box<ModelError>),

    #[error(transparent)]
    Diffusion(Box<DiffusionError>),

    #[error(transparent)]
    Run(Box<RunError>),

    #[error(transparent)]
    Trainer(Box<TrainerError>),

    #[error(transparent)]
    Processes(#[from] ProcessError),
}

/// Boxed, so that a success does not carry their size.
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
    Store(StoreError),
    Data(DataError),
    Diffusion(DiffusionError),
    Model(ModelError),
    Run(RunError),
    Trainer(TrainerError),
);

impl From<RowProblem> for ExperimentError {
    fn from(problem: RowProblem) -> Self {
        BadInput(problem.to_string()).into()
    }
}

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

/// Adds the context of an error.
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
