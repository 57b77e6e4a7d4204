//! How long to wait before a request is tried again.

use std::thread;
use std::time::Duration;

/// How often a request is sent before its failure counts.
const ATTEMPTS: u32 = 5;
/// The longest wait that a server can request.
const LONGEST: Duration = Duration::from_secs(60);

/// The attempts at one request: pauses of p, 2p, 4p, … and up to half as much again, so that many
/// clients do not come back all at once.
pub(crate) struct Backoff {
    pause: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(pause: Duration) -> Self {
        Self { pause, failures: 0 }
    }

    /// Counts a failure and waits, as long as the server asked if it did; false when it was the last
    /// attempt.
    pub(crate) fn wait(&mut self, asked: Option<Duration>) -> bool {
        self.failures += 1;
        if self.failures >= ATTEMPTS {
            return false;
        }
        let own = self.pause * 2u32.pow(self.failures - 1);
        let own = own + own.mul_f64(0.5 * fastrand::f64());
        thread::sleep(asked.unwrap_or(own).min(LONGEST));
        true
    }

    /// There was progress: the next failure counts as the first.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fifth_failure_in_a_row_is_the_last() {
        let mut backoff = Backoff::new(Duration::ZERO);
        let waits: Vec<bool> = (0..5).map(|_| backoff.wait(None)).collect();
        assert_eq!(waits, [true, true, true, true, false]);
        backoff.reset();
        assert!(backoff.wait(Some(Duration::ZERO)));
    }
}
