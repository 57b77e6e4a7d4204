//! Data, batches, loop, metrics and checkpoints: fine-tunes only what a method trains.
//!
//! ```
//! use eigenmix_trainer::{AdapterMethod, TrainConfig};
//!
//! # fn main() -> Result<(), eigenmix_trainer::TrainerError> {
//! let config = TrainConfig::from_toml(
//!     r#"
//!     output = "runs/travel"
//!     [base]
//!     model = "models/minilm"
//!     [data]
//!     path = "datasets/travel"
//!     [adapter]
//!     method = "lora"
//!     rank = 8
//!     [training]
//!     epochs = 3
//!     batch_size = 32
//!     learning_rate = 2e-3
//!     "#,
//! )?;
//! config.validate()?;
//! assert_eq!(config.adapter.method, AdapterMethod::Lora);
//! # Ok(())
//! # }
//! ```
//!
//! [`Training::prepare`] reads and checks all that such a configuration names, [`Training::run`] takes
//! the steps and writes the run; see the example `train_a_task`.

mod activation_memory;
mod adapted_model;
mod adapter_config;
mod adapter_place;
mod base_location;
mod base_model;
mod basis_config;
mod basis_record;
mod batch_size;
mod checkpoint;
mod checkpoint_bytes;
mod component_count;
mod composition_config;
mod config;
mod device;
mod diffusion;
mod error;
mod factor_init;
mod frozen_weights;
mod generation;
mod generation_speed;
mod gguf_rows;
mod host_values;
mod init;
mod lazy_base;
mod memory;
mod methods;
mod metric_value;
mod metrics_log;
mod model;
mod outcome;
mod peak_memory;
mod pipeline_location;
mod problem_type;
mod processes;
mod run;
mod run_history;
mod run_output;
mod sampling;
pub mod schedule;
mod task_config;
mod tasks;
mod tensorboard;
mod training;
mod vision_adapter_config;

pub use adapter_config::{AdapterConfig, TargetModulesConfig};
pub use adapter_place::{AdapterPlace, fetch_tokenizer_of, locate_adapter, open_adapter};
pub use base_location::is_base_model;
pub use base_model::{BaseModel, TEXT_COMPANIONS};
pub use basis_config::{BasisKind, GradientConfig, GradientJoin, GradientKey};
pub use basis_record::BasisRecord;
pub use batch_size::{BatchSize, BatchSizeError};
pub use burn::tensor::Device;
pub use component_count::{AllComponents, ComponentCount};
pub use composition_config::WeightScope;
pub use config::{BaseConfig, Keep, TrainConfig, TrainingConfig};
pub use device::{Backend, DeviceChoice, DeviceKind, PresentDevice};
pub use diffusion::{
    DiffusionConfig, DiffusionTraining, SamplesConfig, has_only_coefficients, rebuild_adapter,
};
pub use error::TrainerError;
pub use generation::{GenerationEvent, GenerationOptions, Prompt, generate};
pub use generation_speed::GenerationSpeed;
pub use gguf_rows::{named_base, with_rows_in_order};
pub use init::Init;
pub use lazy_base::LazyBase;
pub use memory::MemoryEstimate;
pub use methods::AdapterMethod;
pub use metric_value::{MetricValue, named as named_metrics, one as one_metric};
pub use metrics_log::{EvaluationRecord, StepRecord};
pub use model::{
    Classifier, ClipFeatures, ClipSimilarity, LabelUnion, LoadedModel, TaskClassifiers, TaskHead,
    TaskHeads, TextFeatures, ZeroShot,
};
pub use outcome::{Observer, Outcome, RunOptions, TrainingPlan};
pub use pipeline_location::locate_pipeline;
pub use problem_type::set_problem_type;
pub use processes::{Launcher, ProcessError, Processes, Traffic, Transport};
pub use run::{Run, RunError};
pub use run_history::{BestEvaluation, Evaluations, RunHistory, metrics_in};
pub use sampling::Sampling;
pub use task_config::TaskConfig;
pub use tasks::{
    Evaluation, EvaluationOptions, Examples, ImageInputs, Inputs, LabelLoss, LabelSurvey,
    LabelledBatch, LabelledExamples, LengthSurvey, LineReader, Objective, SplitData, Survey, Task,
    TaskKind, TaskReader, TextInputs, TrainRequest, image_processor, label_metrics, preprocessor,
};
pub use training::{
    ChosenStart, GradientOptions, MeasuredLoss, ModuleGradient, NetworkTraining, Prospect,
    SelectedAdapter, Selection, SelectionOptions, SharedSteps, TaskGradient, TrainedModel,
    Training, Unusable, UsableAdapter,
};
pub use vision_adapter_config::VisionAdapterConfig;
