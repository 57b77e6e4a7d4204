//! Events of a cell that runs in its own process, sent to its parent as lines of JSON.

use std::fmt::Display;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use eigenmix_trainer::{Observer, Outcome, StepRecord, TrainingPlan};
use serde::{Deserialize, Serialize};

use crate::listener::Listener;

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Event {
    Started(TrainingPlan),
    Advanced(usize),
    Logged {
        loss: f64,
    },
    Note(String),
    Warning(String),
    Ended(Box<Outcome>),
    /// Nothing comes after it.
    Failed {
        problem: String,
        is_bad_input: bool,
    },
}

/// Writes events as lines.
pub(super) struct EventWriter<'a, W> {
    output: Mutex<W>,
    /// Set when the parent process is gone, so that the cell stops as after Ctrl-C.
    stop: &'a AtomicBool,
}

impl<'a, W: Write> EventWriter<'a, W> {
    pub(super) fn new(output: W, stop: &'a AtomicBool) -> Self {
        Self {
            output: Mutex::new(output),
            stop,
        }
    }

    pub(super) fn send(&self, event: &Event) {
        let told = serde_json::to_string(event)
            .map_err(std::io::Error::from)
            .and_then(|line| {
                let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
                writeln!(output, "{line}")?;
                output.flush()
            });
        if told.is_err() {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

impl<W: Write + Send> Listener for EventWriter<'_, W> {
    fn note(&self, note: &dyn Display) {
        self.send(&Event::Note(note.to_string()));
    }

    fn warn(&self, warning: &dyn Display) {
        self.send(&Event::Warning(warning.to_string()));
    }

    fn training<'a>(&'a self, _action: &str) -> Box<dyn Observer + 'a> {
        Box::new(ToldTraining(self))
    }
}

/// A training whose events are written.
struct ToldTraining<'a, 'w, W>(&'a EventWriter<'w, W>);

impl<W: Write> Observer for ToldTraining<'_, '_, W> {
    fn started(&mut self, plan: &TrainingPlan) {
        self.0.send(&Event::Started(plan.clone()));
    }

    fn stepped(&mut self, step: usize) {
        self.0.send(&Event::Advanced(step));
    }

    fn logged(&mut self, record: &StepRecord) {
        self.0.send(&Event::Logged { loss: record.loss });
    }

    fn note(&mut self, note: &str) {
        self.0.send(&Event::Note(note.to_owned()));
    }
}
