//! An adapter of a diffusion model made again from the few numbers that were trained: `coefficients.safetensors`,
//! `basis.json` and `config.toml` of a run, and the subspace or the adapters that the last names.

use std::path::Path;

use eigenmix_adapter::Source;
use eigenmix_tensors::FileError;

use super::diffusion_base::DiffusionBase;
use super::result::save_adapter;
use crate::TrainerError;
use crate::checkpoint::read_values;
use crate::config::TrainConfig;
use crate::methods::{BasisSource, start};
use crate::run::Run;
use crate::training::Origin;

/// Whether a run has kept its coefficients and not its adapter.
pub fn has_only_coefficients(run: &Path) -> bool {
    let place = Run::at(run);
    !place.adapter().exists() && place.coefficients().is_file() && run.join(Run::CONFIG).is_file()
}

/// Makes the adapter of such a run again, ΔW = s · U · M · Vᵀ folded to plain factors, in the directory `out`.
///
/// # Errors
/// If a file is missing or damaged, the adapters of the basis are not those of the training, or it was of no
/// diffusion model: labels, and how rows became inputs, are in the adapters of others alone.
pub fn rebuild_adapter(run: &Path, out: &Path) -> Result<(), TrainerError> {
    let path = run.join(Run::CONFIG);
    let text = std::fs::read_to_string(&path).map_err(FileError::io("read", &path))?;
    let mut config = TrainConfig::from_toml(&text)?;
    config.adapter.assume_weights();
    let refused = |reason: String| TrainerError::Coefficients {
        run: run.to_owned(),
        reason,
    };
    if !config.task.kind.is_of_diffusion_models() {
        let reason = "it is of no diffusion model; labels, and how rows became inputs, are in its adapter/ alone: \
                      put that back";
        return Err(refused(reason.to_owned()));
    }
    let values = read_values(&Run::at(run).coefficients())?;
    let base = DiffusionBase::open_config(&config.base, config.diffusion().train_text_encoders)?;
    let first = config.adapter.first_start();
    let started = start(&BasisSource {
        config: &config.adapter.starting_from(&first),
        base: &base,
        description: &base.description,
        seed: config.seed,
        gradient: None,
        composition: None,
    })?;
    let record = Run::at(run).basis();
    let record = record.map_err(|error| refused(error.to_string()))?;
    let record = record.ok_or_else(|| {
        let reason = format!(
            "`{}` is missing, which says what its basis was made of; put it back",
            run.join(Run::BASIS).display()
        );
        refused(reason)
    })?;
    require_same(&record.sources, &started.sources).map_err(refused)?;
    if let Some(module) = record.other_basis(&started.spectra) {
        let reason = format!(
            "the variances of its basis in `{module}` are others than in the training: {}",
            match config.adapter.subspace {
                Some(_) =>
                    "was the subspace extracted again with other options? Extract it as it was",
                None =>
                    "the adapters of its basis counted otherwise; say how in adapter.weights of its config.toml",
            }
        );
        return Err(refused(reason));
    }
    let origin = Origin {
        init: config.adapter.init(),
        updates: &started.updates,
        basis: &started.basis,
        sources: &started.sources,
        started_from: record.started_from.as_ref(),
    };
    let sources = origin.all_sources();
    save_adapter(&config, &base, &started.updates, &values, sources, out)
}

/// Whether the basis is made of the adapters that it was made of.
fn require_same(then: &[Source], now: &[Source]) -> Result<(), String> {
    let mut pairs = then.iter().zip(now);
    match pairs.find(|(then, now)| then.sha256 != now.sha256) {
        Some((then, now)) => Err(format!(
            "`{}` has changed since the training (SHA-256 {} then, {} now); put the earlier one back",
            now.location, then.sha256, now.sha256
        )),
        None if then.len() != now.len() => Err(format!(
            "its basis was made of {} adapters, and now is of {}; put the earlier ones back",
            then.len(),
            now.len()
        )),
        None => Ok(()),
    }
}
