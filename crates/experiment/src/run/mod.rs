//! Runs an experiment: its stages, every arm with every seed, and one comparison.

mod cell_state;
mod evaluated_cell;
mod events;
mod job;
mod processes;
mod schedule;
mod stages;
mod worker;

use std::io;
use std::num::NonZeroUsize;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use eigenmix_trainer::{DeviceChoice, Processes};

use self::job::Job;
use self::schedule::Schedule;
pub use self::worker::run_cell_from_parent;
use crate::ExperimentError;
use crate::experiment::{Experiment, Sharing};
use crate::listener::Listener;
use crate::report::{ExperimentPlan, Report};

/// How the cells of an experiment are run.
#[derive(Clone, Copy)]
pub enum Jobs<'a> {
    /// One after the other, in this process.
    Here,
    /// At most this many at a time, each in its own process with its share of the threads.
    Processes {
        most: NonZeroUsize,
        /// The program for a cell on a device with this many threads; it must call
        /// [`run_cell_from_parent`] with its standard streams.
        worker: &'a (dyn Fn(DeviceChoice, usize) -> io::Result<Command> + Sync),
    },
}

/// How an experiment is run, apart from its file.
#[derive(Clone, Copy)]
pub struct RunRequest<'a> {
    pub device: DeviceChoice,
    pub jobs: Jobs<'a>,
    /// Start all stages and cells from scratch.
    pub force: bool,
    /// Set from outside to stop after the current step.
    pub stop: &'a AtomicBool,
    /// Those that run it, each of which calls [`run`].
    pub processes: &'a Processes,
}

/// How a run of an experiment ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// `None` in processes other than the first.
    pub report: Option<Report>,
    /// How many cells failed, and how many were to be run.
    pub failed: usize,
    pub of: usize,
}

/// Makes the stages, finishes every cell, and writes the report. Finished cells are not run again,
/// interrupted ones continue, and a failed cell does not stop the others.
///
/// - experiment: of several processes that share cells, the part of this one
/// - plan: the whole experiment, of which `experiment` may be a shard
///
/// # Errors
/// If a stage fails, an earlier result has another configuration, a file cannot be written, or
/// [`ExperimentError::Interrupted`] once `stop` is set.
pub fn run(
    experiment: &Experiment,
    plan: &ExperimentPlan,
    request: &RunRequest,
    listener: &dyn Listener,
) -> Result<Finished, ExperimentError> {
    let all = request.processes;
    let alone = Processes::alone();
    let schedule = Schedule {
        device: request.device,
        jobs: request.jobs,
        output: &experiment.output,
        stop: request.stop,
        processes: match experiment.processes {
            Sharing::Cells => &alone,
            Sharing::Steps => all,
        },
        listener,
    };
    // Nothing is started if results of another configuration are in the way.
    let jobs = experiment
        .cells()
        .map(|cell| schedule.job(cell, request.force))
        .collect::<Result<Vec<Job>, ExperimentError>>()?;
    let of = jobs.len();
    if all.is_first() {
        plan.write(&experiment.output)?;
    }
    stages::make(&experiment.stages, request.force, &schedule)?;
    let mut summary = schedule.run(jobs)?;
    if experiment.processes == Sharing::Cells {
        summary = summary.of_all(all)?;
    }
    if summary.interrupted {
        listener.note(&"stopped; the same command continues from here");
        return Err(ExperimentError::Interrupted);
    }
    let report = match all.is_first() {
        true => Some(plan.collect(std::slice::from_ref(&experiment.output))?),
        false => None,
    };
    if let Some(report) = &report {
        report.write(&experiment.output)?;
    }
    Ok(Finished {
        report,
        failed: summary.failed,
        of: match experiment.processes {
            Sharing::Cells => all.sum(of)?,
            Sharing::Steps => of,
        },
    })
}
