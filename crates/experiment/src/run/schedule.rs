//! Cells one after the other, or several at once.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use eigenmix_tensors::{FileError, FileLock, write_file};
use eigenmix_trainer::{DeviceChoice, Outcome, Processes};

use super::Jobs;
use super::cell_state::CellState;
use super::job::{Job, run_cell};
use super::processes;
use crate::experiment::Cell;
use crate::listener::Listener;
use crate::report::Failure;
use crate::{ExperimentError, message};

/// How the cells of an experiment are run.
pub(super) struct Schedule<'a> {
    pub(super) device: DeviceChoice,
    pub(super) jobs: Jobs<'a>,
    /// The directory of the experiment.
    pub(super) output: &'a Path,
    pub(super) stop: &'a AtomicBool,
    /// Those that train every cell together.
    pub(super) processes: &'a Processes,
    pub(super) listener: &'a dyn Listener,
}

/// How a schedule ended.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) failed: usize,
    /// Whether it was stopped before its end.
    pub(super) interrupted: bool,
}

impl Summary {
    /// That of all processes, each of which ran cells of its own.
    ///
    /// # Errors
    /// If another process has failed.
    pub(super) fn of_all(self, processes: &Processes) -> Result<Self, ExperimentError> {
        Ok(Self {
            failed: processes.sum(self.failed)?,
            interrupted: processes.sum(usize::from(self.interrupted))? > 0,
        })
    }
}

