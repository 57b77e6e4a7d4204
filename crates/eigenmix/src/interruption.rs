//! Ctrl-C: the first asks the work to stop after its step, the second ends it at once.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use eigenmix_trainer::Processes;

static STOP: AtomicBool = AtomicBool::new(false);

/// The flag that Ctrl-C sets from now on. Of several processes the first says so, whichever of them is asked:
/// they tell each other.
pub(crate) fn flag(processes: &Processes) -> anyhow::Result<&'static AtomicBool> {
    /// The status of a program that SIGINT ended.
    const INTERRUPTED: i32 = 130;
    let speaks = processes.is_first();
    ctrlc::set_handler(move || {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED);
        }
        if speaks {
            eprintln!(
                "stopping after this step; press Ctrl-C again to stop at once without saving"
            );
        }
    })
    .context("cannot watch for Ctrl-C")?;
    Ok(&STOP)
}
