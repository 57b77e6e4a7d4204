//! The other end of [`super::processes`]: a process that runs one cell for the one that started it.

use std::io::{Read, Write};
use std::sync::atomic::AtomicBool;

use eigenmix_trainer::{DeviceChoice, Processes};

use super::cell_state::CellState;
use super::events::{Event, EventWriter};
use super::job::run_cell;
use crate::experiment::Cell;
use crate::{ExperimentError, is_bad_input, message};

/// Runs the cell that `input` describes and writes its events to `output`, as lines of JSON. A
/// process that [`crate::Jobs::Processes`] starts calls this with its standard streams.
///
/// # Errors
/// The error of the cell, which is also written; or if `input` does not describe a cell.
pub fn run_cell_from_parent(
    mut input: impl Read,
    output: impl Write + Send,
    device: DeviceChoice,
    stop: &AtomicBool,
) -> Result<(), ExperimentError> {
    let mut text = String::new();
    input
        .read_to_string(&mut text)
        .map_err(ExperimentError::process("read standard input"))?;
    let (cell, state): (Cell, CellState) =
        serde_json::from_str(&text).map_err(|error| ExperimentError::Cell {
            problem: format!("standard input does not describe a cell: {error}"),
            is_bad_input: false,
        })?;
    let alone = Processes::alone();
    let writer = EventWriter::new(output, stop);
    match run_cell(&cell, state, device, stop, &alone, &cell.name, &writer) {
        Ok(outcome) => {
            writer.send(&Event::Ended(Box::new(outcome)));
            Ok(())
        }
        Err(error) => {
            writer.send(&Event::Failed {
                problem: message(&error),
                is_bad_input: is_bad_input(&error),
            });
            Err(error)
        }
    }
}
