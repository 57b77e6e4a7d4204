//! `basis.json` in a run: the sources of its subspace, for reports. The vectors themselves are
//! where the subspace is, or follow from the adapters.

use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_adapter::Source;
use eigenmix_eigenlorax::ModuleSpectra;
use eigenmix_tensors::FileError;
use eigenmix_tensors::write_file;
use serde::{Deserialize, Serialize};

use crate::TrainerError;
use crate::run::Run;

/// The subspace that a run trained in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BasisRecord {
    /// The adapters that it was extracted from.
    pub sources: Vec<Source>,
    /// The adapter whose projection the coefficients started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_from: Option<Source>,
    /// The variances of the components that were used, by module.
    pub modules: BTreeMap<String, ModuleSpectra>,
}

impl BasisRecord {
    /// A module in which a basis made again is another one than that of the run.
    pub(crate) fn other_basis<'a>(
        &'a self,
        now: &BTreeMap<String, ModuleSpectra>,
    ) -> Option<&'a String> {
        let mut modules = self.modules.iter();
        let other = modules.find(|(path, then)| {
            let now = now.get(*path);
            !now.is_some_and(|now| then.is_near(now))
        });
        other.map(|(path, _)| path)
    }

    pub(crate) fn write(&self, directory: &Path) -> Result<(), TrainerError> {
        let path = directory.join(Run::BASIS);
        let text = serde_json::to_vec(self)
            .map_err(|error| FileError::io("write", &path)(error.into()))?;
        Ok(write_file(&path, &text)?)
    }
}
