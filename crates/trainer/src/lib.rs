//! Data, batches, loop, metrics and checkpoints: fine-tunes only what a method trains.

mod adapter_config;
mod base_model;
mod checkpoint;
mod classifier;
mod config;
pub mod data;
mod device;
mod error;
mod inputs;
mod loaded_model;
mod loss;
mod method;
pub mod metrics;
mod metrics_log;
mod optimizer;
mod outcome;
mod result;
pub mod schedule;
mod training;
mod training_loop;

pub use adapter_config::{AdapterConfig, Init, Method, Targets as TargetNames};
pub use base_model::BaseModel;
pub use classifier::{Classifier, figures};
pub use config::{BaseConfig, Keep, TaskConfig, TaskKind, TrainConfig, TrainingConfig};
pub use device::DeviceChoice;
pub use error::TrainerError;
pub use inputs::Inputs;
pub use loaded_model::LoadedModel;
pub use metrics_log::{EvaluationRecord, StepRecord};
pub use outcome::{Observer, Outcome, Plan, RunOptions};
pub use training::Training;
