//! The training file: what is trained, on what, how.

use std::num::NonZeroUsize;

use eigenmix_adapter::Prompts;
use eigenmix_data::metrics::Metric;
use eigenmix_data::{DataConfig, LengthGrouping, TargetKind};
use eigenmix_models::Precision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schedule::{PlateauConfig, Scheduler, Warmup};
use crate::{AdapterConfig, TaskKind, TrainerError};

/// A training file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Decides every random draw: initial values, order of the examples, dropout, few-shot choice.
    #[serde(default)]
    pub seed: u64,
    /// The directory that the run is written to.
    pub output: String,
    pub base: BaseConfig,
    pub data: DataConfig,
    #[serde(default)]
    pub task: TaskConfig,
    pub adapter: AdapterConfig,
    pub training: TrainingConfig,
}

/// The `[base]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaseConfig {
    /// A directory in Hugging Face form, or a Hub id.
    pub model: String,
    /// The probability of dropping an activation of the base model while training.
    #[serde(default)]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub dropout: f64,
    /// In which type frozen weights are kept: "auto", "float32" or "stored".
    #[serde(default, skip_serializing_if = "is_default")]
    pub weights: Precision,
    /// Start from random weights and train everything: only `config.json` and the tokenizer are
    /// read.
    #[serde(default)]
    pub from_scratch: bool,
}

/// The `[task]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TaskConfig {
    pub kind: TaskKind,
    /// What a label is: a class, or a number (as in STS-B).
    pub target: TargetKind,
    /// What evaluations report; the first decides which checkpoint is the best. By default
    /// accuracy, of numbers their correlations, of a language model its perplexity.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    /// CLIP: texts with {} where a label goes, such as "a photo of a {}.". What the text tower makes
    /// of them is the head, which is not trained.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prompts: Vec<String>,
}

impl TaskConfig {
    /// The prompts of a zero-shot head; `None` where there are none and the head is trained.
    ///
    /// # Errors
    /// If one has no place for a label.
    pub fn prompts(&self) -> Result<Option<Prompts>, TrainerError> {
        match self.prompts.is_empty() {
            true => Ok(None),
            false => Prompts::new(self.prompts.clone())
                .map(Some)
                .map_err(TrainerError::Prompts),
        }
    }
}

impl Default for TaskConfig {
    fn default() -> Self {
        Self {
            kind: TaskKind::default(),
            target: TargetKind::Classification,
            metrics: Vec::new(),
            prompts: Vec::new(),
        }
    }
}

/// The `[training]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    #[schemars(range(min = 1))]
    pub epochs: usize,
    /// Stop after this many optimizer steps, if the epochs have not ended before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<usize>,
    pub batch_size: NonZeroUsize,
    #[serde(default = "default_evaluation_batch_size")]
    pub evaluation_batch_size: NonZeroUsize,
    /// Batches whose gradients are averaged into one step.
    #[serde(default = "one")]
    pub gradient_accumulation: NonZeroUsize,
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub learning_rate: f64,
    /// The head's own learning rate, if it is to have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub head_learning_rate: Option<f64>,
    /// AdamW's decoupled weight decay.
    #[serde(default = "default_weight_decay")]
    #[schemars(range(min = 0))]
    pub weight_decay: f64,
    #[serde(default = "default_beta_1")]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub beta_1: f64,
    #[serde(default = "default_beta_2")]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub beta_2: f64,
    #[serde(default = "default_epsilon")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub epsilon: f64,
    #[serde(default)]
    pub scheduler: Scheduler,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub warmup_ratio: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<usize>,
    #[serde(default)]
    pub plateau: PlateauConfig,
    /// Gradients are scaled down to this norm; 0 leaves them as they are.
    #[serde(default = "default_gradient_clip")]
    #[schemars(range(min = 0))]
    pub gradient_clip: f64,
    /// Evaluate on the validation split after this many epochs; 0: only at the end.
    #[serde(default = "one_epoch")]
    pub evaluate_every: usize,
    /// Write a checkpoint after this many steps, besides one an epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save_every: Option<NonZeroUsize>,
    /// Log a line after this many steps.
    #[serde(default = "default_log_every")]
    pub log_every: NonZeroUsize,
    /// Stop when this many evaluations in a row brought no improvement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<NonZeroUsize>,
    /// Which state becomes the adapter.
    #[serde(default)]
    pub keep: Keep,
    #[serde(default)]
    pub batching: LengthGrouping,
    /// Keep only the inputs of the layers and run each layer again in the backward pass: the
    /// activations of one layer at a time, for a third more time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gradient_checkpointing: bool,
    /// Write event files for TensorBoard beside metrics.jsonl.
    // Not kept where it is as usual, or runs of earlier releases would count as others.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub tensorboard: bool,
}

