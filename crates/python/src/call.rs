//! A command, called from Python: on a thread of its own, without the lock of the interpreter.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use serde_json::{Map, Value};

use crate::host::{Event, PythonHost, Step, Stopped};
use crate::raised::{bad_input, raised};

/// How often progress is passed on and Ctrl-C looked for.
const TICK: Duration = Duration::from_millis(50);

/// As much as the main thread of a program has.
const STACK: usize = 8 << 20;

/// These stop by themselves, in a state from which they can be resumed.
const RESUMABLE: [&str; 3] = ["train", "tune", "run"];

/// Runs a command and returns its result as JSON.
///
/// - options: a JSON object, by their names
/// - listener: called on this thread as `listener(kind, content)`, with a text for `note`, `detail` and
///   `warning`, and with (number, action, position, total, unit, message) for `progress` and `end`
#[pyfunction]
pub(crate) fn call(
    py: Python<'_>,
    command: &str,
    options: &str,
    listener: &Bound<'_, PyAny>,
) -> PyResult<String> {
    let options: Map<String, Value> = serde_json::from_str(options)
        .map_err(|error| bad_input(py, format!("the options are no JSON object: {error}")))?;
    let host = Arc::new(PythonHost::new(RESUMABLE.contains(&command)));
    let (name, worker) = (command.to_owned(), Arc::clone(&host));
    let thread = thread::Builder::new()
        .name(format!("eigenmix {command}"))
        .stack_size(STACK)
        .spawn(move || {
            let host = Arc::clone(&worker);
            let result = catch_unwind(AssertUnwindSafe(|| eigenmix::call(&name, &options, host)));
            worker.finished();
            result
        })?;
    pass_on(py, &host, listener)?;
    match py.detach(|| thread.join()).and_then(|result| result) {
        Ok(result) => result.map_err(|error| raised(py, error)),
        // Whoever asked it to stop has raised something by now.
        Err(reason) if reason.is::<Stopped>() => Err(PyRuntimeError::new_err("it was stopped")),
        Err(reason) => {
            let words = reason.downcast_ref::<&str>().map(|&words| words.to_owned());
            let words = words.or_else(|| reason.downcast_ref::<String>().cloned());
            Err(PyRuntimeError::new_err(format!(
                "a fault of eigenmix, please report it: {}",
                words.unwrap_or_default()
            )))
        }
    }
}

/// Passes on what the command reports until it is over.
///
/// # Errors
/// What the listener raised, or KeyboardInterrupt; the command has stopped by then, unless Ctrl-C was
/// pressed once more.
fn pass_on(py: Python<'_>, host: &PythonHost, listener: &Bound<'_, PyAny>) -> PyResult<()> {
    let mut steps: BTreeMap<usize, (Arc<Step>, usize)> = BTreeMap::new();
    let mut failed = None;
    loop {
        let events = py.detach(|| host.wait(TICK));
        let is_over = events.iter().any(|event| matches!(event, Event::Finished));
        let begun = events.iter().filter_map(|event| match event {
            Event::Begun(step) => Some(step.number + 1),
            _ => None,
        });
        let begun = begun.max();
        let reported = match failed {
            None => report(events, &mut steps, listener),
            Some(_) => Ok(()),
        };
        let result = reported.and_then(|()| py.check_signals());
        if let Err(error) = result {
            if failed.is_some() {
                return Err(error);
            }
            failed = Some(error);
            host.ask_to_stop();
        }
        if let Some(steps) = begun {
            host.tell(steps);
        }
        if is_over {
            return failed.map_or(Ok(()), Err);
        }
    }
}

/// - steps: those that are not over, with the position that the listener knows
fn report(
    events: Vec<Event>,
    steps: &mut BTreeMap<usize, (Arc<Step>, usize)>,
    listener: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let step = |kind: &str, step: &Step| {
        let (position, message) = (step.position(), step.message());
        let about = (
            step.number,
            &step.action,
            position,
            step.total,
            step.unit,
            message,
        );
        listener.call1((kind, about)).map(|_| position)
    };
    for event in events {
        match event {
            Event::Note(note) => drop(listener.call1(("note", note))?),
            Event::Detail(detail) => drop(listener.call1(("detail", detail))?),
            Event::Warning(warning) => drop(listener.call1(("warning", warning))?),
            Event::Begun(begun) => {
                let position = step("progress", &begun)?;
                steps.insert(begun.number, (begun, position));
            }
            Event::Ended(ended) => {
                steps.remove(&ended.number);
                step("end", &ended)?;
            }
            Event::Finished => {}
        }
    }
    for (running, known) in steps.values_mut() {
        if running.position() != *known {
            *known = step("progress", running)?;
        }
    }
    Ok(())
}
