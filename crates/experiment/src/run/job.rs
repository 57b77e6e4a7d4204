//! A cell and the part of it that is left to do.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use eigenmix_tensors::FileLock;
use eigenmix_trainer::{DeviceChoice, Outcome, Processes, RunOptions, Training};

use super::cell_state::CellState;
use super::evaluated_cell;
use crate::ExperimentError;
use crate::experiment::{Cell, Work};
use crate::listener::Listener;

/// A cell of an experiment that has to be finished.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub(super) cell: &'a Cell,
    force: bool,
    /// How far it was when the run began.
    pub(super) state: CellState,
    /// The lock for which others wait that need its result too.
    pub(super) lock: Option<PathBuf>,
}

impl<'a> Job<'a> {
    /// # Errors
    /// If the cell was run with another configuration.
    pub(super) fn new(cell: &'a Cell, force: bool) -> Result<Self, ExperimentError> {
        Ok(Self {
            cell,
            force,
            state: CellState::of(cell, force)?,
            lock: None,
        })
    }

    /// The same in a process that does what the first one tells it, which alone looks at what is there.
    pub(super) fn of_first(cell: &'a Cell, force: bool) -> Self {
        Self {
            cell,
            force,
            state: CellState::Fresh,
            lock: None,
        }
    }

    /// Takes into account what another process finished in the meantime.
    ///
    /// # Errors
    /// If the lock cannot be had, or the cell was run with another configuration.
    pub(super) fn begin(&mut self) -> Result<Option<FileLock>, ExperimentError> {
        let Some(path) = &self.lock else {
            return Ok(None);
        };
        let lock = FileLock::wait(path)?;
        self.state = CellState::of(self.cell, self.force)?;
        Ok(Some(lock))
    }
}

/// Runs the rest of a cell in this process.
///
/// - processes: those that train it together
/// - label: the name of the cell where its progress is shown
///
/// # Errors
/// Whatever its training or evaluation fails with.
pub(super) fn run_cell(
    cell: &Cell,
    state: CellState,
    device: DeviceChoice,
    stop: &AtomicBool,
    processes: &Processes,
    label: &str,
    listener: &dyn Listener,
) -> Result<Outcome, ExperimentError> {
    match &cell.work {
        Work::Train(config) => {
            let options = RunOptions {
                device: device.open()?,
                resume: state == CellState::Started,
                force: state == CellState::Replaced,
                stop,
                processes,
            };
            let mut training = Training::prepare((**config).clone())?;
            Ok(training.run(&options, listener.training(label).as_mut())?)
        }
        Work::Evaluate(config) => {
            let outcome = match processes.is_first() {
                true => {
                    let replaced = state == CellState::Replaced;
                    evaluated_cell::evaluate(config, replaced, device, listener)?
                }
                false => Outcome::default(),
            };
            processes.meet()?;
            Ok(outcome)
        }
    }
}
