//! One training or one evaluation of an experiment.

use std::fmt;
use std::path::Path;

use eigenmix_data::DataConfig;
use eigenmix_trainer::{BaseConfig, TaskConfig, TrainConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an arm does with one seed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cell {
    /// Its directory below the experiment's.
    pub name: String,
    pub seed: u64,
    #[serde(flatten)]
    pub work: Work,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    Train(Box<TrainConfig>),
    Evaluate(Box<EvaluationConfig>),
}

/// An adapter to evaluate, as an arm describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluationConfig {
    pub output: String,
    /// The adapter.
    pub evaluate: String,
    /// The adapter whose head is used, if the evaluated one has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    pub base: BaseConfig,
    pub data: DataConfig,
    #[serde(default)]
    pub task: TaskConfig,
}

impl Cell {
    /// The directory that it is written to.
    pub fn output(&self) -> &Path {
        Path::new(match &self.work {
            Work::Train(config) => &config.output,
            Work::Evaluate(config) => &config.output,
        })
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.work {
            Work::Train(config) => {
                let size = config.training.size_of_batches();
                let size = size.map_or_else(|error| error.to_string(), |size| size.to_string());
                write!(
                    formatter,
                    "{}: {} on {}, {} epochs of batches of {size}, learning rate {}",
                    config.output,
                    config.adapter.method.name(),
                    config.data.path,
                    config.training.epochs,
                    config.training.learning_rate
                )
            }
            Work::Evaluate(config) => write!(
                formatter,
                "{}: {} evaluated on {}",
                config.output, config.evaluate, config.data.path
            ),
        }
    }
}
