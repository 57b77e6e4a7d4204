//! What arms refer to, made once: a process that finds another one making it waits for that.

use std::path::{Path, PathBuf};

use anyhow::Context;
use eigenmix_tensors::{FileError, FileLock, write_file};
use serde_json::Value;

use super::job::Job;
use super::schedule::Schedule;
use crate::commands::{extract, merge};
use crate::console::Console;
use crate::experiment::{Stage, StageKind};
use crate::interruption::Interrupted;

/// Makes every stage that is not there yet, sources first.
///
/// # Errors
/// If one fails: what refers to it could not be run.
pub(super) fn make(stages: &[Stage], force: bool, schedule: &Schedule) -> anyhow::Result<()> {
    let mut jobs = Vec::new();
    for stage in stages {
        if let Stage::Train { cell, name } = stage {
            let mut job = Job::new(cell, force)?;
            job.lock = Some(lock_path(schedule.output, StageKind::Train, name)?);
            jobs.push(job);
        }
    }
    if !jobs.is_empty() {
        let summary = schedule.run(jobs)?;
        if summary.interrupted {
            schedule
                .console
                .note("stopped; the same command continues from here");
            return Err(Interrupted.into());
        }
        if summary.failed > 0 {
            let problem = "a [[train]] stage failed, and without it nothing else can be made";
            return Err(anyhow::anyhow!(problem));
        }
    }
    for stage in stages
        .iter()
        .filter(|stage| stage.kind() != StageKind::Train)
    {
        let label = format!("{}:{}", stage.kind().name(), stage.name());
        make_one(stage, force, schedule, &label).with_context(|| label.clone())?;
    }
    Ok(())
}

fn make_one(stage: &Stage, force: bool, schedule: &Schedule, label: &str) -> anyhow::Result<()> {
    let _lock = FileLock::wait(&lock_path(schedule.output, stage.kind(), stage.name())?)?;
    let directory = schedule.output.join(stage.kind().name()).join(stage.name());
    let stamp = directory.with_file_name(format!("{}.json", stage.name()));
    let wanted = serde_json::to_value(stage)?;
    if directory.exists() && !force {
        return match read(&stamp).is_some_and(|found| found == wanted) {
            true => {
                schedule.console.note(format_args!("{label}: made before"));
                Ok(())
            }
            false => Err(FileError::AlreadyExists(directory).into()),
        };
    }
    let console = schedule.console;
    match stage {
        Stage::Train { .. } => {}
        Stage::Extract { arguments, .. } => {
            let arguments = crate::cli::ExtractArguments {
                force,
                ..arguments.clone()
            };
            tell(console, label, &extract::perform(&arguments, console)?);
        }
        Stage::Merge { arguments, .. } => {
            let arguments = crate::cli::MergeArguments {
                force,
                ..(**arguments).clone()
            };
            tell(
                console,
                label,
                &merge::perform(&arguments, schedule.device, console)?,
            );
        }
    }
    Ok(write_file(&stamp, &serde_json::to_vec_pretty(&wanted)?)?)
}

/// One line of it, or with `--verbose` all.
fn tell(console: &Console, label: &str, result: &impl std::fmt::Display) {
    let words = result.to_string();
    match console.is_verbose() {
        true => console.note(format_args!("{label}: {words}")),
        false => console.note(format_args!(
            "{label}: {}",
            words.lines().next().unwrap_or_default()
        )),
    }
}

fn read(stamp: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(stamp).ok()?).ok()
}

fn lock_path(output: &Path, kind: StageKind, name: &str) -> anyhow::Result<PathBuf> {
    let directory = output.join(kind.name());
    std::fs::create_dir_all(&directory).map_err(FileError::io("create", &directory))?;
    Ok(directory.join(format!(".{name}.lock")))
}
