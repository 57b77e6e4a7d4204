//! Cells in their own processes: one that runs out of memory or is killed does not affect the
//! others.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use eigenmix_trainer::{Outcome, StepRecord};

use super::cell_state::CellState;
use super::events::Event;
use crate::ExperimentError;
use crate::experiment::Cell;
use crate::listener::Listener;

/// How often to check whether to stop.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Runs the rest of a cell in the process that `worker` starts, and forwards its events.
///
/// # Errors
/// The error that the process reports, or how it ended if it reports none.
pub(super) fn run_cell(
    cell: &Cell,
    state: CellState,
    worker: Command,
    stop: &AtomicBool,
    label: &str,
    listener: &dyn Listener,
) -> Result<Outcome, ExperimentError> {
    let start = ExperimentError::process("start a process for a cell");
    let mut child = spawn(worker).map_err(start)?;
    let task = serde_json::to_vec(&(cell, state))?;
    let (Some(mut input), Some(output), Some(errors)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        let problem = io::Error::other("it has no standard streams");
        return Err(ExperimentError::process("talk to the process of a cell")(
            problem,
        ));
    };
    let is_over = AtomicBool::new(false);
    let (told, words) = std::thread::scope(|scope| {
        let process = child.id();
        let is_over = &is_over;
        scope.spawn(move || pass_on_stop(process, stop, is_over));
        let words = scope.spawn(move || io::read_to_string(errors).unwrap_or_default());
        // If the process has ended already, its status says more than the broken pipe.
        let _ = input.write_all(&task);
        drop(input);
        let told = follow(output, label, listener);
        is_over.store(true, Ordering::Relaxed);
        (told, words.join().unwrap_or_default())
    });
    let status = child
        .wait()
        .map_err(ExperimentError::process("wait for the process of a cell"))?;
    match told {
        Some(Ok(outcome)) if status.success() => Ok(outcome),
        Some(Err(error)) => Err(error),
        _ => Err(ExperimentError::Crashed {
            status: status.to_string(),
            words,
        }),
    }
}

/// Forwards the events of a process until it closes its output; returns how its cell ended, if
/// reported.
fn follow(
    output: impl Read,
    label: &str,
    listener: &dyn Listener,
) -> Option<Result<Outcome, ExperimentError>> {
    let mut observer = listener.training(label);
    let mut ended = None;
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(Event::Started(plan)) => observer.started(&plan),
            Ok(Event::Advanced(step)) => observer.stepped(step),
            Ok(Event::Logged { loss }) => observer.logged(&StepRecord {
                loss,
                ..StepRecord::default()
            }),
            Ok(Event::Note(note)) => observer.note(&note),
            Ok(Event::Warning(warning)) => listener.warn(&format_args!("{label}: {warning}")),
            Ok(Event::Ended(outcome)) => ended = Some(Ok(*outcome)),
            Ok(Event::Failed {
                problem,
                is_bad_input,
            }) => {
                ended = Some(Err(ExperimentError::Cell {
                    problem,
                    is_bad_input,
                }));
            }
            Err(_) => {}
        }
    }
    ended
}

fn spawn(mut worker: Command) -> io::Result<Child> {
    worker
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // Ctrl-C reaches a whole group, and a second one would end the process without saving: it is
    // passed on once instead.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut worker, 0);
    worker.spawn()
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

/// On other systems, Ctrl-C reaches every process of the console.
#[cfg(not(unix))]
fn interrupt(_process: u32) {}

#[cfg(all(test, unix))]
mod tests {
    use std::fmt::Display;
    use std::sync::Mutex;

    use serde_json::json;

    use super::*;
    use crate::is_bad_input;

    /// Remembers warnings.
    #[derive(Default)]
    struct Warned(Mutex<Vec<String>>);

    impl Listener for Warned {
        fn warn(&self, warning: &dyn Display) {
            self.0.lock().expect("warnings").push(warning.to_string());
        }
    }

    /// How a cell ends whose process is this script.
    fn run(script: &str, listener: &dyn Listener) -> Result<Outcome, ExperimentError> {
        let cell = json!({
            "name": "a/seed-0",
            "seed": 0,
            "evaluate": {
                "output": "o", "evaluate": "a", "base": {"model": "m"}, "data": {"path": "d"}
            }
        });
        let cell: Cell = serde_json::from_value(cell).expect("a cell");
        let mut worker = Command::new("sh");
        worker.args(["-c", &format!("cat > /dev/null; {script}")]);
        let stop = AtomicBool::new(false);
        run_cell(&cell, CellState::Fresh, worker, &stop, "label", listener)
    }

    #[test]
    fn a_cell_fails_with_what_its_process_tells_and_not_with_what_stands_on_standard_error() {
        for bad_input in [true, false] {
            let event = json!({"failed": {"problem": "no error: here", "is_bad_input": bad_input}});
            let script = format!("echo 'warning: an error: of old' >&2; echo '{event}'; exit 1");
            let error = run(&script, &crate::Silent).expect_err("an error");
            assert_eq!(error.to_string(), "no error: here");
            assert_eq!(is_bad_input(&error), bad_input);
        }
    }

    #[test]
    fn a_process_that_reports_nothing_is_described_by_its_status_and_its_last_output() {
        let error = run("echo 'out of memory' >&2; exit 3", &crate::Silent).expect_err("an error");
        let words = error.to_string();
        assert!(words.contains("exit status: 3"), "{words}");
        assert!(words.ends_with("it said: out of memory"), "{words}");
        assert!(!is_bad_input(&error));
        // The process ended before it reported anything.
        let error = run("echo '{\"started\": '", &crate::Silent).expect_err("an error");
        assert!(error.to_string().contains("exit status: 0"), "{error}");
    }

    #[test]
    fn warnings_and_outcome_of_a_process_are_passed_on() {
        let outcome = Outcome {
            steps: 7,
            ..Outcome::default()
        };
        let (warning, ended) = (json!({"warning": "careful"}), json!({"ended": outcome}));
        let listener = Warned::default();
        let script = format!("echo '{warning}'; echo '{ended}'");
        assert_eq!(run(&script, &listener).expect("an outcome").steps, 7);
        assert_eq!(*listener.0.lock().expect("warnings"), ["label: careful"]);
    }
}
