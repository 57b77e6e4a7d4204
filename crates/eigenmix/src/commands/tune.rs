//! `eigenmix tune`: the settings of a training chosen by measuring.

use eigenmix_experiment::{Destination, ExperimentError};
use eigenmix_trainer::{DeviceChoice, Processes};
use eigenmix_tune::{TuneReport, TuneRequest, tune};

use crate::cli::TuneArguments;
use crate::console::Console;

pub(crate) fn run(
    arguments: &TuneArguments,
    device: DeviceChoice,
    console: &Console,
) -> anyhow::Result<()> {
    let destination = Destination::new(&arguments.out, arguments.force)?;
    let file = arguments.file.read()?;
    let request = TuneRequest {
        file: &file,
        out: &destination,
        budget: arguments.budget,
        folds: arguments.folds,
        most_parameters: arguments.parameters,
        device,
        stop: console.stop(&Processes::alone())?,
    };
    let report = tune(&request, console)?;
    let outcome = report.outcome.as_ref();
    let is_trained = outcome.is_some_and(|outcome| !outcome.interrupted);
    if outcome.is_some() && !is_trained {
        console.note(format_args!(
            "stopped while the winner was trained; `eigenmix train {} --resume` continues it",
            TuneReport::winner_file(destination.path()).display()
        ));
    }
    console.result(&report)?;
    match is_trained {
        true => Ok(()),
        false => Err(ExperimentError::Interrupted.into()),
    }
}
