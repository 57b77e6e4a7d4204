//! Checkpoints: the trained parameters, and what the loop needs to resume exactly.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use eigenmix_adapter::Source;
use eigenmix_moslora::TrainedValues;
use eigenmix_tensors::{FileError, HostTensor};
use eigenmix_tensors::{TensorFile, TensorOutput, write_directory, write_file, write_tensor_file};
use serde::{Deserialize, Serialize};

use crate::TrainerError;
use crate::metric_value;
use crate::run::Run;
use crate::schedule::{PlateauConfig, PlateauState};

/// The state of a training between two steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainingProgress {
    /// Optimizer steps taken.
    pub step: usize,
    /// The current epoch, from 0, and how many of its batches are done.
    pub epoch: usize,
    pub batch: usize,
    /// The sum of the losses since the last logged line, and how many they are.
    pub loss_sum: f64,
    pub loss_count: usize,
    pub plateau: PlateauState,
    /// The best evaluation so far.
    pub best: Option<Best>,
    /// Evaluations since the best one.
    pub without_improvement: usize,
    /// The length of `metrics.jsonl`.
    pub metrics_bytes: u64,
    /// Seconds spent so far.
    pub seconds: f64,
    /// Training examples so far, and the seconds that their steps took.
    #[serde(default)]
    pub examples: usize,
    #[serde(default)]
    pub step_seconds: f64,
    /// The step after which an epoch was last ended and evaluated, or the part of one that
    /// `max_steps` left.
    #[serde(default)]
    pub ended_at: Option<usize>,
    /// The last training loss that was logged.
    #[serde(default)]
    pub last_loss: Option<f64>,
    /// The metrics of the last evaluation on the validation split.
    #[serde(default, with = "metric_value::optional")]
    pub last_validation: Option<BTreeMap<String, f64>>,
    /// The adapter that the training started from, and the scalings of the updates that have its
    /// factors, by module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_from: Option<Source>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scalings: BTreeMap<String, f32>,
    /// What the frozen basis is made of: adapters, a subspace, the task's gradient.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub basis: Vec<Source>,
}

impl TrainingProgress {
    /// Takes in the metric of an evaluation; returns whether it is the best so far. A NaN never is,
    /// and any number is better than a NaN.
    pub(crate) fn judge(
        &mut self,
        value: f64,
        higher_is_better: bool,
        plateau: &PlateauConfig,
    ) -> bool {
        let is_better = match &self.best {
            Some(best) => metric_value::is_better(value, best.value, higher_is_better),
            None => !value.is_nan(),
        };
        if is_better {
            let step = self.step;
            self.best = Some(Best { step, value });
            self.without_improvement = 0;
        } else {
            self.without_improvement += 1;
        }
        self.plateau.update(value, higher_is_better, plateau);
        is_better
    }
}

/// The best evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    pub step: usize,
    /// NaN only in checkpoints of earlier releases.
    #[serde(rename = "figure", with = "metric_value::one")]
    pub value: f64,
}

/// The content of a checkpoint.
pub struct CheckpointState {
    pub progress: TrainingProgress,
    pub parameters: TrainedValues,
    pub optimizer: TrainedValues,
    /// The parameters of the best evaluation, if `keep = "best"`.
    pub best: Option<TrainedValues>,
}

const PARAMETERS: &str = "parameters.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const BEST: &str = "best.safetensors";
const PROGRESS: &str = "progress.json";

/// Writes `checkpoints/step-N` below `run` and removes all earlier ones except the last.
///
/// # Errors
/// If it cannot be written; the earlier checkpoints are then untouched.
pub fn save(run: &Path, state: &CheckpointState) -> Result<PathBuf, TrainerError> {
    let directory = run.join(Run::CHECKPOINTS);
    std::fs::create_dir_all(&directory).map_err(FileError::io("create", &directory))?;
    let path = directory.join(Run::step_name(state.progress.step));
    write_directory(&path, true, |temporary| {
        write_values(&temporary.join(PARAMETERS), &state.parameters)?;
        write_values(&temporary.join(OPTIMIZER), &state.optimizer)?;
        if let Some(best) = &state.best {
            write_values(&temporary.join(BEST), best)?;
        }
        let progress = serde_json::to_vec_pretty(&state.progress).map_err(|error| {
            TrainerError::Checkpoint {
                path: path.clone(),
                problem: error.to_string(),
            }
        })?;
        Ok::<_, TrainerError>(write_file(&temporary.join(PROGRESS), &progress)?)
    })?;
    let mut earlier = list(&directory)?;
    earlier.retain(|other| *other != path);
    // The previous one is kept, in case this one turns out to be unreadable.
    earlier.pop();
    for other in earlier {
        std::fs::remove_dir_all(&other).map_err(FileError::io("remove", &other))?;
    }
    Ok(path)
}

