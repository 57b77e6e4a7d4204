//! PEFT's configuration of an adapter whose own file has none.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::index::ModuleEntry;
use crate::{AdapterError, PeftConfig, TargetModules};

impl PeftConfig {
    /// Plain LoRA with these ranks, targeting just these modules.
    pub(crate) fn of_modules(
        base_model: Option<&str>,
        ranks: &BTreeMap<String, usize>,
    ) -> Result<Self, AdapterError> {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for &rank in ranks.values() {
            *counts.entry(rank).or_default() += 1;
        }
        let rank = counts.iter().max_by_key(|(_, count)| **count);
        let rank = rank.map_or(1, |(&rank, _)| rank);
        let targets = TargetModules::Names(ranks.keys().cloned().collect());
        let base = base_model.unwrap_or_default();
        let config = Self::lora(base, rank, targets, &[], None, ranks)?;
        match base_model {
            Some(_) => Ok(config),
            None => config.with("base_model_name_or_path", Value::Null),
        }
    }

    /// The same of modules that were found in a file.
    pub(crate) fn of_entries(
        base_model: Option<&str>,
        modules: &BTreeMap<String, ModuleEntry>,
    ) -> Result<Self, AdapterError> {
        let ranks = modules
            .iter()
            .map(|(path, entry)| (path.clone(), entry.rank))
            .collect();
        Self::of_modules(base_model, &ranks)
    }
}
