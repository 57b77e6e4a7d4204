//! Whether the input or the machine is to blame for an error.

use std::error::Error;
use std::io;

use eigenmix_adapter::{AdapterError, AdapterSetError};
use eigenmix_data::DataError;
use eigenmix_diffusion::DiffusionError;
use eigenmix_eigenlorax::EigenloraxError;
use eigenmix_hub::HubError;
use eigenmix_merging::MergeError;
use eigenmix_models::ModelError;
use eigenmix_store::StoreError;
use eigenmix_tensors::FileError;
use eigenmix_trainer::{ProcessError, RunError, TrainerError};

use crate::config_file::{BadConfig, ConfigError, OverrideError};
use crate::{BadInput, ExperimentError};

/// Whether the user's input has to change before the work can succeed.
///
/// One answer for every error of Eigenmix, from which the command line makes its exit status.
pub fn is_bad_input(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if judged(error) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The verdict on one error, without its causes.
fn judged(error: &(dyn Error + 'static)) -> bool {
    macro_rules! verdict {
        ($($kind:ty),+) => {
            $(if let Some(error) = error.downcast_ref::<$kind>() {
                return error.is_bad_input();
            })+
        };
    }
    verdict!(
        ExperimentError,
        RunError,
        TrainerError,
        ProcessError,
        EigenloraxError,
        MergeError,
        StoreError,
        AdapterError,
        DataError,
        HubError,
        FileError
    );
    error.is::<BadInput>()
        || error.is::<ConfigError>()
        || error.is::<BadConfig>()
        || error.is::<OverrideError>()
        || error.is::<ModelError>()
        || error.is::<DiffusionError>()
}

trait Fault {
    fn is_bad_input(&self) -> bool;
}

impl Fault for ProcessError {
    fn is_bad_input(&self) -> bool {
        match self {
            Self::NotBuilt { .. } | Self::Different { .. } => true,
            Self::Failed { .. } | Self::Mpi { .. } | Self::Malformed { .. } => false,
        }
    }
}

impl Fault for ExperimentError {
    fn is_bad_input(&self) -> bool {
        match self {
            Self::Input(_) | Self::Config(_) | Self::Model(_) | Self::Diffusion(_) => true,
            Self::Cell { is_bad_input, .. } => *is_bad_input,
            Self::Within { source, .. } => is_bad_input(source.as_ref()),
            Self::File(error) => error.is_bad_input(),
            Self::Hub(error) => error.is_bad_input(),
            Self::Adapter(error) => error.is_bad_input(),
            Self::Eigenlorax(error) => error.is_bad_input(),
            Self::Merge(error) => error.is_bad_input(),
            Self::Store(error) => error.is_bad_input(),
            Self::Data(error) => error.is_bad_input(),
            Self::Run(error) => error.is_bad_input(),
            Self::Trainer(error) => error.is_bad_input(),
            Self::Processes(error) => error.is_bad_input(),
            Self::Crashed { .. }
            | Self::Process { .. }
            | Self::StageFailed
            | Self::CellsFailed { .. }
            | Self::Interrupted
            | Self::Json(_)
            | Self::Toml(_)
            | Self::Metric(_) => false,
        }
    }
}

impl Fault for RunError {
    fn is_bad_input(&self) -> bool {
        match self {
            Self::File(error) => error.is_bad_input(),
            _ => true,
        }
    }
}

impl Fault for TrainerError {
    fn is_bad_input(&self) -> bool {
        match self {
            Self::Checkpoint { .. } => false,
            Self::Hub(error) => error.is_bad_input(),
            Self::Store(error) => error.is_bad_input(),
            Self::Adapter(error) => error.is_bad_input(),
            Self::File(error) => error.is_bad_input(),
            Self::Data(error) => error.is_bad_input(),
            _ => true,
        }
    }
}

impl Fault for AdapterSetError {
    fn is_bad_input(&self) -> bool {
        match self {
            Self::Adapter(error) => error.is_bad_input(),
            _ => true,
        }
    }
}

impl Fault for EigenloraxError {
    fn is_bad_input(&self) -> bool {
        match self {
            Self::Set(error) => error.is_bad_input(),
            Self::Adapter(error) => error.is_bad_input(),
            Self::File(error) => error.is_bad_input(),
            Self::Unreadable { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Decomposition { .. } => false,
            _ => true,
        }
    }
}

impl Fault for StoreError {
    fn is_bad_input(&self) -> bool {
        match self {
            Self::Set(error) => error.is_bad_input(),
            Self::Eigenlorax(error) => error.is_bad_input(),
            Self::Adapter(error) => error.is_bad_input(),
            Self::File(error) => error.is_bad_input(),
            Self::Unreadable { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Decomposition { .. } => false,
            _ => true,
        }
    }
}

impl Fault for MergeError {
    fn is_bad_input(&self) -> bool {
        match self {
            Self::Set(error) => error.is_bad_input(),
            Self::Adapter(error) => error.is_bad_input(),
            Self::File(error) => error.is_bad_input(),
            Self::Decomposition { .. } => false,
            _ => true,
        }
    }
}

impl Fault for AdapterError {
    fn is_bad_input(&self) -> bool {
        match self {
            Self::File(error) => error.is_bad_input(),
            _ => true,
        }
    }
}

impl Fault for DataError {
    fn is_bad_input(&self) -> bool {
        match self {
            Self::Hub(error) => error.is_bad_input(),
            _ => true,
        }
    }
}

/// A Hub id that cannot be fetched counts as bad input: it may as well be a misspelt path.
impl Fault for HubError {
    fn is_bad_input(&self) -> bool {
        match self {
            Self::Adapter(error) => error.is_bad_input(),
            Self::Io { .. }
            | Self::Answer { .. }
            | Self::Damaged { .. }
            | Self::NoCacheDirectory => false,
            _ => true,
        }
    }
}

/// An error of the disk is not the input's fault.
impl Fault for FileError {
    fn is_bad_input(&self) -> bool {
        !matches!(self, Self::Io { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Within;

    #[test]
    fn bad_input_is_found_beneath_any_context() {
        let failed: Result<(), _> = Err(FileError::NotFound("x".into()));
        let error = failed.within(|| "while reading".to_owned());
        assert!(is_bad_input(&error.expect_err("an error")));
        let wrapped = EigenloraxError::Adapter(AdapterError::NotAnAdapter("x".into()));
        assert!(is_bad_input(&wrapped));
    }

    #[test]
    fn a_full_disk_is_not_the_inputs_fault() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let error = || FileError::io("write", "x".as_ref())(full());
        assert!(!is_bad_input(&ExperimentError::from(error())));
        // However deep it lies.
        let of_a_set = AdapterSetError::from(AdapterError::from(error()));
        assert!(!is_bad_input(&MergeError::from(of_a_set)));
        let of_the_hub = HubError::from(AdapterError::from(error()));
        assert!(!is_bad_input(&TrainerError::from(of_the_hub)));
    }
}