/// The newest readable checkpoint below `run`; `None` if none was ever completed.
///
/// # Errors
/// If checkpoints exist and none can be read.
pub fn load_latest(run: &Path) -> Result<Option<CheckpointState>, TrainerError> {
    let mut problem = None;
    for path in list(&run.join(Run::CHECKPOINTS))?.into_iter().rev() {
        match load(&path) {
            Ok(state) => return Ok(Some(state)),
            Err(error) => problem = Some(error),
        }
    }
    problem.map_or(Ok(None), Err)
}

fn load(path: &Path) -> Result<CheckpointState, TrainerError> {
    let progress_path = path.join(PROGRESS);
    let text =
        std::fs::read_to_string(&progress_path).map_err(FileError::io("read", &progress_path))?;
    let progress = serde_json::from_str(&text).map_err(|error| TrainerError::Checkpoint {
        path: path.to_owned(),
        problem: error.to_string(),
    })?;
    let best = path.join(BEST);
    Ok(CheckpointState {
        progress,
        parameters: read_values(&path.join(PARAMETERS))?,
        optimizer: read_values(&path.join(OPTIMIZER))?,
        best: best.is_file().then(|| read_values(&best)).transpose()?,
    })
}

/// The checkpoints, oldest first.
fn list(directory: &Path) -> Result<Vec<PathBuf>, TrainerError> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(directory).map_err(FileError::io("read", directory))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok())
        .filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .starts_with(Run::CHECKPOINT_PREFIX)
        })
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    Ok(paths)
}

/// Writes parameters as a safetensors file.
pub(crate) fn write_values(path: &Path, values: &TrainedValues) -> Result<(), TrainerError> {
    let tensors = values
        .iter()
        .map(|(name, value)| TensorOutput::f32(name.clone(), value.shape.clone(), &value.values))
        .collect();
    Ok(write_tensor_file(path, tensors)?)
}

/// Reads parameters from a safetensors file.
pub(crate) fn read_values(path: &Path) -> Result<TrainedValues, TrainerError> {
    let file = TensorFile::open(path)?;
    let mut values = BTreeMap::new();
    for name in file.names() {
        let shape = file.shape(name)?.to_vec();
        values.insert(
            name.to_owned(),
            HostTensor {
                shape,
                values: file.read_f32(name)?,
            },
        );
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether each value is the best when it comes, and the evaluations since the best one.
    fn judged(progress: &mut TrainingProgress, values: &[f64], higher: bool) -> Vec<(bool, usize)> {
        let mut judge = |value: &f64| {
            let is_best = progress.judge(*value, higher, &PlateauConfig::default());
            (is_best, progress.without_improvement)
        };
        values.iter().map(&mut judge).collect()
    }

    #[test]
    fn a_number_is_better_than_a_nan_that_came_first() {
        for (better, worse, higher) in [(0.7, 0.6, true), (0.6, 0.7, false)] {
            let mut progress = TrainingProgress::default();
            let values = [f64::NAN, worse, f64::NAN, better, worse];
            assert_eq!(
                judged(&mut progress, &values, higher),
                [(false, 1), (true, 0), (false, 1), (true, 0), (false, 1)]
            );
            assert_eq!(progress.best.map(|best| best.value), Some(better));
            assert_eq!(progress.plateau.best, Some(better));
        }
    }

    #[test]
    fn a_checkpoint_whose_best_value_is_nan_is_read_and_improved_on() {
        let mut written = serde_json::to_value(TrainingProgress::default()).expect("JSON");
        written["best"] = serde_json::json!({"step": 4, "figure": "NaN"});
        let mut progress: TrainingProgress = serde_json::from_value(written).expect("progress");
        assert_eq!(judged(&mut progress, &[-1.0], true), [(true, 0)]);
        let written = serde_json::to_value(&progress).expect("JSON");
        assert_eq!(
            written["best"],
            serde_json::json!({"step": 0, "figure": -1.0})
        );
    }
}
