//! How an adapter in memory becomes plain PEFT LoRA with scaling 1.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::key::is_unasked;
use crate::target::is_saved_by;
use crate::token_rows::{self, table_of_rows};
use crate::{Adapter, AdapterError, BiasKind, PeftConfig, TargetModules};

/// The configuration under which PEFT reads what [`Adapter::save`] writes: the adapter's own, with
/// the ranks that the modules have and alpha equal to rank everywhere.
pub(crate) fn exported_config(adapter: &Adapter) -> Result<PeftConfig, AdapterError> {
    if adapter.modules.is_empty() {
        return Err(not_exportable("it has no modules"));
    }
    let use_dora = all_or_none(adapter, "a DoRA magnitude", |module| {
        module.magnitude.is_some()
    })?;
    let lora_bias = all_or_none(adapter, "a bias of B", |module| module.bias.is_some())?;
    if use_dora && lora_bias {
        return Err(not_exportable(
            "PEFT has no DoRA with a bias of B (use_dora and lora_bias)",
        ));
    }

    let mut raw = adapter.config.raw().clone();
    let (rank, patterns) = rank_patterns(adapter);
    raw.insert("r".into(), json!(rank));
    raw.insert("lora_alpha".into(), json!(rank));
    raw.insert("alpha_pattern".into(), json!(patterns));
    raw.insert("rank_pattern".into(), json!(patterns));
    raw.insert("use_rslora".into(), json!(false));
    raw.insert("use_dora".into(), json!(use_dora));
    raw.insert("inference_mode".into(), json!(true));
    // What the factors started from is history, and some starts make PEFT prepare the base model.
    raw.insert("init_lora_weights".into(), json!(true));
    // The mixer is folded into B; PEFT does not know the key.
    raw.shift_remove("lora_use_mixer");
    if lora_bias || raw.contains_key("lora_bias") {
        raw.insert("lora_bias".into(), json!(lora_bias));
    }
    raw.insert("bias".into(), json!(exported_bias(adapter)));
    raw.insert("modules_to_save".into(), saved_modules(adapter));
    // What has lost its rows, as a merge of several adapters, says nothing of them.
    if raw.contains_key(token_rows::FIELD)
        && !adapter
            .heads
            .keys()
            .any(|name| table_of_rows(name).is_some())
    {
        raw.insert(token_rows::FIELD.into(), Value::Null);
    }

    let config = PeftConfig::from_map(raw, "the exported configuration".as_ref())?;
    let modules: Vec<&str> = adapter.modules.keys().map(String::as_str).collect();
    if config.target_modules().is_some()
        && config.untargeted(&modules).is_empty()
        && config.targets_by_current_names(&modules)
    {
        return Ok(config);
    }
    // The choice does not cover every module, so it is replaced by the modules themselves.
    let mut raw = config.raw().clone();
    let paths = TargetModules::Names(adapter.modules.keys().cloned().collect());
    raw.insert("target_modules".into(), paths.to_json());
    for restriction in ["exclude_modules", "layers_to_transform", "layers_pattern"] {
        if let Some(value) = raw.get_mut(restriction) {
            *value = Value::Null;
        }
    }
    PeftConfig::from_map(raw, "the exported configuration".as_ref())
}

/// The most frequent rank (of equally frequent ones the largest), and a pattern for every module of
/// another rank.
fn rank_patterns(adapter: &Adapter) -> (usize, Map<String, Value>) {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for module in adapter.modules.values() {
        *counts.entry(module.rank()).or_default() += 1;
    }
    let rank = counts
        .iter()
        .max_by_key(|&(_, count)| count)
        .map_or(1, |(&rank, _)| rank);
    let paths: Vec<&str> = adapter.modules.keys().map(String::as_str).collect();
    let patterns = adapter
        .modules
        .iter()
        .filter(|(_, module)| module.rank() != rank)
        .map(|(path, module)| (unambiguous_pattern(path, &paths), json!(module.rank())))
        .collect();
    (rank, patterns)
}

/// A key of `rank_pattern` for the module `path` that matches none of `others`.
///
/// PEFT matches `(.*\.)?(KEY)$`, so the bare path would do for a module that no other one ends in
/// (that a `.` matches any character makes no difference among module paths of whole components,
/// but is checked as well). Where it would not do, the key is anchored and escaped.
pub(crate) fn unambiguous_pattern(path: &str, others: &[&str]) -> String {
    let is_plain = path
        .chars()
        .all(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '.'));
    let matches_end_of = |other: &str| {
        let Some(start) = other.len().checked_sub(path.len()) else {
            return false;
        };
        let starts_component = start == 0 || other.as_bytes()[start - 1] == b'.';
        starts_component
            && path
                .bytes()
                .zip(other.bytes().skip(start))
                .all(|(pattern, letter)| pattern == b'.' || pattern == letter)
    };
    if is_plain
        && !others
            .iter()
            .any(|&other| other != path && matches_end_of(other))
    {
        return path.to_owned();
    }
    format!("^{}", fancy_regex::escape(path))
}

/// `modules_to_save` with every head that the adapter carries, or null if it carries none.
fn saved_modules(adapter: &Adapter) -> Value {
    if adapter.heads.is_empty() {
        return Value::Null;
    }
    let mut saved = adapter.config.modules_to_save().to_vec();
    // A table that was saved unasked is read without being named, into the base model's own.
    let heads = adapter.heads.keys();
    for name in heads.filter(|name| !is_unasked(name, &adapter.config)) {
        if !saved.iter().any(|module| is_saved_by(name, module)) {
            let module = name
                .rsplit_once('.')
                .map_or(name.as_str(), |(module, _)| module);
            saved.push(module.to_owned());
        }
    }
    match saved.is_empty() {
        true => Value::Null,
        false => json!(saved),
    }
}

fn exported_bias(adapter: &Adapter) -> &'static str {
    if adapter.biases.is_empty() {
        return "none";
    }
    match adapter.config.bias() {
        BiasKind::LoraOnly => "lora_only",
        BiasKind::None | BiasKind::All => "all",
    }
}

fn all_or_none(
    adapter: &Adapter,
    what: &str,
    has: impl Fn(&crate::LoraModule) -> bool,
) -> Result<bool, AdapterError> {
    let with = adapter.modules.iter().find(|(_, module)| has(module));
    let without = adapter.modules.iter().find(|(_, module)| !has(module));
    match (with, without) {
        (Some((with, _)), Some((without, _))) => Err(not_exportable(&format!(
            "module `{with}` has {what}, module `{without}` has none; PEFT knows only all or none"
        ))),
        (with, _) => Ok(with.is_some()),
    }
}

fn not_exportable(problem: &str) -> AdapterError {
    AdapterError::NotExportable {
        problem: problem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_no_other_module_ends_in_is_its_own_pattern() {
        let others = ["model.layers.1.q", "model.layers.11.q"];
        assert_eq!(
            unambiguous_pattern("model.layers.1.q", &others),
            "model.layers.1.q"
        );
    }

    #[test]
    fn a_path_that_another_module_ends_in_is_anchored() {
        let others = ["layers.0.q", "vision.layers.0.q"];
        assert_eq!(unambiguous_pattern("layers.0.q", &others), r"^layers\.0\.q");
        assert_eq!(
            unambiguous_pattern("vision.layers.0.q", &others),
            "vision.layers.0.q"
        );
    }

    #[test]
    fn a_dot_that_would_match_another_letter_is_escaped() {
        assert_eq!(unambiguous_pattern("a.b", &["a.b", "x.a_b"]), r"^a\.b");
    }
}
