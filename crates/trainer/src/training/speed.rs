//! The speed of a training.

use std::time::Instant;

/// Examples and tokens since the last logged line.
pub(crate) struct Speed {
    since: Instant,
    examples: usize,
    tokens: usize,
}

impl Speed {
    pub fn new() -> Self {
        Self {
            since: Instant::now(),
            examples: 0,
            tokens: 0,
        }
    }

    pub fn count(&mut self, examples: usize, tokens: usize) {
        self.examples += examples;
        self.tokens += tokens;
    }

    /// Examples and tokens per second.
    pub fn rates(&self) -> (f64, f64) {
        let seconds = self.since.elapsed().as_secs_f64();
        (self.examples as f64 / seconds, self.tokens as f64 / seconds)
    }
}
