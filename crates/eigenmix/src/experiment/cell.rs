//! One training or one evaluation of an experiment.

use std::fmt;
use std::path::Path;

use eigenmix_data::DataConfig;
use eigenmix_trainer::{BaseConfig, TaskConfig, TrainConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an arm does with one seed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cell {
    /// Its directory below the experiment's.
    pub(crate) name: String,
    pub(crate) seed: u64,
    #[serde(flatten)]
    pub(crate) work: Work,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Work {
    Train(Box<TrainConfig>),
    Evaluate(Box<EvaluationConfig>),
}

/// An adapter to evaluate, as an arm describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EvaluationConfig {
    pub(crate) output: String,
    /// The adapter.
    pub(crate) evaluate: String,
    /// The adapter whose head is used, where the evaluated one has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) head: Option<String>,
    pub(crate) base: BaseConfig,
    pub(crate) data: DataConfig,
    #[serde(default)]
    pub(crate) task: TaskConfig,
}

impl Cell {
    /// The directory that it is written to.
    pub(crate) fn output(&self) -> &Path {
        Path::new(match &self.work {
            Work::Train(config) => &config.output,
            Work::Evaluate(config) => &config.output,
        })
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.work {
            Work::Train(config) => write!(
                formatter,
                "{}: {} on {}, {} epochs of batches of {}, learning rate {}",
                config.output,
                config.adapter.method.name(),
                config.data.path,
                config.training.epochs,
                config.training.batch_size,
                config.training.learning_rate
            ),
            Work::Evaluate(config) => write!(
                formatter,
                "{}: {} evaluated on {}",
                config.output, config.evaluate, config.data.path
            ),
        }
    }
}
