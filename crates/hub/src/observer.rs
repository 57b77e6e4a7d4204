//! Whoever wants to see transfers go on.

use std::sync::OnceLock;

/// Which way a file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferDirection {
    Download,
    Upload,
}

/// A file on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer<'a> {
    pub direction: TransferDirection,
    /// The repository and the name in it, as in `org/name/config.json`.
    pub name: &'a str,
    /// Bytes in all.
    pub size: u64,
    /// Bytes that were there before.
    pub resumed_at: u64,
}

/// Is told of every file that is downloaded or uploaded, from whatever thread does it.
pub trait TransferObserver: Send + Sync {
    /// A transfer begins; what is returned follows it, and is dropped when it ends.
    fn begin(&self, transfer: Transfer<'_>) -> Box<dyn TransferProgress>;
}

/// Follows one transfer.
pub trait TransferProgress: Send {
    /// So many bytes are there now.
    fn reached(&mut self, position: u64);
    /// All bytes are there and are the right ones.
    fn finish(&mut self);
    /// Another process fetches the same file, and this one waits for it.
    fn waiting(&mut self) {}
}

static OBSERVER: OnceLock<Box<dyn TransferObserver>> = OnceLock::new();

/// Sets who is told of all transfers of this process; the first call counts. Like a logger, it is one
/// a process, as its terminal is.
pub fn observe_transfers(observer: Box<dyn TransferObserver>) {
    // Whoever came first stays.
    let _ = OBSERVER.set(observer);
}

/// Tells the observer, if there is one.
pub(crate) fn begin(transfer: Transfer<'_>) -> Box<dyn TransferProgress> {
    match OBSERVER.get() {
        Some(observer) => observer.begin(transfer),
        None => Box::new(Unobserved),
    }
}

struct Unobserved;

impl TransferProgress for Unobserved {
    fn reached(&mut self, _position: u64) {}
    fn finish(&mut self) {}
}
