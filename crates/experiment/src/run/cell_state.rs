//! The state of a cell from earlier runs of the experiment.

use std::path::Path;

use eigenmix_tensors::FileError;
use eigenmix_trainer::{Run, TrainConfig, Training};
use serde::{Deserialize, Serialize};

use super::evaluated_cell;
use crate::ExperimentError;
use crate::experiment::{Cell, Work};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CellState {
    Fresh,
    /// A training with this configuration was started.
    Started,
    Finished,
    /// Existing output has to be replaced.
    Replaced,
}

impl CellState {
    /// # Errors
    /// If the cell was run with another configuration.
    pub(super) fn of(cell: &Cell, force: bool) -> Result<Self, ExperimentError> {
        let directory = cell.output();
        if !directory.exists() {
            return Ok(Self::Fresh);
        }
        if force {
            return Ok(Self::Replaced);
        }
        match &cell.work {
            Work::Train(config) => Self::of_training(config, directory),
            Work::Evaluate(config) => match evaluated_cell::is_same(config, directory)? {
                true if Run::at(directory).outcome()?.is_some() => Ok(Self::Finished),
                true => Ok(Self::Replaced),
                false => Err(FileError::AlreadyExists(directory.to_owned()).into()),
            },
        }
    }

    fn of_training(config: &TrainConfig, directory: &Path) -> Result<Self, ExperimentError> {
        if Training::has_no_run(directory)? {
            return Ok(Self::Fresh);
        }
        if !Training::is_same(config, directory)? {
            return Err(FileError::AlreadyExists(directory.to_owned()).into());
        }
        Ok(match Run::at(directory).outcome()? {
            Some(_) => Self::Finished,
            None => Self::Started,
        })
    }
}
