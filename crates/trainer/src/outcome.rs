//! Options, events and outcome of a training.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use eigenmix_tensors::FileError;
use eigenmix_tensors::write_file;

use crate::SharedSteps;
use crate::metrics_log::{EvaluationRecord, StepRecord};
use crate::processes::Processes;
use crate::run::Run;
use crate::training::ChosenStart;
use crate::{AdapterMethod, TrainerError};

/// Receives the events of a training.
pub trait Observer {
    fn started(&mut self, _plan: &TrainingPlan) {}
    /// Before the start, where the task's gradient is part of the basis: after every batch, how many
    /// examples went through the model and how many will.
    fn gradient(&mut self, _done: usize, _total: usize) {}
    /// Before the start, where that follows from the data: after every batch, how many examples went through
    /// the model and how many will.
    fn starts_measured(&mut self, _done: usize, _total: usize) {}
    /// Before the start, where the weights of a composition are found first: after every step of that.
    fn composed(&mut self, _done: usize, _total: usize) {}
    /// Before the first step of a diffusion model: after every image or caption that was encoded, how many were
    /// and how many will be.
    fn encoded(&mut self, _done: usize, _total: usize) {}
    /// After every optimizer step.
    fn stepped(&mut self, _step: usize) {}
    fn logged(&mut self, _record: &StepRecord) {}
    fn evaluated(&mut self, _record: &EvaluationRecord) {}
    fn note(&mut self, _note: &str) {}
}

/// The plan of a training.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TrainingPlan {
    pub method: AdapterMethod,
    /// Parameters that the method trains, head excluded.
    pub adapter_parameters: usize,
    pub head_parameters: usize,
    pub base_parameters: usize,
    pub adapted_modules: usize,
    pub train_examples: usize,
    pub validation_examples: usize,
    pub test_examples: usize,
    /// Examples that `max_length` cut.
    pub truncated_examples: usize,
    pub total_steps: usize,
    /// Steps taken before the training was resumed.
    pub resumed_steps: usize,
}

/// The outcome of a training; that of a finished one is written to `outcome.json`.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Outcome {
    pub output: PathBuf,
    /// Whether it was interrupted; it can be resumed from its checkpoint.
    pub interrupted: bool,
    pub steps: usize,
    /// Seconds of training, evaluations included, loading excluded.
    pub seconds: f64,
    pub adapter_parameters: usize,
    pub head_parameters: usize,
    /// The bytes to keep for this task: the coefficients if the method has a basis, otherwise the
    /// adapter.
    pub bytes: u64,
    /// Training examples per second, evaluations and checkpoints excluded.
    #[serde(default)]
    pub examples_per_second: Option<f64>,
    /// The largest resident set of the process, in bytes, from the loading of the model to the end,
    /// mapped files included; of a resumed training, since it was resumed. Linux only.
    #[serde(default)]
    pub peak_memory: Option<u64>,
    /// The processes that shared the training, if there were several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<SharedSteps>,
    /// The start that the data chose, with `adapter.init` = "auto".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<ChosenStart>,
    /// The last logged training loss.
    pub loss: Option<f64>,
    /// Metrics by name; NaN is written as `"NaN"`.
    #[serde(with = "crate::metric_value::optional")]
    pub validation: Option<BTreeMap<String, f64>>,
    #[serde(with = "crate::metric_value::optional")]
    pub test: Option<BTreeMap<String, f64>>,
}

impl Outcome {
    /// Writes it into the run's directory, which marks the run as finished.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_to(&self, directory: &Path) -> Result<(), TrainerError> {
        let path = directory.join(Run::OUTCOME);
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| FileError::io("write", &path)(error.into()))?;
        Ok(write_file(&path, &text)?)
    }
}

/// Options of a run that are not in its file.
pub struct RunOptions<'a> {
    pub device: Device,
    /// Continue from the last checkpoint.
    pub resume: bool,
    /// Replace an earlier run.
    pub force: bool,
    /// Set from outside to stop after the current step.
    pub stop: &'a AtomicBool,
    /// Those that share the training; `Processes::alone()` of one.
    pub processes: &'a Processes,
}
