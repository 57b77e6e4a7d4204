//! A trained update as the adapter that PEFT would write.

use std::collections::{BTreeMap, BTreeSet};

use eigenmix_adapter::{Adapter, Labels, LoraModule, PeftConfig, TargetModules, is_saved_by};
use eigenmix_data::Targets;
use eigenmix_models::{Description, LinearLayer};
use eigenmix_tensors::HostTensor;

use super::training_data::TrainingData;
use crate::config::TrainConfig;
use crate::{BaseModel, TrainerError};

/// The adapter of `modules`, by their paths in the base model, with the tensors `heads` that were trained
/// whole and the labels of the data.
///
/// - saved: how the training names modules that it trains whole
///
/// # Errors
/// If the modules make no configuration.
pub(super) fn plain_adapter(
    config: &TrainConfig,
    base: &BaseModel,
    description: &Description,
    data: &TrainingData,
    modules: BTreeMap<String, LoraModule>,
    heads: BTreeMap<String, HostTensor>,
    saved: &[String],
) -> Result<Adapter, TrainerError> {
    let ranks: BTreeMap<String, usize> = modules
        .iter()
        .map(|(path, module)| (path.clone(), module.rank()))
        .collect();
    let rank = ranks.values().copied().max().unwrap_or(1);
    let (base_model, revision) = base.name_and_revision();
    let mut peft = PeftConfig::lora(
        base_model,
        rank,
        TargetModules::Names(target_names(&modules, &all_layers(base, description))),
        &saved_modules(&heads, description, saved),
        config.task.kind.definition().peft_name(),
        &ranks,
    )?;
    if let Some(revision) = revision {
        peft = peft.with("revision", revision.into())?;
    }
    // Whether the checkpoint stores their weights `[d_in, d_out]`.
    let mut layers = modules.keys().filter_map(|path| description.layer(path));
    if layers.any(|layer| layer.transposed) {
        peft = peft.with("fan_in_fan_out", true.into())?;
    }
    Ok(Adapter {
        config: peft,
        modules,
        heads,
        biases: BTreeMap::new(),
        labels: labels(data.targets.as_ref()),
        prompts: config.task.prompts()?,
    })
}

/// The names of the outputs of a classifier.
pub(super) fn labels(targets: Option<&Targets>) -> Option<Labels> {
    let labels = targets?.labels()?;
    Some(Labels(labels.names().to_vec()))
}

/// Every linear layer that PEFT finds in the base model; in CLIP those of both towers.
fn all_layers(base: &BaseModel, description: &Description) -> Vec<LinearLayer> {
    let text = base.architecture.clip_text();
    let text = text.map(|text| text.describe().layers).unwrap_or_default();
    [&description.layers[..], &text].concat()
}

/// The short names that select exactly the adapted modules (`query`, `value`), otherwise their
/// paths.
fn target_names(modules: &BTreeMap<String, LoraModule>, layers: &[LinearLayer]) -> Vec<String> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or(path).to_owned();
    let short: BTreeSet<String> = modules.keys().map(|path| last(path)).collect();
    let selected = layers
        .iter()
        .filter(|layer| short.contains(&last(&layer.path)));
    match selected.count() == modules.len() {
        true => short.into_iter().collect(),
        false => modules.keys().cloned().collect(),
    }
}

/// `modules_to_save`: the family's head modules, and all other modules that were trained whole.
///
/// - named: how the configuration names some of them
fn saved_modules(
    heads: &BTreeMap<String, HostTensor>,
    description: &Description,
    named: &[String],
) -> Vec<String> {
    let mut modules = BTreeSet::new();
    for name in heads.keys() {
        if let Some(module) = named.iter().find(|module| is_saved_by(name, module)) {
            modules.insert(module.clone());
            continue;
        }
        let path = name
            .rsplit_once('.')
            .map_or(name.as_str(), |(path, _)| path);
        let known = description
            .head_modules
            .iter()
            .find(|head| path == **head || path.starts_with(&format!("{head}.")));
        modules.insert(known.map_or_else(|| path.to_owned(), |head| (*head).to_owned()));
    }
    modules.into_iter().collect()
}
