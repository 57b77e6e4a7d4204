//! The program that calls a command in its own process.

use std::sync::atomic::AtomicBool;

use eigenmix_experiment::Listener;

/// Receives everything but the result of a command, and may ask it to stop. Its methods are called
/// from any thread.
pub trait Host: Listener + Send {
    /// The flag that asks trainings, tunings and experiments to stop after their step, so that they can
    /// be resumed.
    fn stop(&self) -> &AtomicBool;
}
