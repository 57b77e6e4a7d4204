//! Data, batches, loop, metrics and checkpoints: fine-tunes only what a method trains.

mod adapter_config;
mod base_model;
mod basis_record;
mod basis_width;
mod checkpoint;
mod classifier;
mod config;
mod device;
mod error;
mod generation;
mod host_values;
mod label_union;
mod loaded_model;
mod memory;
mod method;
mod metrics_log;
mod optimizer;
mod outcome;
mod peak_memory;
mod result;
mod run_output;
pub mod schedule;
mod speed;
mod task_head;
mod task_heads;
mod tasks;
mod tensorboard;
mod training;
mod training_data;
mod training_loop;
mod zero_shot;

pub use adapter_config::{AdapterConfig, Init, Method, Targets as TargetNames};
pub use base_model::BaseModel;
pub use basis_record::BasisRecord;
pub use burn::tensor::Device;
pub use classifier::Classifier;
pub use config::{BaseConfig, Keep, TaskConfig, TrainConfig, TrainingConfig};
pub use device::{Backend, DeviceChoice, DeviceKind, PresentDevice};
pub use error::TrainerError;
pub use generation::{GenerationOptions, Prompt, Sampling, generate};
pub use label_union::LabelUnion;
pub use loaded_model::LoadedModel;
pub use memory::MemoryEstimate;
pub use metrics_log::{EvaluationRecord, StepRecord};
pub use outcome::{Observer, Outcome, Plan, RunOptions};
pub use task_head::TaskHead;
pub use task_heads::{TaskClassifiers, TaskHeads};
pub use tasks::{
    Evaluation, EvaluationOptions, Examples, ImageInputs, Inputs, LabelSurvey, LabelledExamples,
    LengthSurvey, LineReader, Objective, Part, SplitData, Survey, Task, TaskKind, TaskReader,
    TextInputs, label_metrics, preprocessor,
};
pub use training::Training;
pub use zero_shot::ZeroShot;
