//! The receiver of notes, warnings and progress. This crate prints nothing.

use std::fmt::Display;

use eigenmix_trainer::Observer;

/// Receives everything except results. Every method does nothing by default.
pub trait Listener: Sync {
    /// A note.
    fn note(&self, _note: &dyn Display) {}

    /// A detail.
    fn detail(&self, _detail: &dyn Display) {}

    /// A warning: the result may not be what is expected.
    fn warn(&self, _warning: &dyn Display) {}

    /// A long step begins; it ends when the progress is dropped.
    ///
    /// - action: what is done, such as `merging`
    /// - total: how many units it takes, perhaps a guess
    /// - unit: what is counted, such as `modules`
    fn progress(&self, _action: &str, _total: usize, _unit: &'static str) -> Box<dyn Progress> {
        Box::new(Silent)
    }

    /// A training begins.
    ///
    /// - action: what is trained, such as the name of a cell
    fn training<'a>(&'a self, _action: &str) -> Box<dyn Observer + 'a> {
        Box::new(Silent)
    }
}

/// The progress of a long step; may be reported from many threads.
pub trait Progress: Send + Sync {
    /// One more unit is done.
    fn advance(&self) {}

    /// `position` units are done; `message` adds a detail such as the loss.
    fn set(&self, _position: usize, _message: &str) {}
}

/// Ignores everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Listener for Silent {}
impl Progress for Silent {}
impl Observer for Silent {}
