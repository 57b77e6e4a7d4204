//! The sizes of a composition, before its adapters are read.

use std::collections::BTreeMap;

use crate::adapter_place::{AdapterPlace, open_adapter};
use crate::composition_config::WeightScope;
use crate::{AdapterConfig, TrainerError};

/// How many adapters have a module, and the sum of their ranks. Empty if they are not available.
#[derive(Debug, Default)]
pub(crate) struct CompositionWidth(BTreeMap<String, ModuleWidth>);

#[derive(Clone, Copy, Debug, Default)]
struct ModuleWidth {
    adapters: usize,
    columns: usize,
}

impl CompositionWidth {
    /// # Errors
    /// If an available file cannot be read.
    pub(crate) fn new(config: &AdapterConfig) -> Result<Self, TrainerError> {
        let here = |name: &String| AdapterPlace::parse(name).is_ok_and(|place| place.is_here());
        let mut modules: BTreeMap<String, ModuleWidth> = BTreeMap::new();
        if !config.method.is_composition() || !config.adapters.iter().all(here) {
            return Ok(Self::default());
        }
        for name in &config.adapters {
            let file = open_adapter(name)?;
            for path in file.module_paths() {
                let (rank, _, _) = file.shape(path)?;
                let module = modules.entry(path.to_owned()).or_default();
                module.adapters += 1;
                module.columns += rank;
            }
        }
        Ok(Self(modules))
    }

    /// The paths of the modules, as far as they are known.
    pub(crate) fn modules(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Σr of a module; of one that is not known, its width.
    pub(crate) fn columns(&self, module: &str, width: usize) -> usize {
        self.0.get(module).map_or(width, |module| module.columns)
    }

    /// How many weights a module has.
    pub(crate) fn weights(&self, config: &AdapterConfig, module: &str) -> usize {
        match (config.composition(), self.0.get(module)) {
            (WeightScope::Module, Some(module)) => module.adapters,
            _ => config.adapters.len(),
        }
    }
}
