//! `eigenmix run`: the stages of an experiment, every arm with every seed, and one comparison.

use std::io;
use std::process::Command;

use eigenmix_experiment::{
    ConfigFile, Experiment, ExperimentError, ExperimentPlan, Finished, InputCheck, Jobs, RunRequest,
};
use eigenmix_trainer::DeviceChoice;

use crate::cli::RunArguments;
use crate::console::Console;
use crate::interruption;
use crate::program;

pub(crate) fn run(
    arguments: &RunArguments,
    device: DeviceChoice,
    console: &Console,
) -> anyhow::Result<()> {
    let file = ConfigFile::read(&arguments.experiment, &arguments.overrides)?;
    let places = match arguments.dry_run {
        true => InputCheck::Skipped,
        false => InputCheck::Required,
    };
    let mut experiment = Experiment::from_file(&file, arguments.out.as_deref(), places)?;
    let plan = ExperimentPlan::of(&experiment);
    if let Some(shard) = arguments.shard {
        experiment.keep(shard);
    }
    if arguments.dry_run {
        return console.result(&experiment);
    }
    let request = RunRequest {
        device,
        jobs: match arguments.jobs.get() {
            1 => Jobs::Here,
            _ => Jobs::Processes {
                most: arguments.jobs,
                worker: &worker,
            },
        },
        force: arguments.force,
        stop: console.stop()?,
    };
    let Finished { report, failed, of } =
        eigenmix_experiment::run(&experiment, &plan, &request, console)?;
    console.result(&report)?;
    match failed {
        0 => Ok(()),
        failed => Err(ExperimentError::CellsFailed { failed, of }.into()),
    }
}

/// This program, for one cell.
fn worker(device: DeviceChoice, threads: usize) -> io::Result<Command> {
    let mut command = program::command()?;
    command
        .args(["run-cell", "--quiet", "--device", &device.to_string()])
        .args(["--threads", &threads.to_string()]);
    Ok(command)
}

/// `eigenmix run-cell`: the cell that standard input describes, for the process that started this
/// one.
pub(crate) fn run_cell(device: DeviceChoice) -> anyhow::Result<()> {
    let stop = interruption::flag()?;
    let (input, output) = (io::stdin().lock(), io::stdout());
    Ok(eigenmix_experiment::run_cell_from_parent(
        input, output, device, stop,
    )?)
}
