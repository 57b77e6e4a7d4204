//! Cells in processes of their own: one that runs out of memory or is killed takes no other along.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use eigenmix_trainer::{DeviceChoice, Observer, Outcome};

use super::cell_state::CellState;
use super::events::Event;
use crate::experiment::Cell;
use crate::failure::BadInput;

/// How often a running cell is asked whether it is to stop.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Does what is left of a cell in a process with so many threads, and tells `observer` what it tells.
///
/// # Errors
/// What the process said when it failed, or how it ended.
pub(super) fn run_cell(
    cell: &Cell,
    state: CellState,
    device: DeviceChoice,
    threads: usize,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> anyhow::Result<Outcome> {
    let mut child = spawn(device, threads).context("cannot start a process for a cell")?;
    let task = serde_json::to_vec(&(cell, state))?;
    let (Some(mut input), Some(output), Some(errors)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        bail!("a process for a cell has no standard streams");
    };
    let is_over = AtomicBool::new(false);
    let (outcome, words) = std::thread::scope(|scope| {
        let process = child.id();
        let is_over = &is_over;
        scope.spawn(move || pass_on_stop(process, stop, is_over));
        let words = scope.spawn(move || io::read_to_string(errors).unwrap_or_default());
        // If it is gone already, its status tells more than the broken pipe.
        let _ = input.write_all(&task);
        drop(input);
        let mut outcome = None;
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(Event::Started(plan)) => observer.started(&plan),
                Ok(Event::Advanced(step)) => observer.advanced(step),
                Ok(Event::Logged { loss }) => observer.logged(&eigenmix_trainer::StepRecord {
                    loss,
                    ..eigenmix_trainer::StepRecord::default()
                }),
                Ok(Event::Note(note)) => observer.note(&note),
                Ok(Event::Ended(found)) => outcome = Some(*found),
                Err(_) => {}
            }
        }
        is_over.store(true, Ordering::Relaxed);
        (outcome, words.join().unwrap_or_default())
    });
    let status = child
        .wait()
        .context("cannot wait for the process of a cell")?;
    match outcome {
        Some(outcome) if status.success() => Ok(outcome),
        _ => Err(failure(&words, status)),
    }
}

fn spawn(device: DeviceChoice, threads: usize) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["run-cell", "--quiet", "--device", &device.to_string()])
        .args(["--threads", &threads.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // Ctrl-C reaches a whole group, and a second one would end the process without saving: it is
    // passed on once instead.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn()
}

/// Interrupts the process once `stop` is set.
fn pass_on_stop(process: u32, stop: &AtomicBool, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        if stop.load(Ordering::Relaxed) {
            interrupt(process);
            return;
        }
        std::thread::sleep(WATCH_INTERVAL);
    }
}

#[cfg(unix)]
fn interrupt(process: u32) {
    if let Ok(process) = libc::pid_t::try_from(process) {
        // SAFETY: kill(2) touches no memory of ours, and the child has not been waited for, so that
        // its number is still its own.
        unsafe { libc::kill(process, libc::SIGINT) };
    }
}

/// There, Ctrl-C reaches every process of the console.
#[cfg(not(unix))]
fn interrupt(_process: u32) {}

/// The last error that the process told, or what ended it.
fn failure(words: &str, status: std::process::ExitStatus) -> anyhow::Error {
    let told = words.split_once("error: ").map(|(_, error)| error.trim());
    match (told, status.code()) {
        (Some(error), Some(2)) => BadInput(error.to_owned()).into(),
        (Some(error), _) => anyhow::anyhow!("{error}"),
        (None, _) if words.trim().is_empty() => anyhow::anyhow!("its process ended: {status}"),
        (None, _) => anyhow::anyhow!("its process ended: {status}; it said: {}", words.trim()),
    }
}
