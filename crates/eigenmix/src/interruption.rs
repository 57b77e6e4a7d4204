//! Ctrl-C: the first asks the work to stop after its step, the second ends it at once.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

static STOP: AtomicBool = AtomicBool::new(false);

/// The flag that Ctrl-C sets from now on.
pub(crate) fn flag() -> anyhow::Result<&'static AtomicBool> {
    /// The status of a program that SIGINT ended.
    const INTERRUPTED: i32 = 130;
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED);
        }
        eprintln!("stopping after this step; press Ctrl-C again to stop at once without saving");
    })
    .context("cannot watch for Ctrl-C")?;
    Ok(&STOP)
}
