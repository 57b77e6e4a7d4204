//! How far a cell got in earlier runs of the experiment.

use std::path::Path;

use eigenmix_tensors::FileError;
use eigenmix_trainer::{Outcome, TrainConfig, Training};
use serde::{Deserialize, Serialize};

use super::evaluation;
use crate::experiment::{Cell, Work};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CellState {
    Fresh,
    /// A training with this configuration was begun.
    Started,
    Finished,
    /// Whatever is there is to go.
    Replaced,
}

impl CellState {
    /// # Errors
    /// If the cell was run with another configuration.
    pub(super) fn of(cell: &Cell, force: bool) -> anyhow::Result<Self> {
        let directory = cell.output();
        if !directory.exists() {
            return Ok(Self::Fresh);
        }
        if force {
            return Ok(Self::Replaced);
        }
        match &cell.work {
            Work::Train(config) => Self::of_training(config, directory),
            Work::Evaluate(config) => match evaluation::is_same(config, directory)? {
                true if Outcome::read(directory).is_some() => Ok(Self::Finished),
                true => Ok(Self::Replaced),
                false => Err(FileError::AlreadyExists(directory.to_owned()).into()),
            },
        }
    }

    fn of_training(config: &TrainConfig, directory: &Path) -> anyhow::Result<Self> {
        if Training::is_blank(directory)? {
            return Ok(Self::Fresh);
        }
        if !Training::is_same(config, directory)? {
            return Err(FileError::AlreadyExists(directory.to_owned()).into());
        }
        Ok(match Outcome::read(directory) {
            Some(_) => Self::Finished,
            None => Self::Started,
        })
    }
}
