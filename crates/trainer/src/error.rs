//! Why a training, an evaluation or a prediction could not be done.

use std::fmt::Display;
use std::path::PathBuf;

use eigenmix_adapter::{AdapterError, PromptError};
use eigenmix_data::DataError;
use eigenmix_data::metrics::MetricError;
use eigenmix_diffusion::DiffusionError;
use eigenmix_eigenlorax::EigenloraxError;
use eigenmix_hub::HubError;
use eigenmix_images::PreprocessorError;
use eigenmix_models::ModelError;
use eigenmix_moslora::ParameterError;
use eigenmix_store::StoreError;
use eigenmix_tensors::FileError;

use crate::batch_size::BatchSizeError;
use crate::processes::ProcessError;
use crate::schedule::ScheduleError;

#[derive(Debug, thiserror::Error)]
pub enum TrainerError {
    #[error("the gradient of `{module}` cannot be decomposed")]
    Gradient {
        module: String,
        #[source]
        source: eigenmix_eigenlorax::decomposition::DecompositionError,
    },
    #[error(
        "the adapter of `{run}` cannot be made again from its coefficients: {reason}",
        run = .run.display()
    )]
    Coefficients { run: PathBuf, reason: String },
    #[error("it was stopped before the first step")]
    Stopped,
    #[error(
        "adapter.method = \"{method}\" adapts no module to take a gradient of; name one that does, such as lora"
    )]
    NoGradient { method: &'static str },
    #[error("there is no adapter to select")]
    NothingToSelect,
    #[error("the gradient of `{module}` is {found}; is the base model's checkpoint damaged?")]
    GradientNotFinite { module: String, found: f32 },
    #[error("{0}")]
    Toml(#[source] toml::de::Error),
    #[error("`{key}` must be {expected}, found {found}")]
    Value {
        key: &'static str,
        expected: &'static str,
        found: String,
    },
    #[error("`{key}` does not work with method `{method}`: {reason}")]
    Method {
        key: &'static str,
        method: &'static str,
        reason: String,
    },
    #[error(
        "task.kind = \"{task}\" is for diffusion models, which this is not built for: gradients of tasks, the choice of adapters for one, suggested training files, evaluations and predictions are of models of texts and images"
    )]
    OfNetworks { task: &'static str },
    #[error(
        "device `{found}` is unknown; expected cpu, ndarray, wgpu, vulkan, cuda or auto; `cuda:1` is the second CUDA device"
    )]
    UnknownDevice { found: String },
    #[error(
        "this build has no `{device}` backend; build it with `cargo build --release --features {device}`"
    )]
    DeviceNotBuilt { device: &'static str },
    #[error(
        "`{device}` finds no device on this machine: is a driver for it installed? `eigenmix devices` lists those available"
    )]
    NoDevice { device: &'static str },
    #[error(
        "there is no `{device}:{index}`: `{device}` finds {count} device{plural} on this machine, counted from 0",
        plural = if *count == 1 { "" } else { "s" }
    )]
    TooFewDevices {
        device: &'static str,
        index: usize,
        count: usize,
    },
    #[error("no {among} matches {names} of adapter.target_modules{advice}")]
    NoTargets {
        /// The layers that there are.
        among: &'static str,
        names: String,
        advice: String,
    },
    #[error(
        "there is nothing to adapt: every layer that adapter.target_modules or the adapters have, such as `{example}`, is {reason}; name others"
    )]
    NothingAdapted {
        example: String,
        /// Why none of them is.
        reason: &'static str,
    },
    #[error(
        "the subspace has no module of this base model: it has `{found}`, the base model `{expected}`; was it extracted from adapters of another base model?"
    )]
    ForeignSubspace { found: String, expected: String },
    #[error(
        "no module of the adapters is one of this base model: they have `{found}`, the base model `{expected}`; are they for another base model?"
    )]
    ForeignAdapters { found: String, expected: String },
    #[error(
        "the update that `{adapter}` has of `{module}` is {found:?} ([d_out, d_in]), the base model's layer {expected:?}; is it for another base model?"
    )]
    AdapterShape {
        adapter: String,
        module: String,
        found: [usize; 2],
        expected: [usize; 2],
    },
    #[error(
        "the subspace was extracted from adapters of base model `{found}`, the training file names `{expected}`; set adapter.allow_base_mismatch = true if they are the same model"
    )]
    SubspaceBase { expected: String, found: String },
    #[error(
        "`{location}` is part of the basis and has changed since the training began (SHA-256 {then} then, {now} now); put the earlier one back, or start over with --force"
    )]
    ChangedBasis {
        location: String,
        then: String,
        now: String,
    },
    #[error("adapter.init cannot go on from `{adapter}`: {reason}")]
    InitialAdapter { adapter: String, reason: String },
    #[error(
        "the tokenizer knows {tokenizer} tokens, the base model only {model}; do they belong together?"
    )]
    Vocabulary { tokenizer: usize, model: usize },
    #[error("`{model}` is a vision model and takes no text")]
    NoText { model: String },
    #[error(
        "`data.{key}` is read by task.kind = \"{readers}\" only, and this task is {task}; leave it out"
    )]
    SettingOfAnotherTask {
        key: &'static str,
        task: &'static str,
        readers: String,
    },
    #[error("task.kind = \"{task}\" does not fit `{model}`, which is a {found}; {known}")]
    TaskModel {
        task: &'static str,
        model: String,
        found: &'static str,
        /// Which models each task is for.
        known: String,
    },
    #[error(
        "the preprocessor of `{model}` gives images of {found:?} pixels, but its config.json says {expected:?} in {channels} channels"
    )]
    ImageSize {
        model: String,
        expected: [usize; 2],
        channels: usize,
        found: [usize; 2],
    },
    #[error(
        "`{model}` has no text tower for prompts; zero-shot classification needs a whole CLIP (model_type `clip`)"
    )]
    NoTextTower { model: String },
    #[error("the prompt `{text}` is longer than the {limit} tokens of the text tower")]
    LongPrompt { text: String, limit: usize },
    #[error("`{path}` is the processor of another model: {reason}; take the file that belongs to the base model", path = .path.display())]
    Processor { path: PathBuf, reason: String },
    #[error("the adapter has prompts but no labels.json; give the labels")]
    PromptsWithoutLabels,
    #[error(
        "`{key}` does not work with task.kind = \"{task}\", task.target = \"{target}\": {reason}"
    )]
    TaskSetting {
        key: &'static str,
        task: &'static str,
        target: &'static str,
        reason: &'static str,
    },
    #[error("`{key}` does not work with task.kind = \"{task}\": {reason}")]
    TaskOption {
        key: &'static str,
        task: &'static str,
        reason: &'static str,
    },
    #[error("task.prompts: {0}")]
    Prompts(#[source] PromptError),
    #[error("task.prompts do not work with {key} = {found}: {reason}")]
    PromptsWith {
        key: &'static str,
        found: String,
        reason: &'static str,
    },
    #[error(
        "data.max_length is {found} (128 where the file says nothing), but the base model has only {limit} positions; set data.max_length = {limit}, or less"
    )]
    TooLong { found: usize, limit: usize },
    #[error(
        "training.{setting} goes by measurements on the validation split, but {reason}; {remedy}, or leave training.{setting} out"
    )]
    NothingMeasured {
        setting: &'static str,
        reason: String,
        remedy: &'static str,
    },
    #[error("`{path}` exists already; --force replaces it, --resume continues it", path = .path.display())]
    OutputExists { path: PathBuf },
    #[error("`{path}` is not a run of Eigenmix (it has no config.toml), so --force does not replace it", path = .path.display())]
    NotARun { path: PathBuf },
    #[error("`{path}` has no checkpoint to resume from", path = .path.display())]
    NothingToResume { path: PathBuf },
    #[error("`{path}` was started with another configuration ({key}); resume it with the same configuration, or start over with --force", path = .path.display())]
    ResumedConfig { path: PathBuf, key: String },
    #[error("the checkpoint `{path}` is damaged: {problem}", path = .path.display())]
    Checkpoint { path: PathBuf, problem: String },
    #[error("the loss is {loss} at step {step}; the learning rate is probably too high")]
    Diverged { step: usize, loss: f32 },
    #[error(
        "the head of {owner} has {outputs} outputs, for {labels} labels; is it complete, with the labels.json of the same training?"
    )]
    HeadOutputs {
        owner: String,
        outputs: usize,
        labels: usize,
    },
    #[error("neither the adapter nor the base model has a head with known labels; train one first")]
    NoHead,
    #[error(
        "`{model}` is a diffusion model: `train` and `run` take it with task.kind = \"text-to-image\" or \"dreambooth\", and `generate`, `forward --part`, `inspect` and `merge` know such models; this is for models of texts and images"
    )]
    DiffusionModel { model: String },
    #[error(
        "Hub repository `{model}` has its weights only as `{file}`, a pickled file; opening one can run code, so Eigenmix does not; ask its owner for model.safetensors, or convert it with transformers: AutoModel.from_pretrained(…).save_pretrained(DIR)"
    )]
    PickledBase { model: String, file: &'static str },
    #[error(
        "`{file}` alone is no base model: one file can be a .gguf file, anything else is the repository with its configuration; name it: `{model}`"
    )]
    FileOfBase { file: String, model: String },
    #[error("`{model}` has its weights only as GGUF files, {files}; name one of them: `{example}`")]
    OnlyGguf {
        model: String,
        files: String,
        example: String,
    },
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error(transparent)]
    Store(Box<StoreError>),
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    #[error(transparent)]
    Eigenlorax(#[from] EigenloraxError),
    #[error(transparent)]
    Diffusion(Box<DiffusionError>),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Parameters(#[from] ParameterError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Preprocessor(#[from] PreprocessorError),
    #[error(transparent)]
    Metric(#[from] MetricError),
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    #[error(transparent)]
    BatchSize(#[from] BatchSizeError),
    #[error(transparent)]
    Processes(#[from] ProcessError),
}

impl From<DiffusionError> for TrainerError {
    fn from(error: DiffusionError) -> Self {
        Self::Diffusion(Box::new(error))
    }
}

impl From<StoreError> for TrainerError {
    fn from(error: StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}

impl TrainerError {
    /// The key of the configuration whose value makes no sense.
    pub fn key(&self) -> Option<&'static str> {
        match self {
            Self::Value { key, .. }
            | Self::Method { key, .. }
            | Self::TaskSetting { key, .. }
            | Self::TaskOption { key, .. }
            | Self::PromptsWith { key, .. } => Some(key),
            Self::Data(DataError::ClassWeights(_)) => Some("task.class_weights"),
            Self::Prompts(_) => Some("task.prompts"),
            Self::InitialAdapter { .. } => Some("adapter.init"),
            Self::Schedule(error) => Some(error.key()),
            Self::BatchSize(error) => Some(error.key()),
            _ => None,
        }
    }

    pub(crate) fn value(key: &'static str, expected: &'static str, found: impl Display) -> Self {
        Self::Value {
            key,
            expected,
            found: found.to_string(),
        }
    }
}
