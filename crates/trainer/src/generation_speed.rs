//! How fast texts are generated.

use std::fmt::{Display, Formatter};
use std::ops::AddAssign;
use std::time::Duration;

/// Tokens and the time that they took, prompts apart from what continues them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GenerationSpeed {
    pub prompt_tokens: usize,
    /// The time of reading the prompts; the first token of every continuation comes with it.
    pub prompt_time: Duration,
    /// Tokens that were chosen after the first of each continuation, those that ended one included.
    pub new_tokens: usize,
    pub new_time: Duration,
}

impl GenerationSpeed {
    /// New tokens a second, of all texts together; `None` if there were none.
    pub fn tokens_per_second(&self) -> Option<f64> {
        rate(self.new_tokens, self.new_time)
    }

    /// Tokens of prompts a second; `None` if there were none.
    pub fn prompt_tokens_per_second(&self) -> Option<f64> {
        rate(self.prompt_tokens, self.prompt_time)
    }
}

fn rate(tokens: usize, time: Duration) -> Option<f64> {
    let is_measured = tokens > 0 && !time.is_zero();
    is_measured.then(|| tokens as f64 / time.as_secs_f64())
}

impl AddAssign for GenerationSpeed {
    fn add_assign(&mut self, other: Self) {
        self.prompt_tokens += other.prompt_tokens;
        self.prompt_time += other.prompt_time;
        self.new_tokens += other.new_tokens;
        self.new_time += other.new_time;
    }
}

/// `61.2 tokens per second (199 in 3.25 s); prompts: 240.0 (12 in 0.05 s)`
impl Display for GenerationSpeed {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        if let Some(rate) = self.tokens_per_second() {
            let (tokens, seconds) = (self.new_tokens, self.new_time.as_secs_f64());
            write!(
                formatter,
                "{rate:.1} tokens per second ({tokens} in {seconds:.2} s); "
            )?;
        }
        let rate = self.prompt_tokens_per_second().unwrap_or_default();
        let (tokens, seconds) = (self.prompt_tokens, self.prompt_time.as_secs_f64());
        write!(formatter, "prompts: {rate:.1} ({tokens} in {seconds:.2} s)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_all_texts_together() {
        let mut speed = GenerationSpeed {
            prompt_tokens: 12,
            prompt_time: Duration::from_millis(50),
            new_tokens: 99,
            new_time: Duration::from_millis(2250),
        };
        speed += GenerationSpeed {
            prompt_tokens: 0,
            prompt_time: Duration::ZERO,
            new_tokens: 100,
            new_time: Duration::from_millis(1000),
        };
        let expected = "61.2 tokens per second (199 in 3.25 s); prompts: 240.0 (12 in 0.05 s)";
        assert_eq!(speed.to_string(), expected);
    }

    #[test]
    fn where_every_text_ends_with_its_first_token_there_is_no_rate() {
        let speed = GenerationSpeed {
            prompt_tokens: 3,
            prompt_time: Duration::from_millis(100),
            ..GenerationSpeed::default()
        };
        assert_eq!(speed.tokens_per_second(), None);
        assert_eq!(speed.to_string(), "prompts: 30.0 (3 in 0.10 s)");
    }
}
