//! `eigenmix run`: the stages of an experiment, every arm with every seed, and one comparison.

mod cell_state;
mod evaluation;
mod events;
mod job;
mod processes;
mod schedule;
mod stages;

use eigenmix_trainer::DeviceChoice;

use job::Job;
pub(crate) use job::run_cell_of_another as run_cell;
use schedule::Schedule;
pub(crate) use schedule::failure_path;

use crate::cli::RunArguments;
use crate::config_file::ConfigFile;
use crate::console::Console;
use crate::experiment::{Experiment, Places};
use crate::experiment_report::{ExperimentPlan, collect};
use crate::interruption::{self, Interrupted};
use crate::report;

pub(crate) fn run(
    arguments: &RunArguments,
    device: DeviceChoice,
    console: &Console,
) -> anyhow::Result<()> {
    let file = ConfigFile::read(&arguments.experiment, &arguments.overrides)?;
    let places = match arguments.dry_run {
        true => Places::Unchecked,
        false => Places::Checked,
    };
    let mut experiment = Experiment::from_file(&file, arguments.out.as_deref(), places)?;
    let plan = ExperimentPlan::of(&experiment);
    if let Some(shard) = arguments.shard {
        experiment.keep(shard);
    }
    if arguments.dry_run {
        return console.result(&experiment);
    }
    // Nothing is begun that an earlier run with another configuration stands in the way of.
    let jobs = experiment
        .cells()
        .map(|cell| Job::new(cell, arguments.force))
        .collect::<anyhow::Result<Vec<Job>>>()?;
    let count = jobs.len();
    plan.write(&experiment.output)?;
    let schedule = Schedule {
        device,
        jobs: arguments.jobs.get(),
        output: &experiment.output,
        stop: interruption::flag()?,
        console,
    };
    stages::make(&experiment.stages, arguments.force, &schedule)?;
    let summary = schedule.run(jobs)?;
    if summary.interrupted {
        console.note("stopped; the same command continues from here");
        return Err(Interrupted.into());
    }
    let report = collect(&plan, std::slice::from_ref(&experiment.output));
    report::write(&experiment.output, &report)?;
    console.result(&report)?;
    match summary.failed {
        0 => Ok(()),
        failed => Err(CellsFailed { failed, of: count }.into()),
    }
}

/// Some trainings ended in an error; the others are finished and reported.
#[derive(Debug, thiserror::Error)]
#[error("{failed} of {of} cells failed; the same command tries them again")]
pub(crate) struct CellsFailed {
    failed: usize,
    of: usize,
}
