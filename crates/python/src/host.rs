//! The receiver of what a command reports, for the thread that called it.
//!
//! A command runs on a thread of its own. What it reports waits here until the thread that called it
//! passes it on to Python, so that callbacks run where their caller expects them, and no computing thread
//! waits for the interpreter. Only before a long step begins is its caller told, who may stop it.

use std::fmt::Display;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

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
    /// How many steps the caller was told of.
    told: Mutex<usize>,
    heard: Condvar,
}

/// How long a step waits at most until its caller was told that it begins.
const PATIENCE: Duration = Duration::from_secs(5);

impl Mailbox {
    /// Waits until the caller was told of so many steps, or has not been for long.
    fn wait_until_told(&self, steps: usize) {
        let end = Instant::now() + PATIENCE;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        while *told < steps {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.heard.wait_timeout(told, left);
            (told, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

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

    /// So many steps were passed on.
    pub(crate) fn tell(&self, steps: usize) {
        let mut told = self
            .mailbox
            .told
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *told = (*told).max(steps);
        self.mailbox.heard.notify_all();
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
        self.mailbox.wait_until_told(step.number + 1);
        let reported = Reported {
            step,
            mailbox: Arc::clone(&self.mailbox),
            stop: (!self.is_resumable).then(|| Arc::clone(&self.stop)),
        };
        reported.check();
        Box::new(reported)
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
