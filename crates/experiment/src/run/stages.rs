//! The stages that arms refer to, made once: a process that finds another one making a stage waits
//! for it.

use std::path::{Path, PathBuf};

use eigenmix_tensors::{FileError, FileLock, write_file};
use eigenmix_trainer::Init;
use serde_json::Value;

use super::job::Job;
use super::schedule::Schedule;
use crate::ExperimentError;
use crate::error::Within;
use crate::experiment::{Cell, Stage, StageKind, Work};
use crate::extract::{ExtractRequest, extract};
use crate::listener::Listener;
use crate::merge::{MergeRequest, merge};

/// Makes every missing stage, sources first.
///
/// # Errors
/// If one fails, since nothing that refers to it could run.
pub(super) fn make(
    stages: &[Stage],
    force: bool,
    schedule: &Schedule,
) -> Result<(), ExperimentError> {
    let mut jobs = Vec::new();
    for stage in stages {
        if let Stage::Train { cell, name } = stage {
            if needs_a_stage(cell, schedule.output) {
                run_all(std::mem::take(&mut jobs), schedule)?;
            }
            let mut job = schedule.job(cell, force)?;
            if schedule.processes.is_first() {
                job.lock = Some(lock_path(schedule.output, StageKind::Train, name)?);
            }
            jobs.push(job);
        }
    }
    run_all(jobs, schedule)?;
    for stage in stages
        .iter()
        .filter(|stage| stage.kind() != StageKind::Train)
    {
        let label = format!("{}:{}", stage.kind().name(), stage.name());
        if schedule.processes.is_first() {
            make_one(stage, force, schedule, &label).within(|| label.clone())?;
        }
        schedule.processes.meet()?;
    }
    Ok(())
}

/// Whether the training reads an adapter that another stage trains, so that it has to wait for those
/// before it.
fn needs_a_stage(cell: &Cell, output: &Path) -> bool {
    let Work::Train(config) = &cell.work else {
        return false;
    };
    let trained = output.join(StageKind::Train.name());
    let adapter = &config.adapter;
    let started_from = adapter.init.iter().filter_map(Init::adapter);
    let mut read = started_from.chain(adapter.adapters.iter().map(String::as_str));
    read.any(|adapter| Path::new(adapter).starts_with(&trained))
}

/// Runs trainings that need nothing of each other.
fn run_all(jobs: Vec<Job>, schedule: &Schedule) -> Result<(), ExperimentError> {
    if jobs.is_empty() {
        return Ok(());
    }
    let summary = schedule.run(jobs)?;
    if summary.interrupted {
        schedule
            .listener
            .note(&"stopped; the same command continues from here");
        return Err(ExperimentError::Interrupted);
    }
    if summary.failed > 0 {
        return Err(ExperimentError::StageFailed);
    }
    Ok(())
}

fn make_one(
    stage: &Stage,
    force: bool,
    schedule: &Schedule,
    label: &str,
) -> Result<(), ExperimentError> {
    let _lock = FileLock::wait(&lock_path(schedule.output, stage.kind(), stage.name())?)?;
    let directory = schedule.output.join(stage.kind().name()).join(stage.name());
    let stamp = directory.with_file_name(format!("{}.json", stage.name()));
    let wanted = serde_json::to_value(stage)?;
    if directory.exists() && !force {
        return match read(&stamp).is_some_and(|found| found == wanted) {
            true => {
                schedule
                    .listener
                    .note(&format_args!("{label}: already made"));
                Ok(())
            }
            false => Err(FileError::AlreadyExists(directory).into()),
        };
    }
    let listener = schedule.listener;
    match stage {
        Stage::Train { .. } => {}
        Stage::Extract { request, .. } => {
            let request = ExtractRequest {
                force,
                ..request.clone()
            };
            note_result(listener, label, &extract(&request, listener)?);
        }
        Stage::Merge { request, .. } => {
            let request = MergeRequest {
                force,
                ..(**request).clone()
            };
            let merged = merge(&request, schedule.device, listener)?;
            note_result(listener, label, &merged);
            listener.detail(&format_args!("\n{}", merged.modules()));
        }
    }
    Ok(write_file(&stamp, &serde_json::to_vec_pretty(&wanted)?)?)
}

/// Its first line as a note, and the rest as details.
fn note_result(listener: &dyn Listener, label: &str, result: &impl std::fmt::Display) {
    let words = result.to_string();
    let (first, rest) = words.split_once('\n').unwrap_or((&words, ""));
    listener.note(&format_args!("{label}: {first}"));
    if !rest.is_empty() {
        listener.detail(&rest);
    }
}

fn read(stamp: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(stamp).ok()?).ok()
}

fn lock_path(output: &Path, kind: StageKind, name: &str) -> Result<PathBuf, ExperimentError> {
    let directory = output.join(kind.name());
    std::fs::create_dir_all(&directory).map_err(FileError::io("create", &directory))?;
    Ok(directory.join(format!(".{name}.lock")))
}