/// Which state of a training becomes its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// The last one.
    #[default]
    Last,
    /// The one that was best on the validation split.
    Best,
}

impl TrainConfig {
    /// Parses a training file.
    ///
    /// # Errors
    /// If it is not TOML, has an unknown key or a value that makes no sense.
    pub fn from_toml(text: &str) -> Result<Self, TrainerError> {
        let config: Self = toml::from_str(text).map_err(TrainerError::Toml)?;
        config.validate()?;
        Ok(config)
    }

    /// # Errors
    /// The first of [`Self::problems`].
    pub fn validate(&self) -> Result<(), TrainerError> {
        self.problems().into_iter().next().map_or(Ok(()), Err)
    }

    /// Every value that makes no sense; [`TrainerError::key`] tells which.
    pub fn problems(&self) -> Vec<TrainerError> {
        let training = &self.training;
        let below_one = 0.0..1.0;
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let head_learning_rate = training.head_learning_rate.unwrap_or(1.0);
        let numbers = [
            (
                "training.learning_rate",
                training.learning_rate,
                positive(training.learning_rate),
                ABOVE_ZERO,
            ),
            (
                "training.head_learning_rate",
                head_learning_rate,
                positive(head_learning_rate),
                ABOVE_ZERO,
            ),
            (
                "training.epsilon",
                training.epsilon,
                positive(training.epsilon),
                ABOVE_ZERO,
            ),
            (
                "training.beta_1",
                training.beta_1,
                below_one.contains(&training.beta_1),
                BELOW_ONE,
            ),
            (
                "training.beta_2",
                training.beta_2,
                below_one.contains(&training.beta_2),
                BELOW_ONE,
            ),
            (
                "base.dropout",
                self.base.dropout,
                below_one.contains(&self.base.dropout),
                BELOW_ONE,
            ),
            (
                "training.weight_decay",
                training.weight_decay,
                training.weight_decay >= 0.0 && training.weight_decay.is_finite(),
                "a number from 0 on",
            ),
            (
                "training.epochs",
                training.epochs as f64,
                training.epochs > 0,
                "at least 1",
            ),
            (
                "data.max_length",
                self.data.max_length as f64,
                self.data.max_length >= 3,
                "room for more than the special tokens (3 or more)",
            ),
        ];
        let mut problems: Vec<TrainerError> = numbers
            .into_iter()
            .filter(|(_, _, is_good, _)| !is_good)
            .map(|(key, found, _, expected)| TrainerError::value(key, expected, found))
            .collect();
        let rules = [
            self.validate_prompts(),
            self.warmup().map(drop),
            training.plateau.validate().map_err(TrainerError::from),
        ];
        problems.extend(rules.into_iter().filter_map(Result::err));
        problems.extend(self.adapter.problems());
        problems
    }

    fn validate_prompts(&self) -> Result<(), TrainerError> {
        if self.task.prompts()?.is_none() {
            return Ok(());
        }
        let wrong = |key, found: &str, reason| {
            let found = found.to_owned();
            Err(TrainerError::PromptsWith { key, found, reason })
        };
        let kind = self.task.kind;
        if !kind.definition().takes_prompts() {
            let reason = "they say what images show; kind is to be \"image-classification\"";
            return wrong("task.kind", &format!("\"{}\"", kind.name()), reason);
        }
        if self.task.target == TargetKind::Regression {
            let reason = "a number has no name that a text could say";
            return wrong("task.target", "\"number\"", reason);
        }
        match self.base.from_scratch {
            true => {
                let reason = "a text tower of random weights says nothing";
                wrong("base.from_scratch", "true", reason)
            }
            false => Ok(()),
        }
    }

