//! The result of a finished training of a diffusion model: an adapter in diffusers' form, and its coefficients.

use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_adapter::{
    Adapter, Dialect, PeftConfig, Provenance, SaveOptions, Style, TargetModules,
};
use eigenmix_moslora::TrainedValues;
use eigenmix_tensors::FileError;
use serde_json::json;

use super::training::DiffusionTraining;
use crate::TrainerError;
use crate::adapted_model::AdaptedModel;
use crate::checkpoint::write_values;
use crate::run::Run;

impl DiffusionTraining {
    /// Writes `adapter/`, and `coefficients.safetensors` where the method is on other adapters, below `run`.
    /// Returns the bytes to keep for this training.
    ///
    /// # Errors
    /// If something cannot be written.
    pub(super) fn save(&self, values: &TrainedValues, run: &Path) -> Result<u64, TrainerError> {
        let (config, base, updates) = (&self.config, &self.base, &self.updates);
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
        let adapter = Adapter::new(peft, modules);
        let provenance = Provenance {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            method: format!("train/{}", config.adapter.method.name()),
            sources: self.all_sources(),
            options: json!(config.adapter),
            input: None,
        };
        let path = run.join(Run::ADAPTER);
        let options = SaveOptions {
            force: true,
            provenance: Some(provenance),
            companions: Vec::new(),
        };
        adapter.save_as(&path, &Style::new(Dialect::Diffusers), &options)?;
        let kept = match config.adapter.method.is_on_adapters() {
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
