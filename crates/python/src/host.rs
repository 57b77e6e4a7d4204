//! The receiver of what a command reports, for the thread that called it.
//!
//! A command runs on a thread of its own. What it reports waits here until the thread that called it
//! passes it on to Python, so that callbacks run where their caller expects them, and no computing thread
//! ever waits for the interpreter.

use std::fmt::Display;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use eigenmix_experiment::{Listener, Progress};

/// What a command reports.
pub(crate) enum Event {
    Note(String),
    Detail(String),
    Warning(String),
    Begun(Arc<Step>),
    Ended(Arc<Step>),
    /// The command is over.
    Finished,
}

/// A long step and how far it is.
pub(crate) struct Step {
    pub(crate) number: usize,
    pub(crate) action: String,
    pub(crate) total: usize,
    pub(crate) unit: &'static str,
    position: AtomicUsize,
    message: Mutex<String>,
}

impl Step {
    pub(crate) fn position(&self) -> usize {
        self.position.load(Ordering::Relaxed)
    }

    /// A detail such as the loss.
    pub(crate) fn message(&self) -> String {
        let message = self.message.lock();
        message.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Why a command that was asked to stop unwinds.
pub(crate) struct Stopped;

#[derive(Default)]
struct Mailbox {
    events: Mutex<Vec<Event>>,
    arrived: Condvar,
}

impl Mailbox {
    fn put(&self, event: Event) {
        let events = self.events.lock();
        events.unwrap_or_else(PoisonError::into_inner).push(event);
        self.arrived.notify_one();
    }
}

/// See the module.
pub(crate) struct PythonHost {
    mailbox: Arc<Mailbox>,
    stop: Arc<AtomicBool>,
    /// Whether the command looks at the flag itself, to end in a state from which it can be resumed.
    is_resumable: bool,
    steps: AtomicUsize,
}

impl PythonHost {
    pub(crate) fn new(is_resumable: bool) -> Self {
        Self {
            mailbox: Arc::default(),
            stop: Arc::default(),
            is_resumable,
            steps: AtomicUsize::new(0),
        }
    }

    /// What arrived; waits for something, but no longer than `time`.
    pub(crate) fn wait(&self, time: Duration) -> Vec<Event> {
        let events = self.mailbox.events.lock();
        let events = events.unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .mailbox
            .arrived
            .wait_timeout_while(events, time, |events| events.is_empty());
        let (mut events, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *events)
    }

    /// Asks the command to stop: after its step if it can be resumed from there, otherwise when it next
    /// reports progress. What it was writing is then not there, as after any error.
    pub(crate) fn ask_to_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The last event.
    pub(crate) fn finished(&self) {
        self.mailbox.put(Event::Finished);
    }
}

impl Listener for PythonHost {
    fn note(&self, note: &dyn Display) {
        self.mailbox.put(Event::Note(note.to_string()));
    }

    fn detail(&self, detail: &dyn Display) {
        self.mailbox.put(Event::Detail(detail.to_string()));
    }

    fn warn(&self, warning: &dyn Display) {
        self.mailbox.put(Event::Warning(warning.to_string()));
    }

    fn progress(&self, action: &str, total: usize, unit: &'static str) -> Box<dyn Progress> {
        let step = Arc::new(Step {
            number: self.steps.fetch_add(1, Ordering::Relaxed),
            action: action.to_owned(),
            total,
            unit,
            position: AtomicUsize::new(0),
            message: Mutex::default(),
        });
        self.mailbox.put(Event::Begun(Arc::clone(&step)));
        Box::new(Reported {
            step,
            mailbox: Arc::clone(&self.mailbox),
            stop: (!self.is_resumable).then(|| Arc::clone(&self.stop)),
        })
    }
}

impl eigenmix::Host for PythonHost {
    fn stop(&self) -> &AtomicBool {
        &self.stop
    }
}

/// A step, as the command that takes it has it.
struct Reported {
    step: Arc<Step>,
    mailbox: Arc<Mailbox>,
    /// The flag that ends it; nothing for a command that looks at it itself.
    stop: Option<Arc<AtomicBool>>,
}

impl Reported {
    /// Unwinds the command if it is asked to stop.
    fn check(&self) {
        let stop = self.stop.as_ref();
        if stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            resume_unwind(Box::new(Stopped));
        }
    }
}

impl Progress for Reported {
    fn advance(&self) {
        self.step.position.fetch_add(1, Ordering::Relaxed);
        self.check();
    }

    fn set(&self, position: usize, message: &str) {
        self.step.position.store(position, Ordering::Relaxed);
        let mut known = self.step.message.lock();
        if let Ok(known) = &mut known {
            message.clone_into(known);
        }
        drop(known);
        self.check();
    }
}

impl Drop for Reported {
    fn drop(&mut self) {
        self.mailbox.put(Event::Ended(Arc::clone(&self.step)));
    }
}