impl Schedule<'_> {
    /// A cell to be finished. Only the first of several processes looks at what is there.
    ///
    /// # Errors
    /// If the cell was run with another configuration.
    pub(super) fn job<'c>(&self, cell: &'c Cell, force: bool) -> Result<Job<'c>, ExperimentError> {
        match self.processes.is_first() {
            true => Job::new(cell, force),
            false => Ok(Job::of_first(cell, force)),
        }
    }

    /// Runs every job; a failure is reported and recorded, and the others continue.
    ///
    /// # Errors
    /// If a failure cannot be recorded.
    pub(super) fn run(&self, jobs: Vec<Job>) -> Result<Summary, ExperimentError> {
        let count = jobs.len();
        let progress = (count > 1).then(|| self.listener.progress("experiment", count, "cells"));
        let queue = Mutex::new((1.., VecDeque::from(jobs)));
        let summary = Mutex::new(Ok(Summary::default()));
        let work = || {
            while let Some((number, job)) = next(&queue) {
                if lock(&summary).is_err() {
                    return;
                }
                let label = match count {
                    1 => job.cell.name.clone(),
                    _ => format!("[{number}/{count}] {}", job.cell.name),
                };
                let stop = usize::from(self.stop.load(Ordering::Relaxed));
                let ended = match self.processes.sum(stop) {
                    Ok(0) => self.run_to_end(job, &label),
                    Ok(_) => Err(Stopped::Interrupted),
                    Err(error) => Err(Stopped::Failed(Box::new(error.into()))),
                };
                progress.iter().for_each(|progress| progress.advance());
                let mut summary = lock(&summary);
                let Ok(so_far) = summary.as_mut() else { return };
                match ended {
                    Ok(true) => {}
                    Ok(false) => so_far.failed += 1,
                    Err(Stopped::Interrupted) => so_far.interrupted = true,
                    Err(Stopped::Failed(error)) => *summary = Err(*error),
                }
            }
        };
        match self.jobs {
            Jobs::Here => work(),
            Jobs::Processes { most, .. } => std::thread::scope(|scope| {
                (0..most.get().min(count)).for_each(|_| drop(scope.spawn(work)));
            }),
        }
        summary.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the job came to its end.
    fn run_to_end(&self, mut job: Job, label: &str) -> Result<bool, Stopped> {
        let started = Instant::now();
        let result = self.begin(&mut job).and_then(|lock| {
            if job.state == CellState::Finished {
                return Ok(None);
            }
            let outcome = self.run_job(&job, label);
            drop(lock);
            outcome.map(Some)
        });
        match result {
            Ok(None) => self
                .listener
                .note(&format_args!("{label}: already finished")),
            Ok(Some(outcome)) if outcome.interrupted => return Err(Stopped::Interrupted),
            Ok(Some(outcome)) => {
                let metric = first_metric(&outcome);
                let seconds = started.elapsed().as_secs_f64();
                self.listener
                    .note(&format_args!("{label}: {metric}{seconds:.1} s"));
            }
            Err(error) => {
                let problem = message(&error);
                self.listener
                    .warn(&format_args!("{label} failed: {problem}"));
                let failure = Failure {
                    seed: job.cell.seed,
                    problem,
                };
                // Whoever does not know it yet learns it here, and all go on with the next cell.
                self.processes.announce(&failure.problem);
                self.processes.go_on();
                self.record(&job, Some(&failure))
                    .map_err(|error| Stopped::Failed(Box::new(error)))?;
                return Ok(false);
            }
        }
        self.record(&job, None)
            .map_err(|error| Stopped::Failed(Box::new(error)))?;
        Ok(true)
    }

    /// Takes the job as it is by now, which the first process finds out for all.
    fn begin(&self, job: &mut Job) -> Result<Option<FileLock>, ExperimentError> {
        let mut lock = None;
        let state = self.processes.from_first(|| {
            lock = job.begin()?;
            Ok::<_, ExperimentError>(serde_json::to_vec(&job.state)?)
        })?;
        job.state = serde_json::from_slice(&state)?;
        Ok(lock)
    }

    fn run_job(&self, job: &Job, label: &str) -> Result<Outcome, ExperimentError> {
        let Self {
            device,
            stop,
            processes,
            listener,
            ..
        } = *self;
        match self.jobs {
            Jobs::Here => run_cell(
                job.cell, job.state, device, stop, processes, label, listener,
            ),
            Jobs::Processes { most, worker } => {
                let threads = (rayon::current_num_threads() / most).max(1);
                let worker = worker(device, threads)
                    .map_err(ExperimentError::process("find a program for a cell"))?;
                processes::run_cell(job.cell, job.state, worker, stop, label, listener)
            }
        }
    }

    /// Records a failure for the report, or removes an earlier one; the first process does, and the others
    /// learn whether it could.
    fn record(&self, job: &Job, failure: Option<&Failure>) -> Result<(), ExperimentError> {
        self.processes.from_first(|| {
            self.write_record(job, failure)?;
            Ok::<_, ExperimentError>(Vec::new())
        })?;
        Ok(())
    }

    fn write_record(&self, job: &Job, failure: Option<&Failure>) -> Result<(), ExperimentError> {
        let path = Failure::path(self.output, &job.cell.name);
        match failure {
            Some(failure) => {
                if let Some(parent) = path.parent() {
                    std::fs::create_dir_all(parent).map_err(FileError::io("create", parent))?;
                }
                Ok(write_file(&path, &serde_json::to_vec_pretty(failure)?)?)
            }
            None => match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(FileError::io("remove", &path)(error).into())
                }
                _ => Ok(()),
            },
        }
    }
}

enum Stopped {
    Interrupted,
    Failed(Box<ExperimentError>),
}

type Queue<'j> = (std::ops::RangeFrom<usize>, VecDeque<Job<'j>>);

fn next<'j>(queue: &Mutex<Queue<'j>>) -> Option<(usize, Job<'j>)> {
    let (numbers, jobs) = &mut *lock(queue);
    let job = jobs.pop_front()?;
    Some((numbers.next()?, job))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first metric, for the line about a finished cell.
fn first_metric(outcome: &Outcome) -> String {
    let metrics = outcome.test.as_ref().or(outcome.validation.as_ref());
    let first = metrics.and_then(|metrics| metrics.iter().next());
    first.map_or_else(String::new, |(name, value)| format!("{name} {value:.4}, "))
}
