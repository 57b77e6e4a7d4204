//! `eigenmix run`: the stages of an experiment, every arm with every seed, and one comparison.

use std::io;
use std::num::NonZeroUsize;
use std::process::Command;

use eigenmix_experiment::{
    BadInput, ConfigFile, Experiment, ExperimentError, ExperimentPlan, Finished, InputCheck, Jobs,
    RunRequest, Shard, Sharing,
};
use eigenmix_trainer::{DeviceChoice, Processes};

use crate::cli::RunArguments;
use crate::console::Console;
use crate::interruption;
use crate::program;

pub(crate) fn run(
    arguments: &RunArguments,
    device: DeviceChoice,
    processes: &Processes,
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
    let count = NonZeroUsize::new(processes.size()).filter(|count| count.get() > 1);
    if count.is_some() && arguments.jobs.get() > 1 {
        let problem =
            "--jobs starts processes for cells, and mpirun has started some; use one of the two";
        return Err(BadInput(problem.to_owned()).into());
    }
    let mut console = console.clone();
    if let Some(count) = count.filter(|_| experiment.processes == Sharing::Cells) {
        experiment.keep(Shard::of_process(processes.rank(), count));
        console = console.with_notes();
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
        stop: console.stop(processes)?,
        processes,
    };
    let Finished { report, failed, of } =
        eigenmix_experiment::run(&experiment, &plan, &request, &console)?;
    if let Some(report) = report {
        console.result(&report)?;
    }
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
    let stop = interruption::flag(&Processes::alone())?;
    let (input, output) = (io::stdin().lock(), io::stdout());
    Ok(eigenmix_experiment::run_cell_from_parent(
        input, output, device, stop,
    )?)
}
