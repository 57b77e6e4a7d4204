//! Cells one after the other, or several at once.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use eigenmix_tensors::{FileError, write_file};
use eigenmix_trainer::{DeviceChoice, Outcome};

use super::cell_state::CellState;
use super::job::{Job, run_cell};
use super::processes;
use crate::console::Console;
use crate::failure::message;
use crate::progress::Progress;
use crate::report::Failure;
use crate::training_display::TrainingDisplay;

/// How the cells of an experiment are run.
pub(super) struct Schedule<'a> {
    pub(super) device: DeviceChoice,
    /// How many run at once; more than one have a process each.
    pub(super) jobs: usize,
    /// The directory of the experiment.
    pub(super) output: &'a Path,
    pub(super) stop: &'static AtomicBool,
    pub(super) console: &'a Console,
}

/// How a schedule ended.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) failed: usize,
    /// Whether it was stopped before its end.
    pub(super) interrupted: bool,
}

impl Schedule<'_> {
    /// Finishes every job; one that fails is told and recorded, and leaves the others alone.
    ///
    /// # Errors
    /// If a failure cannot be recorded.
    pub(super) fn run(&self, jobs: Vec<Job>) -> anyhow::Result<Summary> {
        let count = jobs.len();
        let progress = (count > 1).then(|| self.console.progress("experiment", count, "cells"));
        let queue = Mutex::new((1.., VecDeque::from(jobs)));
        let summary = Mutex::new(Ok(Summary::default()));
        let work = || {
            while let Some((number, job)) = next(&queue) {
                let label = match count {
                    1 => job.cell.name.clone(),
                    _ => format!("[{number}/{count}] {}", job.cell.name),
                };
                let ended = match self.stop.load(Ordering::Relaxed) {
                    true => Err(Stopped::Interrupted),
                    false => self.finish(job, &label),
                };
                progress.iter().for_each(Progress::advance);
                let mut summary = lock(&summary);
                let Ok(so_far) = summary.as_mut() else { return };
                match ended {
                    Ok(true) => {}
                    Ok(false) => so_far.failed += 1,
                    Err(Stopped::Interrupted) => so_far.interrupted = true,
                    Err(Stopped::Failed(error)) => *summary = Err(error),
                }
            }
        };
        match self.jobs {
            1 => work(),
            jobs => std::thread::scope(|scope| {
                (0..jobs.min(count)).for_each(|_| drop(scope.spawn(work)));
            }),
        }
        summary.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the job came to its end.
    fn finish(&self, mut job: Job, label: &str) -> Result<bool, Stopped> {
        let started = Instant::now();
        let result = job.begin().and_then(|lock| {
            if job.state == CellState::Finished {
                return Ok(None);
            }
            let outcome = self.run_job(&job, label);
            drop(lock);
            outcome.map(Some)
        });
        match result {
            Ok(None) => self.console.note(format_args!("{label}: finished before")),
            Ok(Some(outcome)) if outcome.interrupted => return Err(Stopped::Interrupted),
            Ok(Some(outcome)) => {
                let figure = figure(&outcome);
                let seconds = started.elapsed().as_secs_f64();
                self.console
                    .note(format_args!("{label}: {figure}{seconds:.1} s"));
            }
            Err(error) => {
                let problem = message(&error);
                self.console.warn(format_args!("{label} failed: {problem}"));
                let failure = Failure {
                    seed: job.cell.seed,
                    problem,
                };
                self.record(&job, Some(&failure)).map_err(Stopped::Failed)?;
                return Ok(false);
            }
        }
        self.record(&job, None).map_err(Stopped::Failed)?;
        Ok(true)
    }

    fn run_job(&self, job: &Job, label: &str) -> anyhow::Result<Outcome> {
        let mut display = TrainingDisplay::new(self.console, label);
        let Self { device, stop, .. } = *self;
        match self.jobs {
            1 => run_cell(
                job.cell,
                job.state,
                device,
                stop,
                &mut display,
                self.console,
            ),
            jobs => {
                let threads = (rayon::current_num_threads() / jobs).max(1);
                processes::run_cell(job.cell, job.state, device, threads, stop, &mut display)
            }
        }
    }

    /// Leaves a failure where the report looks for it, or takes an earlier one away.
    fn record(&self, job: &Job, failure: Option<&Failure>) -> anyhow::Result<()> {
        let path = failure_path(self.output, &job.cell.name);
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

/// Where the failure of a cell is told.
pub(crate) fn failure_path(output: &Path, cell: &str) -> PathBuf {
    output.join("failures").join(format!("{cell}.json"))
}

enum Stopped {
    Interrupted,
    Failed(anyhow::Error),
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

/// The first figure of merit, for the line that a finished cell gets.
fn figure(outcome: &Outcome) -> String {
    let figures = outcome.test.as_ref().or(outcome.validation.as_ref());
    let first = figures.and_then(|figures| figures.iter().next());
    first.map_or_else(String::new, |(name, value)| format!("{name} {value:.4}, "))
}
