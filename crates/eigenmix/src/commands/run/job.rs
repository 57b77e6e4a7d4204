//! A cell and what is left of it to do.

use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use eigenmix_tensors::FileLock;
use eigenmix_trainer::{DeviceChoice, Observer, Outcome, RunOptions, Training};

use super::cell_state::CellState;
use super::evaluation;
use super::events::{Event, EventWriter};
use crate::console::Console;
use crate::experiment::{Cell, Work};
use crate::interruption;

/// A cell of an experiment that is to be finished.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub(super) cell: &'a Cell,
    force: bool,
    /// How far it was when the run began.
    pub(super) state: CellState,
    /// What others wait for that need its result too.
    pub(super) lock: Option<PathBuf>,
}

impl<'a> Job<'a> {
    /// # Errors
    /// If the cell was run with another configuration.
    pub(super) fn new(cell: &'a Cell, force: bool) -> anyhow::Result<Self> {
        Ok(Self {
            cell,
            force,
            state: CellState::of(cell, force)?,
            lock: None,
        })
    }

    /// What another process finished in the meantime need not be done again.
    ///
    /// # Errors
    /// If the lock cannot be had, or the cell was run with another configuration.
    pub(super) fn begin(&mut self) -> anyhow::Result<Option<FileLock>> {
        let Some(path) = &self.lock else {
            return Ok(None);
        };
        let lock = FileLock::wait(path)?;
        self.state = CellState::of(self.cell, self.force)?;
        Ok(Some(lock))
    }
}

/// Does in this process what is left of a cell.
///
/// # Errors
/// Whatever its training or evaluation fails with.
pub(super) fn run_cell(
    cell: &Cell,
    state: CellState,
    device: DeviceChoice,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
    console: &Console,
) -> anyhow::Result<Outcome> {
    match &cell.work {
        Work::Train(config) => {
            let options = RunOptions {
                device: device.open()?,
                resume: state == CellState::Started,
                force: state == CellState::Replaced,
                stop,
            };
            Ok(Training::prepare((**config).clone())?.run(&options, observer)?)
        }
        Work::Evaluate(config) => {
            evaluation::evaluate(config, state == CellState::Replaced, device, console)
        }
    }
}

/// `eigenmix run-cell`: the cell that standard input describes, for the process that started this
/// one.
///
/// # Errors
/// Whatever the cell fails with.
pub(crate) fn run_cell_of_another(device: DeviceChoice, console: &Console) -> anyhow::Result<()> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("cannot read standard input")?;
    let (cell, state): (Cell, CellState) =
        serde_json::from_str(&text).context("standard input describes no cell")?;
    let stop = interruption::flag()?;
    let mut writer = EventWriter::new(stop);
    let outcome = run_cell(&cell, state, device, stop, &mut writer, console)?;
    writer.tell(&Event::Ended(Box::new(outcome)));
    Ok(())
}
