//! The observer of transfers.

use std::sync::OnceLock;

/// Which way a file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferDirection {
    Download,
    Upload,
}

/// A transfer in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer<'a> {
    pub direction: TransferDirection,
    /// The repository and the name in it, as in `org/name/config.json`.
    pub name: &'a str,
    /// The total number of bytes.
    pub size: u64,
    /// The number of bytes that were there before.
    pub resumed_at: u64,
}

/// Called for every file that is downloaded or uploaded, from the thread that does it.
pub trait TransferObserver: Send + Sync {
    /// A transfer begins; the returned value follows it and is dropped when it ends.
    fn begin(&self, transfer: Transfer<'_>) -> Box<dyn TransferProgress>;
}

/// Follows one transfer.
pub trait TransferProgress: Send {
    /// This many bytes are there now.
    fn reached(&mut self, position: u64);
    /// All bytes are there and are the right ones.
    fn finished(&mut self);
    /// Another process fetches the same file, and this one waits for it.
    fn waiting(&mut self) {}
}

static OBSERVER: OnceLock<Box<dyn TransferObserver>> = OnceLock::new();

/// Sets the observer of all transfers of this process; only the first call counts. Like a logger,
/// there is one per process, as there is one terminal.
pub fn observe_transfers(observer: Box<dyn TransferObserver>) {
    // The first observer stays.
    let _ = OBSERVER.set(observer);
}

/// Calls the observer, if there is one.
pub(crate) fn begin(transfer: Transfer<'_>) -> Box<dyn TransferProgress> {
    match OBSERVER.get() {
        Some(observer) => observer.begin(transfer),
        None => Box::new(Unobserved),
    }
}

struct Unobserved;

impl TransferProgress for Unobserved {
    fn reached(&mut self, _position: u64) {}
    fn finished(&mut self) {}
}
