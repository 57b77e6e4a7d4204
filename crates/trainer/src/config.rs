//! The training file.

use std::num::NonZeroUsize;

use eigenmix_data::{DataConfig, LengthGrouping};
use eigenmix_models::Precision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batch_size::{BatchSize, BatchSizeError};
use crate::diffusion::DiffusionConfig;
use crate::schedule::{PlateauConfig, Scheduler, Warmup};
use crate::task_config::TaskConfig;
use crate::{AdapterConfig, TrainerError};

/// A training file, with its tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The seed of all random draws: initial values, order of the examples, dropout, the few-shot
    /// sample.
    #[serde(default)]
    pub seed: u64,
    /// The directory to write the run to.
    pub output: String,
    /// The base model.
    pub base: BaseConfig,
    /// The dataset.
    pub data: DataConfig,
    /// The task.
    #[serde(default)]
    pub task: TaskConfig,
    /// The method and its options.
    pub adapter: AdapterConfig,
    /// The optimiser, its schedule, evaluations and checkpoints.
    pub training: TrainingConfig,
    /// What is trained of a diffusion model, with `task.kind` = "text-to-image" or "dreambooth".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diffusion: Option<DiffusionConfig>,
}

/// The `[base]` table: the base model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaseConfig {
    /// The base model: a directory in Hugging Face format, a GGUF file, a Hub id, or a GGUF file on the Hub
    /// (`org/name:file.gguf`); of a diffusion model a directory in diffusers' form, a Hub id, or one file of the
    /// original layout.
    pub model: String,
    /// Of a diffusion model in one file: a model of the same kind in diffusers' form, whose configurations and
    /// tokenizers it takes. Default: what lies beside the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// Dropout probability inside the base model during training.
    #[serde(default)]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub dropout: f64,
    /// How frozen weights are stored in memory.
    #[serde(default, skip_serializing_if = "is_default")]
    pub weights: Precision,
    /// Start from random weights instead of those of the checkpoint; only `config.json` and the
    /// tokenizer are read.
    #[serde(default)]
    pub from_scratch: bool,
}

