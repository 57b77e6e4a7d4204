//! Whether a training that goes on has the start that it began with.

use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_adapter::Source;
use eigenmix_eigenlorax::ModuleSpectra;
use eigenmix_moslora::Update;

use super::NetworkTraining;
use crate::TrainerError;
use crate::basis_record::BasisRecord;
use crate::checkpoint::CheckpointState;
use crate::checkpoint_bytes::latest_checkpoint;
use crate::config::TrainConfig;
use crate::init::Init;
use crate::metrics_log::MetricsLog;
use crate::outcome::RunOptions;

/// What a training starts from and stands on.
pub(crate) struct Origin<'a> {
    pub init: Init,
    pub updates: &'a BTreeMap<String, Update>,
    /// What the frozen basis is made of.
    pub basis: &'a [Source],
    /// The adapters that were recycled.
    pub sources: &'a [Source],
    pub started_from: Option<&'a Source>,
}

impl NetworkTraining {
    pub(super) fn origin(&self) -> Origin<'_> {
        Origin {
            init: self.config.adapter.init(),
            updates: &self.updates,
            basis: &self.basis,
            sources: &self.sources,
            started_from: self.started_from.as_ref(),
        }
    }

    /// The adapters that went into the result: those that were recycled, and that of the start.
    pub(super) fn all_sources(&self) -> Vec<Source> {
        self.origin().all_sources()
    }
}

impl Origin<'_> {
    /// The adapters that went into the result: those that were recycled, and that of the start.
    pub fn all_sources(&self) -> Vec<Source> {
        let started_from = self.started_from.into_iter();
        let beside = started_from.filter(|source| !self.sources.contains(source));
        self.sources.iter().chain(beside).cloned().collect()
    }

    /// What of an earlier run a training goes on with: its last checkpoint, if it has one that began with this, and
    /// its log, cut to where the checkpoint was written.
    ///
    /// - output: the directory of the run, opened
    ///
    /// # Errors
    /// If a file cannot be read or opened, or the start has changed.
    pub fn go_on(
        &self,
        config: &TrainConfig,
        output: &Path,
        options: &RunOptions,
    ) -> Result<(Option<CheckpointState>, MetricsLog), TrainerError> {
        let processes = options.processes;
        let checkpoint = match options.resume {
            true => latest_checkpoint(output, processes)?,
            false => None,
        };
        if let Some(checkpoint) = &checkpoint {
            self.require_same_start(checkpoint)?;
        }
        if !processes.is_first() {
            return Ok((checkpoint, MetricsLog::elsewhere()));
        }
        let progress = checkpoint.as_ref().map(|state| &state.progress);
        let logged = progress.map_or(0, |progress| progress.metrics_bytes);
        let mut log = MetricsLog::open(output, logged)?;
        if config.training.tensorboard {
            log = log.with_events(output, progress.map(|progress| progress.step))?;
        }
        Ok((checkpoint, log))
    }

    /// Writes what the basis was made of, where the method has one.
    ///
    /// - spectra: the variances of its components, by module
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_basis(
        &self,
        spectra: &BTreeMap<String, ModuleSpectra>,
        output: &Path,
    ) -> Result<(), TrainerError> {
        if spectra.is_empty() {
            return Ok(());
        }
        let record = BasisRecord {
            sources: self.sources.to_vec(),
            started_from: self.started_from.cloned(),
            modules: spectra.clone(),
        };
        record.write(output)
    }

    /// The scalings of the updates, where they come from an adapter.
    pub fn scalings(&self) -> BTreeMap<String, f32> {
        match self.init {
            Init::Adapter(_) => {
                let updates = self.updates.iter();
                updates
                    .map(|(path, update)| (path.clone(), update.scaling))
                    .collect()
            }
            _ => BTreeMap::new(),
        }
    }

    /// Checks that the basis and the adapter to go on from are still those that the training began with:
    /// only what is trained is in the checkpoint, not the basis, nor the adapter's rank and scaling.
    fn require_same_start(&self, checkpoint: &CheckpointState) -> Result<(), TrainerError> {
        let progress = &checkpoint.progress;
        for (then, now) in progress.basis.iter().zip(self.basis) {
            if then.sha256 != now.sha256 {
                return Err(TrainerError::ChangedBasis {
                    location: now.location.clone(),
                    then: then.sha256.clone(),
                    now: now.sha256.clone(),
                });
            }
        }
        let (Some(then), Some(now)) = (&progress.started_from, self.started_from) else {
            return Ok(());
        };
        let change = match (
            then.sha256 == now.sha256,
            progress.scalings == self.scalings(),
        ) {
            (true, true) => return Ok(()),
            (false, _) => format!("SHA-256 {} then, {} now", then.sha256, now.sha256),
            (true, false) => "its alpha or its scaling is another".to_owned(),
        };
        Err(TrainerError::InitialAdapter {
            adapter: now.location.clone(),
            reason: format!(
                "it has changed since the training began ({change}); give the earlier one, or start \
                 over with --force"
            ),
        })
    }
}
