//! The configuration of a merged adapter.

use std::collections::BTreeMap;

use eigenmix_adapter::{AdapterError, LoraModule, PeftConfig, TargetModules};

use crate::source::MergeSource;

/// Plain LoRA of the ranks of `modules`, for the tasks and modules of `adapters`.
///
/// - heads_of: the one adapter whose heads and biases are carried along
/// - whether the merged adapter has every module that any adapter has
///
/// # Errors
/// If a value of an adapter is refused when written, which a checked one isn't.
pub(crate) fn merged_config<S: MergeSource>(
    adapters: &[S],
    base_model: Option<&str>,
    modules: &BTreeMap<String, LoraModule>,
    heads_of: Option<usize>,
    is_complete: bool,
) -> Result<PeftConfig, AdapterError> {
    let ranks: BTreeMap<String, usize> = modules
        .iter()
        .map(|(path, module)| (path.clone(), module.rank()))
        .collect();
    let paths = || TargetModules::Names(modules.keys().cloned().collect());
    let targets = match common_targets(adapters) {
        Some(targets) if is_complete => targets.clone(),
        _ => paths(),
    };
    let saved = heads_of.map_or(&[][..], |index| adapters[index].config().modules_to_save());
    let config = PeftConfig::lora(
        base_model.unwrap_or_default(),
        most_frequent(ranks.values().copied()),
        targets,
        saved,
        common(adapters, |config| {
            // PEFT reports that the file of a classifier without a head lacks one, and loads
            // nothing.
            let is_told = heads_of.is_some() || !config.task_has_head();
            config.task_type().filter(|_| is_told)
        }),
        &ranks,
    )?;
    // If an adapter's targets left out layers or modules, only the paths say which it has.
    let mut config = if modules.keys().all(|path| config.targets(path, false)) {
        config
    } else {
        config.with("target_modules", modules.keys().cloned().collect())?
    };
    if base_model.is_none() {
        config = config.with("base_model_name_or_path", serde_json::Value::Null)?;
    }
    if let Some(revision) = common(adapters, PeftConfig::revision) {
        config = config.with("revision", revision.into())?;
    }
    if adapters
        .iter()
        .any(|adapter| adapter.config().fan_in_fan_out())
    {
        config = config.with("fan_in_fan_out", true.into())?;
    }
    // Of which tokens the one adapter with heads holds rows.
    const TOKENS: &str = "trainable_token_indices";
    if let Some(tokens) = heads_of.and_then(|index| adapters[index].config().raw().get(TOKENS)) {
        config = config.with(TOKENS, tokens.clone())?;
    }
    if let Some(bias) = heads_of.and_then(|index| adapters[index].config().raw().get("bias")) {
        config = config.with("bias", bias.clone())?;
    }
    Ok(config)
}

/// The target modules that all adapters have in common, if nothing narrows them down.
fn common_targets<S: MergeSource>(adapters: &[S]) -> Option<&TargetModules> {
    let targets = adapters[0].config().target_modules()?;
    let narrowing = ["layers_to_transform", "layers_pattern", "exclude_modules"];
    adapters
        .iter()
        .all(|adapter| {
            let config = adapter.config();
            config.target_modules() == Some(targets)
                && narrowing.iter().all(|key| {
                    config
                        .raw()
                        .get(*key)
                        .is_none_or(serde_json::Value::is_null)
                })
        })
        .then_some(targets)
}

/// The value of `field` in all adapters, if they agree.
fn common<'a, S: MergeSource>(
    adapters: &'a [S],
    field: impl Fn(&'a PeftConfig) -> Option<&'a str>,
) -> Option<&'a str> {
    let first = field(adapters[0].config());
    adapters
        .iter()
        .all(|adapter| field(adapter.config()) == first)
        .then_some(first)
        .flatten()
}

/// The most frequent value, the largest of equally frequent ones.
fn most_frequent(values: impl Iterator<Item = usize>) -> usize {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    counts
        .into_iter()
        .max_by_key(|&(_, count)| count)
        .map_or(1, |(value, _)| value)
}
