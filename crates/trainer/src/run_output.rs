//! The directory of a run: who may write it, and whether it belongs to this configuration.

use std::fs;
use std::path::Path;

use eigenmix_tensors::FileError;
use eigenmix_tensors::{FileLock, write_file};

use crate::TrainerError;
use crate::outcome::RunOptions;
use crate::run::Run;

const LOCK: &str = "run.lock";

/// Makes the directory `output` of a run with this configuration, or checks that it is the run to
/// continue. No other process can open it while the lock is held.
///
/// A run that was killed before its first output counts as absent.
///
/// # Errors
/// If it exists and should be neither continued nor replaced, or if another process writes it.
pub(crate) fn open(
    output: &Path,
    config: &str,
    options: &RunOptions,
) -> Result<FileLock, TrainerError> {
    let path = || output.to_owned();
    refuse_existing(output, options)?;
    fs::create_dir_all(output).map_err(FileError::io("create", output))?;
    let lock = FileLock::acquire(&output.join(LOCK))?;
    remove_unfinished(output)?;
    remove_unfinished(&output.join(Run::CHECKPOINTS))?;
    let config_path = output.join(Run::CONFIG);
    let has_begun = config_path.is_file();
    if !has_begun && !has_no_run(output)? {
        return Err(match options.resume {
            true => TrainerError::NothingToResume { path: path() },
            false => TrainerError::NotARun { path: path() },
        });
    }
    if options.resume && has_begun {
        let earlier = fs::read_to_string(&config_path);
        let earlier = earlier.map_err(FileError::io("read", &config_path))?;
        return match first_difference(&earlier, config) {
            Some(key) => Err(TrainerError::ResumedConfig { path: path(), key }),
            None => Ok(lock),
        };
    }
    // Without --force there is nothing to remove by now, unless another process was faster.
    if has_begun && !options.force {
        return Err(TrainerError::OutputExists { path: path() });
    }
    clear(output)?;
    write_file(&config_path, config.as_bytes())?;
    Ok(lock)
}

/// Refuses, before anything costly, an output that [`open`] will refuse because a run is there.
///
/// # Errors
/// If it exists and should be neither continued nor replaced.
pub(crate) fn refuse_existing(output: &Path, options: &RunOptions) -> Result<(), TrainerError> {
    let path = || output.to_owned();
    // The first process looks for all: it may have begun to write when others come this far.
    if !options.processes.is_first() {
        return Ok(());
    }
    if options.resume && !output.exists() {
        return Err(TrainerError::NothingToResume { path: path() });
    }
    if !options.resume && !options.force && !has_no_run(output)? {
        return Err(TrainerError::OutputExists { path: path() });
    }
    Ok(())
}

/// Refuses, before anything is written into it, an output that [`open`] will refuse since it is that of
/// something else.
///
/// # Errors
/// If it holds other things than a run.
pub(crate) fn refuse_foreign(output: &Path, options: &RunOptions) -> Result<(), TrainerError> {
    let path = || output.to_owned();
    if !options.processes.is_first() || output.join(Run::CONFIG).is_file() || has_no_run(output)? {
        return Ok(());
    }
    Err(match options.resume {
        true => TrainerError::NothingToResume { path: path() },
        false => TrainerError::NotARun { path: path() },
    })
}

/// Whether the directory contains nothing except what is kept for any run in it, the lock and encoded inputs,
/// and unfinished files of a killed process.
pub(crate) fn has_no_run(output: &Path) -> Result<bool, TrainerError> {
    let names = names(output)?;
    Ok(names
        .iter()
        .all(|name| is_kept(name) || is_unfinished(name)))
}

/// Whether a run in the same place may use it again: encoded inputs are named by what they depend on.
fn is_kept(name: &str) -> bool {
    name == LOCK || name == Run::CACHE
}

/// Whether `name` is that of a temporary, which is renamed when it is complete.
fn is_unfinished(name: &str) -> bool {
    name.starts_with('.') && (name.ends_with(".partial") || name.ends_with(".replaced"))
}

fn remove_unfinished(directory: &Path) -> Result<(), TrainerError> {
    for name in names(directory)?.iter().filter(|name| is_unfinished(name)) {
        remove(&directory.join(name))?;
    }
    Ok(())
}

/// Removes everything but what is kept for any run. The configuration goes last, so that a half-removed run is
/// still recognised as a run.
fn clear(output: &Path) -> Result<(), TrainerError> {
    let mut names = names(output)?;
    names.sort_by_key(|name| name == Run::CONFIG);
    for name in names.iter().filter(|name| !is_kept(name)) {
        remove(&output.join(name))?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), FileError> {
    let is_directory = path.symlink_metadata().is_ok_and(|found| found.is_dir());
    let removed = match is_directory {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    removed.map_err(FileError::io("remove", path))
}

fn names(directory: &Path) -> Result<Vec<String>, FileError> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(directory).map_err(FileError::io("read", directory))?;
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_, _>>()
        .map_err(FileError::io("read", directory))
}

/// The first line in which two resolved configurations differ.
fn first_difference(earlier: &str, now: &str) -> Option<String> {
    let mut pairs = earlier.lines().zip(now.lines());
    if let Some((earlier, now)) = pairs.find(|(earlier, now)| earlier != now) {
        return Some(format!("`{earlier}` then, `{now}` now"));
    }
    (earlier.lines().count() != now.lines().count()).then(|| "the keys differ".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DeviceChoice, Processes};
    use std::sync::atomic::AtomicBool;

    /// Opens as a training with these flags would.
    fn open_with(output: &Path, resume: bool, force: bool) -> Result<FileLock, TrainerError> {
        let stop = AtomicBool::new(false);
        let options = RunOptions {
            device: DeviceChoice::default().open().unwrap(),
            resume,
            force,
            stop: &stop,
            processes: &Processes::alone(),
        };
        open(output, "seed = 1\n", &options)
    }

    #[test]
    fn an_output_is_written_by_one_process_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let output = root.path().join("run");
        let held = open_with(&output, false, false).unwrap();
        for (resume, force) in [(true, false), (false, true)] {
            let error = open_with(&output, resume, force).unwrap_err().to_string();
            assert!(error.contains("run.lock"), "{error}");
        }
        drop(held);
        open_with(&output, true, false).unwrap();
        let error = open_with(&output, false, false).unwrap_err();
        assert!(matches!(error, TrainerError::OutputExists { .. }));
    }

    #[test]
    fn unfinished_files_of_a_killed_start_do_not_block_a_run() {
        for (resume, force) in [(false, false), (true, false), (false, true)] {
            let root = tempfile::tempdir().unwrap();
            let output = root.path();
            fs::write(output.join(LOCK), "process 1").unwrap();
            fs::write(output.join(".config.toml.x.partial"), "see").unwrap();
            open_with(output, resume, force).unwrap();
            assert_eq!(names(output).unwrap(), [Run::CONFIG]);
        }
    }

    #[test]
    fn a_directory_of_something_else_is_neither_resumed_nor_replaced() {
        let root = tempfile::tempdir().unwrap();
        let thesis = root.path().join("thesis.tex");
        fs::write(&thesis, "everything").unwrap();
        for (resume, force) in [(false, false), (true, false), (false, true)] {
            open_with(root.path(), resume, force).unwrap_err();
            assert!(thesis.is_file());
        }
    }
}