    pub(crate) fn warmup(&self) -> Result<Warmup, TrainerError> {
        let training = &self.training;
        Ok(Warmup::from_options(
            training.warmup_ratio,
            training.warmup_steps,
        )?)
    }
}

const ABOVE_ZERO: &str = "a number above 0";
const BELOW_ONE: &str = "at least 0 and below 1";

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}

fn one() -> NonZeroUsize {
    NonZeroUsize::MIN
}

fn one_epoch() -> usize {
    1
}

fn default_evaluation_batch_size() -> NonZeroUsize {
    const SIZE: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");
    SIZE
}

fn default_log_every() -> NonZeroUsize {
    const STEPS: NonZeroUsize = NonZeroUsize::new(10).expect("not zero");
    STEPS
}

fn default_weight_decay() -> f64 {
    0.01
}

fn default_beta_1() -> f64 {
    0.9
}

fn default_beta_2() -> f64 {
    0.999
}

fn default_epsilon() -> f64 {
    1e-8
}

fn default_gradient_clip() -> f64 {
    1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Method;

    const FILE: &str = r#"
        output = "runs/travel"
        [base]
        model = "model"
        [data]
        path = "data"
        max_length = 64
        [adapter]
        method = "eigenlorax"
        subspace = "subspaces/clinc"
        rank = 8
        [training]
        epochs = 8
        batch_size = 32
        learning_rate = 4e-3
        warmup_ratio = 0.06
    "#;

    #[test]
    fn a_short_file_is_completed_and_its_resolved_form_reads_back() {
        let config = TrainConfig::from_toml(FILE).unwrap();
        assert_eq!(config.adapter.method, Method::Eigenlorax);
        assert_eq!(config.training.weight_decay, 0.01);
        assert_eq!(config.task.kind, TaskKind::SequenceClassification);
        let resolved = toml::to_string(&config).unwrap();
        assert_eq!(TrainConfig::from_toml(&resolved).unwrap(), config);
    }

    #[test]
    fn an_unknown_key_and_a_senseless_value_are_named() {
        let unknown = FILE.replace("batch_size", "batchsize");
        let error = TrainConfig::from_toml(&unknown).unwrap_err().to_string();
        assert!(error.contains("batchsize"), "{error}");
        let negative = FILE.replace("4e-3", "-1.0");
        let error = TrainConfig::from_toml(&negative).unwrap_err().to_string();
        assert!(
            error.contains("training.learning_rate") && error.contains("-1"),
            "{error}"
        );
        let missing = FILE.replace("learning_rate = 4e-3", "");
        let error = TrainConfig::from_toml(&missing).unwrap_err().to_string();
        assert!(error.contains("learning_rate"), "{error}");
    }

    #[test]
    fn prompts_go_with_classes_of_images_only() {
        let with = |task: &str| {
            let file = FILE.replace("[adapter]", &format!("[task]\n{task}\n[adapter]"));
            TrainConfig::from_toml(&file)
        };
        let prompts = "prompts = [\"a photo of a {}.\"]";
        let images = format!("kind = \"image-classification\"\n{prompts}");
        let config = with(&images).unwrap();
        assert_eq!(config.task.prompts, ["a photo of a {}."]);
        let resolved = toml::to_string(&config).unwrap();
        assert_eq!(TrainConfig::from_toml(&resolved).unwrap(), config);
        for (task, problem) in [
            (
                prompts.to_owned(),
                "task.kind = \"sequence-classification\"",
            ),
            (format!("{images}\ntarget = \"number\""), "task.target"),
            (images.replace("{}", "dog"), "`a photo of a dog.`"),
        ] {
            let error = with(&task).unwrap_err().to_string();
            assert!(error.contains(problem), "{task}: {error}");
        }
    }
}
