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

/// How far variances of the same basis may be apart, computed on different machines.
const SAME_VARIANCE: f32 = 1e-3;

impl BasisRecord {
    /// A module in which a basis made again is another one than that of the run.
    pub(crate) fn other_basis<'a>(
        &'a self,
        now: &BTreeMap<String, ModuleSpectra>,
    ) -> Option<&'a String> {
        let is_same = |then: &[f32], now: &[f32]| {
            // The weakest components are known to no more than this share of the strongest.
            let floor = 1e-6 * then.first().copied().unwrap_or(0.0);
            let strong =
                |variances: &[f32]| variances.iter().take_while(|value| **value > floor).count();
            let (then, now) = (&then[..strong(then)], &now[..strong(now)]);
            let close = |(then, now): (&f32, &f32)| {
                (then - now).abs() <= SAME_VARIANCE * then.abs().max(now.abs()) + floor
            };
            then.len() == now.len() && then.iter().zip(now).all(close)
        };
        let other = self.modules.iter().find(|(path, then)| {
            now.get(*path).is_none_or(|now| {
                !is_same(&then.left.variance, &now.left.variance)
                    || !is_same(&then.right.variance, &now.right.variance)
            })
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
