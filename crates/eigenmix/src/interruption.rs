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
    #[cfg(unix)]
    if !processes.is_alone() {
        watch_for_launcher();
    }
    Ok(&STOP)
}

/// SIGUSR1, which `mpirun` passes on to its processes without ending them, stops as well: after Ctrl-C it
/// leaves them a second, and a step may take longer.
#[cfg(unix)]
fn watch_for_launcher() {
    extern "C" fn ask(_signal: libc::c_int) {
        STOP.store(true, Ordering::Relaxed);
    }
    let handler: extern "C" fn(libc::c_int) = ask;
    // SAFETY: the handler only sets a flag, which may be done at any moment.
    unsafe { libc::signal(libc::SIGUSR1, handler as *const () as libc::sighandler_t) };
}
