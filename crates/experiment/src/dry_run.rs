//! `eigenmix train --dry-run`: what a training would train, and an estimate of its memory.

use std::fmt;

use eigenmix_trainer::{BaseModel, BatchSize, MemoryEstimate, TaskKind, TrainConfig, TrainerError};
use serde::Serialize;

use crate::ExperimentError;
use crate::byte_count::ByteCount;
use crate::table::Table;

/// What a training would train and need.
#[derive(Serialize)]
pub struct DryRun {
    model: String,
    method: &'static str,
    /// How many outputs a classifier's head was assumed to have; unknown if the data are not
    /// available.
    labels: Option<usize>,
    #[serde(flatten)]
    memory: MemoryEstimate,
    total: u64,
    /// Whether the head has outputs for labels.
    #[serde(skip)]
    counts_labels: bool,
    #[serde(skip)]
    batch_size: BatchSize,
}

impl DryRun {
    /// Reads the base model's `config.json`, the headers of its weights if they are on this machine, and
    /// the labels of the training data if they are available.
    pub fn new(config: TrainConfig) -> Result<Self, ExperimentError> {
        config.validate()?;
        if config.task.kind.is_of_diffusion_models() {
            let memory = MemoryEstimate::of_diffusion(&config)?;
            return Self::of(config, None, memory);
        }
        let base = match config.base.from_scratch {
            true => BaseModel::open_config(&config.base.model)?,
            false => BaseModel::open_here(&config.base.model)?,
        };
        let labels = config
            .task
            .kind
            .count_labels(&config.data, config.task.target)?;
        let memory = MemoryEstimate::new(&config, &base, labels.unwrap_or(UNKNOWN_LABELS))?;
        Self::of(config, labels, memory)
    }

    fn of(
        config: TrainConfig,
        labels: Option<usize>,
        memory: MemoryEstimate,
    ) -> Result<Self, ExperimentError> {
        Ok(Self {
            counts_labels: !matches!(
                config.task.kind,
                TaskKind::CausalLm | TaskKind::VisionLanguage
            ),
            model: config.base.model,
            method: config.adapter.method.name(),
            batch_size: config
                .training
                .size_of_batches()
                .map_err(TrainerError::from)?,
            labels,
            total: memory.total(),
            memory,
        })
    }
}

/// The size of a head whose labels are not known yet.
const UNKNOWN_LABELS: usize = 2;

impl fmt::Display for DryRun {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = &self.memory;
        writeln!(
            formatter,
            "`{}` with {}: dry run, nothing was trained",
            self.model, self.method
        )?;
        let labels = match (self.labels, memory.head_parameters) {
            (None, 1..) if self.counts_labels => {
                " (two labels assumed, since the data are not available)"
            }
            _ => "",
        };
        let mut table = Table::with_header(["", "parameters", "memory"]);
        let mut row = |name: &str, numbers: Option<u64>, bytes: Option<u64>| {
            table.push([
                name.to_owned(),
                numbers.map_or_else(String::new, |numbers| numbers.to_string()),
                bytes.map_or_else(String::new, |bytes| ByteCount(bytes).to_string()),
            ]);
        };
        row(
            "frozen weights",
            Some(memory.frozen_parameters),
            Some(memory.weights),
        );
        row("trained, adapter", Some(memory.adapter_parameters), None);
        row("trained, head", Some(memory.head_parameters), None);
        row(
            "trained, with gradients and AdamW's moments",
            None,
            Some(memory.optimizer),
        );
        if memory.basis > 0 {
            row("basis", None, Some(memory.basis));
        }
        row("activations", None, Some(memory.activations));
        row("total", None, Some(self.total));
        let (at_most, full) = match self.batch_size {
            BatchSize::Examples(_) => ("", " at full length"),
            BatchSize::Tokens(_) => ("at most ", ""),
        };
        write!(
            formatter,
            "{table}\n{} adapted modules; {at_most}{} rows (tokens or patches) per batch{full}{labels}",
            memory.adapted_modules, memory.rows
        )
    }
}
