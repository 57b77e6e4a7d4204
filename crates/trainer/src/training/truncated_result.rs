//! The result of a composition at a smaller rank: `adapter.rank`.
//!
//! A composition folds to factors of rank Σr. At rank R the best approximation of every module is kept, and
//! what is evaluated at the end is what is saved.

use std::collections::BTreeMap;

use burn::tensor::Device;
use eigenmix_adapter::LoraModule;
use eigenmix_eigenlorax::{EigenloraxError, Energy, truncate_module};
use eigenmix_models::{Adaptation, LoadOptions, Network, Train};
use eigenmix_moslora::{ParameterNames, TrainedValues, Update};
use rayon::prelude::*;

use super::NetworkTraining;
use super::result::head_tensors;
use crate::TrainerError;

/// The modules of a truncated composition.
pub(super) struct TruncatedResult {
    pub modules: BTreeMap<String, LoraModule>,
    rank: usize,
    /// Over all modules.
    energy: Energy,
}

impl TruncatedResult {
    /// Truncates what was trained, if the configuration asks for it.
    ///
    /// # Errors
    /// If a factor is not among the values, or cannot be decomposed.
    pub(super) fn new(
        training: &NetworkTraining,
        values: &TrainedValues,
    ) -> Result<Option<Self>, TrainerError> {
        let adapter = &training.config.adapter;
        let Some(rank) = adapter.rank.filter(|_| adapter.method.is_composition()) else {
            return Ok(None);
        };
        let truncate = |(path, update): (&String, &Update)| {
            let folded = update.clone().with_values(path, values)?.fold();
            let (module, energy) = truncate_module(&folded, rank).map_err(|source| {
                let module = path.clone();
                EigenloraxError::Decomposition { module, source }
            })?;
            Ok((path.clone(), module, energy))
        };
        let truncated: Vec<(String, LoraModule, Energy)> = training
            .updates
            .par_iter()
            .map(truncate)
            .collect::<Result<_, TrainerError>>()?;
        Ok(Some(Self {
            rank,
            energy: truncated.iter().map(|(_, _, energy)| *energy).sum(),
            modules: truncated
                .into_iter()
                .map(|(path, module, _)| (path, module))
                .collect(),
        }))
    }

    /// The share of ‖ΔW‖² that is kept, at most 1.
    pub(super) fn kept(&self) -> f64 {
        self.energy.share()
    }

    /// What to say of the error.
    pub(super) fn note(&self) -> String {
        let kept = self.kept();
        format!(
            "the composition is truncated to rank {}, which keeps {:.1} % of ‖ΔW‖² (relative error {:.3}); \
             it is evaluated as it is saved",
            self.rank,
            100.0 * kept,
            (1.0 - kept).sqrt()
        )
    }

    /// The model with the truncated modules and the trained head.
    ///
    /// # Errors
    /// If the base model cannot be loaded.
    pub(super) fn network(
        &self,
        training: &NetworkTraining,
        values: &TrainedValues,
        names: &ParameterNames,
        device: &Device,
    ) -> Result<Network, TrainerError> {
        let modules = self.modules.iter();
        let updates = modules.map(|(path, module)| (path.clone(), Update::from_lora(module)));
        let mut tensors = training.brought_tensors(&device.clone().inner())?;
        tensors.extend(head_tensors(values, names));
        let adaptation = Adaptation {
            updates: updates.collect(),
            tensors,
            ..Adaptation::default()
        };
        let load = LoadOptions {
            head: training.head,
            adaptation: &adaptation,
            train: Train::Nothing,
            dropout: 0.0,
            seed: training.config.seed,
        };
        let base = &training.base;
        Ok(Network::load(&base.checkpoint, &base.architecture, &load, device)?.model)
    }
}
