//! The result of a training of a diffusion model: an adapter in diffusers' form, and its coefficients.

use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_adapter::{
    Adapter, Dialect, PeftConfig, Provenance, SaveOptions, Source, Style, TargetModules,
};
use eigenmix_moslora::{TrainedValues, Update};
use eigenmix_tensors::FileError;
use serde_json::json;

use super::diffusion_base::DiffusionBase;
use super::training::DiffusionTraining;
use crate::TrainerError;
use crate::adapted_model::AdaptedModel;
use crate::checkpoint::write_values;
use crate::config::TrainConfig;
use crate::run::Run;

impl DiffusionTraining {
    /// Writes `adapter/`, and `coefficients.safetensors` where the method is on other adapters, below `run`.
    /// Returns the bytes to keep for this training.
    ///
    /// # Errors
    /// If something cannot be written.
    pub(super) fn save(&self, values: &TrainedValues, run: &Path) -> Result<u64, TrainerError> {
        let path = run.join(Run::ADAPTER);
        let (base, sources) = (&self.base, self.all_sources());
        save_adapter(&self.config, base, &self.updates, values, sources, &path)?;
        let kept = match self.config.adapter.method.is_on_adapters() {
            true => {
                let path = run.join(Run::COEFFICIENTS);
                write_values(&path, values)?;
                path
            }
            false => path.join(Run::PIPELINE_ADAPTER),
        };
        let metadata = std::fs::metadata(&kept).map_err(FileError::io("read", &kept))?;
        Ok(metadata.len())
    }
}

/// Writes trained updates as the adapter that diffusers would, in a directory.
///
/// - sources: the adapters that went into it
///
/// # Errors
/// If a value is missing, or something cannot be written.
pub(super) fn save_adapter(
    config: &TrainConfig,
    base: &DiffusionBase,
    updates: &BTreeMap<String, Update>,
    values: &TrainedValues,
    sources: Vec<Source>,
    directory: &Path,
) -> Result<(), TrainerError> {
    let mut modules = BTreeMap::new();
    for (path, update) in updates {
        let mut module = update.clone().with_values(path, values)?.fold();
        module.layer = base.layer_kind(path);
        modules.insert(path.clone(), module);
    }
    let ranks: BTreeMap<String, usize> = modules
        .iter()
        .map(|(path, module)| (path.clone(), module.rank()))
        .collect();
    let rank = ranks.values().copied().max().unwrap_or(1);
    let targets = TargetModules::Names(modules.keys().cloned().collect());
    let name = base.adapters_name();
    let peft = PeftConfig::lora(name, rank, targets, &[], None, &ranks)?;
    let provenance = Provenance {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        method: format!("train/{}", config.adapter.method.name()),
        sources,
        options: json!(config.adapter),
        input: None,
    };
    let options = SaveOptions {
        force: true,
        provenance: Some(provenance),
        companions: Vec::new(),
    };
    let style = Style::new(Dialect::Diffusers);
    Ok(Adapter::new(peft, modules).save_as(directory, &style, &options)?)
}
