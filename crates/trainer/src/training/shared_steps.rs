//! What it took several processes to share the steps of a training.

use serde::{Deserialize, Serialize};

use crate::processes::{Processes, Traffic};

/// The processes of a training, and what the first of them met in its steps. Of a resumed training, since it
/// was resumed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SharedSteps {
    /// How many processes there are.
    pub count: usize,
    /// How many micro-batches a batch is divided into.
    pub micro_batches: usize,
    /// How many steps were taken.
    pub steps: usize,
    /// The bytes that it gave each of the others in all of them.
    pub bytes: u64,
    /// The seconds that they took,
    pub seconds: f64,
    /// those of them in which it waited for the others,
    pub waiting_seconds: f64,
    /// and those in which gradients were on their way.
    pub moving_seconds: f64,
}

impl SharedSteps {
    /// Before the first step; `None` of a process that is alone.
    pub(super) fn of(processes: &Processes, micro_batches: usize) -> Option<Self> {
        (!processes.is_alone()).then(|| Self {
            count: processes.size(),
            micro_batches,
            steps: 0,
            bytes: 0,
            seconds: 0.0,
            waiting_seconds: 0.0,
            moving_seconds: 0.0,
        })
    }

    /// Adds a step.
    pub(super) fn add(&mut self, traffic: Traffic, seconds: f64) {
        self.steps += 1;
        self.bytes += traffic.bytes;
        self.seconds += seconds;
        self.waiting_seconds += traffic.waiting;
        self.moving_seconds += traffic.moving;
    }
}
