//! The time that is left of a budget.

use std::time::{Duration, Instant};

/// What a training may take longer than those before it.
const ALLOWANCE: f64 = 1.1;

/// A budget of time that began.
pub(crate) struct Clock {
    started: Instant,
    budget: Duration,
}

impl Clock {
    pub fn start(budget: Duration) -> Self {
        Self {
            started: Instant::now(),
            budget,
        }
    }

    pub fn elapsed(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Seconds that are left.
    pub fn left(&self) -> f64 {
        self.budget.as_secs_f64() - self.elapsed()
    }

    /// Whether there is time for a training of so many seconds and the last one after it.
    pub fn allows(&self, training: f64, last: f64) -> bool {
        ALLOWANCE * (training + last) <= self.left()
    }

    /// How many trainings of so many seconds there is time for, the last one on all rows left aside.
    pub fn affords(&self, training: f64) -> f64 {
        (self.left() / (ALLOWANCE * training.max(1e-3)) - 1.0).max(0.0)
    }
}
