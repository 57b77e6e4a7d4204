//! Data, batches, loop, metrics and checkpoints: fine-tunes only what a method trains.

mod base_model;
mod checkpoint;
mod classifier;
mod config;
pub mod data;
mod device;
mod error;
mod loss;
mod method;
pub mod metrics;
mod metrics_log;
mod optimizer;
mod result;
pub mod schedule;
mod training;

pub use base_model::BaseModel;
pub use classifier::{Classifier, figures};
pub use config::{BaseConfig, Keep, TaskConfig, TaskKind, TrainConfig, TrainingConfig};
pub use device::DeviceChoice;
pub use error::TrainerError;
pub use method::{AdapterConfig, Init, Method, Targets as TargetNames};
pub use metrics_log::{EvaluationRecord, StepRecord};
pub use training::{Observer, Outcome, Plan, RunOptions, Training};
