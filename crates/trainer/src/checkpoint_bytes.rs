//! A checkpoint as one message, for processes that do not read it from its files.

use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_moslora::TrainedValues;
use eigenmix_tensors::HostTensor;
use serde::{Deserialize, Serialize};

use crate::TrainerError;
use crate::checkpoint::{CheckpointState, TrainingProgress, load_latest};
use crate::processes::Processes;
use crate::run::Run;

/// What comes before the values: the progress, and the names and shapes of the tensors in their order.
#[derive(Serialize, Deserialize)]
struct Head {
    progress: TrainingProgress,
    parameters: Shapes,
    optimizer: Shapes,
    best: Option<Shapes>,
}

type Shapes = Vec<(String, Vec<usize>)>;

impl CheckpointState {
    /// The length of the head (8 bytes, little-endian), the head as JSON, and the values as f32.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let head = Head {
            progress: self.progress.clone(),
            parameters: shapes(&self.parameters),
            optimizer: shapes(&self.optimizer),
            best: self.best.as_ref().map(shapes),
        };
        let head = serde_json::to_vec(&head)?;
        let mut bytes = (head.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(&head);
        let groups = [
            Some(&self.parameters),
            Some(&self.optimizer),
            self.best.as_ref(),
        ];
        for value in groups.into_iter().flatten().flat_map(BTreeMap::values) {
            bytes.extend(value.values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Ok(bytes)
    }

    /// What [`CheckpointState::to_bytes`] wrote; `None` if it is something else.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (head, mut values) = rest.split_at_checked(length)?;
        let head: Head = serde_json::from_slice(head).ok()?;
        let parameters = read(head.parameters, &mut values)?;
        let optimizer = read(head.optimizer, &mut values)?;
        let best = match head.best {
            Some(best) => Some(read(best, &mut values)?),
            None => None,
        };
        values.is_empty().then_some(Self {
            progress: head.progress,
            parameters,
            optimizer,
            best,
        })
    }
}

/// The newest checkpoint of a run, as the first process finds it: others may not see its files.
pub(crate) fn latest_checkpoint(
    output: &Path,
    processes: &Processes,
) -> Result<Option<CheckpointState>, TrainerError> {
    match processes.is_alone() {
        true => load_latest(output),
        false => first_state(output, processes, || load_latest(output)),
    }
}

/// The state that the first process has, if it has one.
///
/// - output: the directory of the run
///
/// # Errors
/// As `own`, and if another process has failed.
pub(crate) fn first_state(
    output: &Path,
    processes: &Processes,
    own: impl FnOnce() -> Result<Option<CheckpointState>, TrainerError>,
) -> Result<Option<CheckpointState>, TrainerError> {
    let malformed = |problem: String| TrainerError::Checkpoint {
        path: output.join(Run::CHECKPOINTS),
        problem,
    };
    let bytes = processes.from_first(|| match own()? {
        Some(state) => state
            .to_bytes()
            .map_err(|error| malformed(error.to_string())),
        None => Ok(Vec::new()),
    })?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let state = CheckpointState::from_bytes(&bytes);
    let state = state.ok_or_else(|| malformed("it did not arrive as it was sent".to_owned()))?;
    Ok(Some(state))
}

fn shapes(values: &TrainedValues) -> Shapes {
    let shape = |(name, value): (&String, &HostTensor)| (name.clone(), value.shape.clone());
    values.iter().map(shape).collect()
}

fn read(shapes: Shapes, bytes: &mut &[u8]) -> Option<TrainedValues> {
    let mut values = TrainedValues::new();
    for (name, shape) in shapes {
        let count: usize = shape.iter().product();
        let (own, rest) = bytes.split_at_checked(count * size_of::<f32>())?;
        *bytes = rest;
        let own = own.chunks_exact(size_of::<f32>());
        let number = |bytes: &[u8]| bytes.try_into().map_or(f32::NAN, f32::from_le_bytes);
        let tensor = HostTensor {
            shape,
            values: own.map(number).collect(),
        };
        values.insert(name, tensor);
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(names: &[&str]) -> TrainedValues {
        let tensor = |(place, name): (usize, &&str)| {
            let values = (0..6).map(|at| (at + 7 * place) as f32 / 3.0 - 1.0);
            let tensor = HostTensor {
                shape: vec![2, 3],
                values: values.collect(),
            };
            ((*name).to_owned(), tensor)
        };
        names.iter().enumerate().map(tensor).collect()
    }

    #[test]
    fn a_checkpoint_comes_back_as_it_was() {
        for best in [None, Some(values(&["b"]))] {
            let state = CheckpointState {
                progress: TrainingProgress {
                    step: 12,
                    loss_sum: 0.1 + 0.2,
                    last_validation: Some(BTreeMap::from([("accuracy".to_owned(), f64::NAN)])),
                    ..TrainingProgress::default()
                },
                parameters: values(&["a", "b"]),
                optimizer: values(&["a/first", "a/second", "b/first"]),
                best,
            };
            let bytes = state.to_bytes().unwrap();
            let found = CheckpointState::from_bytes(&bytes).unwrap();
            assert_eq!(found.progress.loss_sum, state.progress.loss_sum);
            assert!(found.progress.last_validation.unwrap()["accuracy"].is_nan());
            assert_eq!(found.parameters, state.parameters);
            assert_eq!(found.optimizer, state.optimizer);
            assert_eq!(found.best, state.best);
            for length in [0, 3, 20, bytes.len() - 1] {
                assert!(CheckpointState::from_bytes(&bytes[..length]).is_none());
            }
        }
    }
}