/// The `[training]` table: optimiser, schedule, evaluations and checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// How many times to go through the training data.
    #[schemars(range(min = 1))]
    pub epochs: usize,
    /// Stop after this many optimizer steps, if the epochs have not ended before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_steps: Option<usize>,
    /// Examples per batch; required unless `tokens_per_batch` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<NonZeroUsize>,
    /// Tokens per batch, instead of `batch_size`: a batch holds as many examples, in shuffled order, as
    /// have together no more than this many tokens (patches, for images). An example that is longer
    /// is a batch of its own. Examples do not see each other, and there is no padding, so `batching`
    /// does not apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_batch: Option<NonZeroUsize>,
    /// Examples per batch in evaluations.
    #[serde(default = "default_evaluation_batch_size")]
    pub evaluation_batch_size: NonZeroUsize,
    /// Number of batches whose gradients are averaged into one optimizer step.
    #[serde(default = "one")]
    pub gradient_accumulation: NonZeroUsize,
    /// Divide each batch into this many micro-batches (examples of about as many tokens together), whose
    /// gradients are summed into those of the batch: less memory, the same step up to rounding. Several
    /// processes (`mpirun`) share the micro-batches of a step, and have the same bits as one process with the
    /// same number. Default: 1, and of several processes as many as give each the same number in a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_batches: Option<NonZeroUsize>,
    /// The peak learning rate, reached after the warm-up.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub learning_rate: f64,
    /// A separate learning rate for the head. Default: `learning_rate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub head_learning_rate: Option<f64>,
    /// AdamW's decoupled weight decay.
    #[serde(default = "default_weight_decay")]
    #[schemars(range(min = 0))]
    pub weight_decay: f64,
    /// AdamW's β₁: the decay rate of the mean of the gradients.
    #[serde(default = "default_beta_1")]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub beta_1: f64,
    /// AdamW's β₂: the decay rate of the mean of their squares.
    #[serde(default = "default_beta_2")]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub beta_2: f64,
    /// AdamW's ε, which is added to the denominator.
    #[serde(default = "default_epsilon")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub epsilon: f64,
    /// How the learning rate changes after the warm-up.
    #[serde(default)]
    pub scheduler: Scheduler,
    /// The share of all steps in which the learning rate rises to its peak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub warmup_ratio: Option<f64>,
    /// The number of warm-up steps, instead of `warmup_ratio`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<usize>,
    /// Settings of `scheduler = "reduce-on-plateau"`.
    #[serde(default)]
    pub plateau: PlateauConfig,
    /// Label smoothing: the share of each target class, or of each target token of a language model,
    /// that the training loss spreads evenly over all classes or tokens.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub label_smoothing: f64,
    /// Clip the norm of the gradients to this value; 0 turns clipping off.
    #[serde(default = "default_gradient_clip")]
    #[schemars(range(min = 0))]
    pub gradient_clip: f64,
    /// Evaluate on the validation split every this many epochs; 0 evaluates only at the end.
    #[serde(default = "one_epoch")]
    pub evaluate_every: usize,
    /// Whether the test split is read, and measured at the end.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub evaluate_test: bool,
    /// Also write a checkpoint every this many steps, besides the one after each epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save_every: Option<NonZeroUsize>,
    /// Log a line every this many steps.
    #[serde(default = "default_log_every")]
    pub log_every: NonZeroUsize,
    /// Stop after this many evaluations in a row without improvement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<NonZeroUsize>,
    /// Which state of the training is saved as its result.
    #[serde(default)]
    pub keep: Keep,
    /// How training examples are grouped into batches.
    #[serde(default)]
    pub batching: LengthGrouping,
    /// Gradient checkpointing: keep only the layers' inputs and run each layer again in the
    /// backward pass. This needs the activations of one layer at a time and about a third more
    /// time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gradient_checkpointing: bool,
    /// Write event files for TensorBoard in addition to metrics.jsonl.
    // Left out of the resolved file if it is the default, or runs of earlier releases would have
    // another configuration.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub tensorboard: bool,
}

/// Which state of a training is saved as its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// The state after the last step.
    #[default]
    Last,
    /// The best state on the validation split.
    Best,
}

impl TrainingConfig {
    /// How much a batch holds.
    ///
    /// # Errors
    /// If the configuration does not say it, says it twice, or groups batches that need no grouping.
    pub fn size_of_batches(&self) -> Result<BatchSize, BatchSizeError> {
        let size = BatchSize::from_options(self.batch_size, self.tokens_per_batch)?;
        let LengthGrouping {
            group_by_length,
            window,
        } = self.batching;
        let is_narrowed = group_by_length && window != LengthGrouping::default().window;
        match size {
            BatchSize::Tokens(_) if is_narrowed => Err(BatchSizeError::Grouped),
            _ => Ok(size),
        }
    }
}

impl TrainConfig {
    /// Parses a training file.
    ///
    /// # Errors
    /// If it is not TOML, or has an unknown key or an invalid value.
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

