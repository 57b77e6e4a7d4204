//! Who hears what the work has to say: notes, warnings and how far it is. This crate prints nothing.

use std::fmt::Display;

use eigenmix_trainer::Observer;

/// Hears of everything that is no result. Every method does nothing unless it is defined.
pub trait Listener: Sync {
    /// Something good to know.
    fn note(&self, _note: &dyn Display) {}

    /// Something for the curious.
    fn detail(&self, _detail: &dyn Display) {}

    /// Something that may make the result other than expected.
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

/// How far a long step is; may be told from many threads.
pub trait Progress: Send + Sync {
    /// One unit more is done.
    fn advance(&self) {}

    /// So many units are done, of which `message` tells something, such as the loss.
    fn set(&self, _position: usize, _message: &str) {}
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Listener for Silent {}
impl Progress for Silent {}
impl Observer for Silent {}
