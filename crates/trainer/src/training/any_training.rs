//! A training of any kind of task.

use std::path::Path;

use eigenmix_data::Split;
use eigenmix_data::metrics::Metric;

use super::NetworkTraining;
use crate::config::TrainConfig;
use crate::diffusion::DiffusionTraining;
use crate::outcome::{Observer, Outcome, RunOptions};
use crate::{TrainerError, run_output};

/// A training whose inputs have been read and checked.
pub enum Training {
    /// Of a network that takes texts, images or both.
    Network(Box<NetworkTraining>),
    /// Of a diffusion model.
    Diffusion(Box<DiffusionTraining>),
}

impl Training {
    /// Reads everything that the configuration names: data, tokenizer, adapters, base model.
    ///
    /// # Errors
    /// If any of it is missing, malformed or does not fit the rest.
    pub fn prepare(config: TrainConfig) -> Result<Self, TrainerError> {
        Ok(match config.task.kind.is_of_diffusion_models() {
            true => Self::Diffusion(Box::new(DiffusionTraining::prepare(config)?)),
            false => Self::Network(Box::new(NetworkTraining::prepare(config)?)),
        })
    }

    /// How many examples a split has, if there is one: of the training split, those that are drawn and not
    /// held out.
    pub fn rows(&self, split: Split) -> Option<usize> {
        match self {
            Self::Network(training) => training.rows(split),
            Self::Diffusion(training) => training.rows(split),
        }
    }

    /// Whether examples have labels or numbers to predict, one or a set for each.
    pub fn has_targets(&self) -> bool {
        match self {
            Self::Network(training) => training.has_targets(),
            Self::Diffusion(_) => false,
        }
    }

    /// The metric that decides which state is best.
    pub fn first_metric(&self) -> Metric {
        match self {
            Self::Network(training) => training.first_metric(),
            Self::Diffusion(training) => training.first_metric(),
        }
    }

    /// What to say of the base model, the data and the start.
    pub fn notes(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Self::Network(training) => Box::new(training.notes().map(String::as_str)),
            Self::Diffusion(training) => Box::new(training.notes()),
        }
    }

    /// Runs the training, or the rest of it. Of several processes the first alone writes, and all end
    /// together.
    ///
    /// # Errors
    /// If the output exists, a checkpoint does not fit, the loss diverges, a file cannot be written, or
    /// another process has failed.
    pub fn run(
        &mut self,
        options: &RunOptions,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainerError> {
        let ended = match self {
            Self::Network(training) => training.run(options, observer),
            Self::Diffusion(training) => training.run(options, observer),
        };
        let ended = ended.and_then(|outcome| {
            options.processes.meet()?;
            Ok(outcome)
        });
        if let Err(error) = &ended {
            options.processes.announce(&error.to_string());
        }
        ended
    }

    /// Whether the run in `directory` was started with this configuration.
    ///
    /// # Errors
    /// If its `config.toml` cannot be read.
    pub fn is_same(config: &TrainConfig, directory: &Path) -> Result<bool, TrainerError> {
        super::is_same(config, directory)
    }

    /// Whether `directory` contains nothing that a run has to keep.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn has_no_run(directory: &Path) -> Result<bool, TrainerError> {
        run_output::has_no_run(directory)
    }
}
