//! `basis.json` in a run: what its subspace is made of, for reports. The vectors themselves are
//! where the subspace is, or follow from the adapters.

use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_adapter::Source;
use eigenmix_eigenlorax::ModuleSpectra;
use eigenmix_tensors::FileError;
use eigenmix_tensors::write_file;
use serde::{Deserialize, Serialize};

use crate::TrainerError;

/// The subspace that a run trained in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BasisRecord {
    /// The adapters that it was extracted from.
    pub sources: Vec<Source>,
    /// The variances of the components that were used, by module.
    pub modules: BTreeMap<String, ModuleSpectra>,
}

impl BasisRecord {
    const FILE_NAME: &str = "basis.json";

    /// The record of the run in `directory`; `None` if it has none, because its method has no basis
    /// or an earlier release wrote it.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn read(directory: &Path) -> Result<Option<Self>, FileError> {
        let path = directory.join(Self::FILE_NAME);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(FileError::io("read", &path)(error)),
        };
        let record = serde_json::from_str(&text);
        record
            .map(Some)
            .map_err(|error| FileError::io("read", &path)(error.into()))
    }

    pub(crate) fn write(&self, directory: &Path) -> Result<(), TrainerError> {
        let path = directory.join(Self::FILE_NAME);
        let text = serde_json::to_vec(self)
            .map_err(|error| FileError::io("write", &path)(error.into()))?;
        Ok(write_file(&path, &text)?)
    }
}