    /// An error for every invalid value; [`TrainerError::key`] names the key.
    pub fn problems(&self) -> Vec<TrainerError> {
        let training = &self.training;
        let below_one = 0.0..1.0;
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let head_learning_rate = training.head_learning_rate.unwrap_or(1.0);
        let max_steps = training.max_steps.unwrap_or(1);
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
                "a number of at least 0",
            ),
            (
                "training.label_smoothing",
                training.label_smoothing,
                below_one.contains(&training.label_smoothing),
                BELOW_ONE,
            ),
            (
                "training.epochs",
                training.epochs as f64,
                training.epochs > 0,
                "at least 1",
            ),
            (
                "training.max_steps",
                max_steps as f64,
                max_steps > 0,
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
            self.warmup().map(drop),
            training
                .size_of_batches()
                .map(drop)
                .map_err(TrainerError::from),
            training.plateau.validate().map_err(TrainerError::from),
        ];
        problems.extend(self.task_problems());
        problems.extend(self.diffusion_problems());
        problems.extend(rules.into_iter().filter_map(Result::err));
        problems.extend(self.adapter.problems());
        let method = self.adapter.method;
        if method.trains_everything() && self.base.weights.quantises() {
            problems.push(TrainerError::Method {
                key: "base.weights",
                method: method.name(),
                reason: "all weights are trained, and none is frozen that could be quantised; leave it out"
                    .to_owned(),
            });
        }
        problems
    }

    pub(crate) fn warmup(&self) -> Result<Warmup, TrainerError> {
        let training = &self.training;
        Ok(Warmup::from_options(
            training.warmup_ratio,
            training.warmup_steps,
        )?)
    }
}

pub(crate) const ABOVE_ZERO: &str = "a number above 0";
pub(crate) const BELOW_ONE: &str = "at least 0 and below 1";

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
    use crate::{AdapterMethod, TaskKind};

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
        assert_eq!(config.adapter.method, AdapterMethod::Eigenlorax);
        assert_eq!(config.training.weight_decay, 0.01);
        assert_eq!(config.task.kind, TaskKind::SequenceClassification);
        let resolved = toml::to_string(&config).unwrap();
        assert_eq!(TrainConfig::from_toml(&resolved).unwrap(), config);
        let marked = TrainConfig::from_toml(&format!("\u{feff}{FILE}"));
        assert_eq!(marked.unwrap(), config, "with a byte order mark");
    }

    #[test]
    fn an_unknown_key_and_an_invalid_value_are_named() {
        let unknown = FILE.replace("batch_size", "batchsize");
        let error = TrainConfig::from_toml(&unknown).unwrap_err().to_string();
        assert!(error.contains("batchsize"), "{error}");
        let negative = FILE.replace("4e-3", "-1.0");
        let error = TrainConfig::from_toml(&negative).unwrap_err().to_string();
        assert!(
            error.contains("training.learning_rate") && error.contains("-1"),
            "{error}"
        );
        let none = FILE.replace("epochs = 8", "epochs = 8\nmax_steps = 0");
        let error = TrainConfig::from_toml(&none).unwrap_err().to_string();
        assert!(error.contains("training.max_steps"), "{error}");
        for (batches, expected) in [
            ("batch_size = 8\ntokens_per_batch = 64", "leave one out"),
            ("", "`training.batch_size` is missing"),
            (
                "tokens_per_batch = 64\nbatching.window = 3",
                "`training.batching.window`",
            ),
        ] {
            let file = FILE.replace("batch_size = 32", batches);
            let error = TrainConfig::from_toml(&file).unwrap_err().to_string();
            assert!(error.contains(expected), "{batches}: {error}");
        }
        let missing = FILE.replace("learning_rate = 4e-3", "");
        let error = TrainConfig::from_toml(&missing).unwrap_err().to_string();
        assert!(error.contains("learning_rate"), "{error}");
    }

    #[test]
    fn weights_that_are_all_trained_are_not_quantised() {
        let full = FILE.replace("method = \"eigenlorax\"", "method = \"full\"");
        let full = full.replace("subspace = \"subspaces/clinc\"\n        rank = 8", "");
        assert!(TrainConfig::from_toml(&full).is_ok());
        let quantised = full.replace(
            "model = \"model\"",
            "model = \"model\"\n        weights = \"nf4\"",
        );
        let error = TrainConfig::from_toml(&quantised).unwrap_err().to_string();
        assert!(
            error.contains("`base.weights`") && error.contains("full"),
            "{error}"
        );
    }

    #[test]
    fn prompts_are_accepted_for_image_classes_only() {
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
