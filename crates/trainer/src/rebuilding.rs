//! An adapter made again from the few numbers that were trained: `coefficients.safetensors` and `config.toml` of
//! a run, and the subspace or the adapters that the latter names.

use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_adapter::{
    Adapter, Dialect, PeftConfig, Provenance, SaveOptions, Style, TargetModules,
};
use eigenmix_models::{Description, HeadKind};
use eigenmix_moslora::TrainedValues;
use eigenmix_tensors::FileError;
use serde_json::json;

use crate::adapted_model::AdaptedModel;
use crate::checkpoint::read_values;
use crate::config::TrainConfig;
use crate::diffusion::DiffusionBase;
use crate::methods::{BasisSource, start, with_own_output};
use crate::run::Run;
use crate::{BaseModel, TrainerError};

/// Whether a run has kept its coefficients and not its adapter.
pub fn has_only_coefficients(run: &Path) -> bool {
    let place = Run::at(run);
    !place.adapter().exists() && place.coefficients().is_file() && run.join(Run::CONFIG).is_file()
}

/// Makes the adapter of such a run again, ΔW = s · U · M · Vᵀ folded to plain factors, in the directory `out`.
///
/// # Errors
/// If a file is missing or damaged, the basis is not what it was, or the training had something that
/// coefficients alone do not tell: labels of a classifier, or the gradient of its task.
pub fn rebuild_adapter(run: &Path, out: &Path) -> Result<(), TrainerError> {
    let path = run.join(Run::CONFIG);
    let text = std::fs::read_to_string(&path).map_err(FileError::io("read", &path))?;
    let config = TrainConfig::from_toml(&text)?;
    let values = read_values(&Run::at(run).coefficients())?;
    let refused = |reason: &str| TrainerError::Coefficients {
        run: run.to_owned(),
        reason: reason.to_owned(),
    };
    if config.adapter.gradient_config().is_some() {
        return Err(refused(
            "the gradient of its task is part of the basis, which is in the run alone",
        ));
    }
    let provenance = |sources| Provenance {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        method: format!("train/{}", config.adapter.method.name()),
        sources,
        options: json!(config.adapter),
        input: None,
    };
    if config.task.kind.is_of_diffusion_models() {
        let texts = config.diffusion().train_text_encoders;
        let base = DiffusionBase::open_config(&config.base.model, texts)?;
        let (adapter, sources) = rebuilt(&config, &base, &base.description, &values)?;
        let options = SaveOptions {
            force: true,
            provenance: Some(provenance(sources)),
            companions: Vec::new(),
        };
        return Ok(adapter.save_as(out, &Style::new(Dialect::Diffusers), &options)?);
    }
    if !config.task.kind.is_of_language_models() {
        return Err(refused(
            "its labels are in its adapter/ alone; a classifier is not made again from coefficients",
        ));
    }
    let mut base = BaseModel::open_here(&config.base.model)?;
    let head = HeadKind::LanguageModel;
    if let Some(own) = with_own_output(&config.adapter, &base, head)? {
        base.architecture = own;
    }
    let description = base.architecture.describe(head)?;
    let (adapter, sources) = rebuilt(&config, &base, &description, &values)?;
    let options = SaveOptions {
        force: true,
        provenance: Some(provenance(sources)),
        companions: base.text_files()?,
    };
    Ok(adapter.save(out, &options)?)
}

fn rebuilt(
    config: &TrainConfig,
    base: &dyn AdaptedModel,
    description: &Description,
    values: &TrainedValues,
) -> Result<(Adapter, Vec<eigenmix_adapter::Source>), TrainerError> {
    let first = config.adapter.first_start();
    let started = start(&BasisSource {
        config: &config.adapter.starting_from(&first),
        base,
        description,
        seed: config.seed,
        gradient: None,
        composition: None,
    })?;
    let mut modules = BTreeMap::new();
    for (path, update) in started.updates {
        let mut module = update.with_values(&path, values)?.fold();
        module.layer = base.layer_kind(&path);
        modules.insert(path, module);
    }
    let ranks: BTreeMap<String, usize> = modules
        .iter()
        .map(|(path, module)| (path.clone(), module.rank()))
        .collect();
    let rank = ranks.values().copied().max().unwrap_or(1);
    let targets = TargetModules::Names(modules.keys().cloned().collect());
    let task = config.task.kind.definition().peft_name();
    let name = base.adapters_name();
    let peft = PeftConfig::lora(name, rank, targets, &[], task, &ranks)?;
    Ok((Adapter::new(peft, modules), started.sources))
}
