//! What a cell in a process of its own tells the one that started it: a line of JSON each.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use eigenmix_trainer::{EvaluationRecord, Observer, Outcome, Plan, StepRecord};
use serde::{Deserialize, Serialize};

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Event {
    Started(Plan),
    Advanced(usize),
    Logged { loss: f64 },
    Note(String),
    Ended(Box<Outcome>),
}

/// Tells what happens on standard output.
pub(super) struct EventWriter<'a> {
    /// Set when nobody listens any more: whoever started this process is gone, and the cell is to be
    /// left as Ctrl-C leaves it.
    stop: &'a AtomicBool,
}

impl<'a> EventWriter<'a> {
    pub(super) fn new(stop: &'a AtomicBool) -> Self {
        Self { stop }
    }

    pub(super) fn tell(&self, event: &Event) {
        let told = serde_json::to_string(event)
            .map_err(io::Error::from)
            .and_then(|line| {
                let mut stream = io::stdout().lock();
                writeln!(stream, "{line}")?;
                stream.flush()
            });
        if told.is_err() {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

impl Observer for EventWriter<'_> {
    fn started(&mut self, plan: &Plan) {
        self.tell(&Event::Started(plan.clone()));
    }

    fn advanced(&mut self, step: usize) {
        self.tell(&Event::Advanced(step));
    }

    fn logged(&mut self, record: &StepRecord) {
        self.tell(&Event::Logged { loss: record.loss });
    }

    fn evaluated(&mut self, _record: &EvaluationRecord) {}

    fn note(&mut self, note: &str) {
        self.tell(&Event::Note(note.to_owned()));
    }
}
