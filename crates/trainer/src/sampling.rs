//! How the next token of a text is chosen.

use std::num::NonZeroUsize;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::TrainerError;

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Sampling {
    /// The most probable one; the first of several.
    #[default]
    Greedy,
    /// Drawn by probability.
    Random {
        /// What logits are divided by.
        temperature: f64,
        /// Only the k most probable tokens.
        top_k: Option<NonZeroUsize>,
        /// Only the most probable tokens that together have this probability (nucleus sampling,
        /// arXiv 1904.09751).
        top_p: f64,
        seed: u64,
    },
}

impl Sampling {
    /// # Errors
    /// If the temperature or the probability is out of range.
    pub fn validate(self) -> Result<(), TrainerError> {
        let Self::Random {
            temperature, top_p, ..
        } = self
        else {
            return Ok(());
        };
        if !(temperature > 0.0 && temperature.is_finite()) {
            let expected = "a number above 0";
            return Err(TrainerError::value("temperature", expected, temperature));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(TrainerError::value("top-p", "above 0 and at most 1", top_p));
        }
        Ok(())
    }

    /// A token by its logits.
    ///
    /// - place: (text, position), so that a text's draws depend on no other
    pub(crate) fn choose(self, logits: &[f32], [text, position]: [u64; 2]) -> u32 {
        let Self::Random {
            temperature,
            top_k,
            top_p,
            seed,
        } = self
        else {
            return largest(logits);
        };
        let mut ranked: Vec<u32> = (0..logits.len() as u32).collect();
        let by_logit = |left: &u32, right: &u32| {
            logits[*right as usize]
                .total_cmp(&logits[*left as usize])
                .then(left.cmp(right))
        };
        if let Some(k) = top_k
            && k.get() < ranked.len()
        {
            ranked.select_nth_unstable_by(k.get() - 1, by_logit);
            ranked.truncate(k.get());
        }
        ranked.sort_unstable_by(by_logit);
        let best = f64::from(logits[ranked[0] as usize]);
        let weight =
            |token: &u32| ((f64::from(logits[*token as usize]) - best) / temperature).exp();
        let weights: Vec<f64> = ranked.iter().map(weight).collect();
        let limit = top_p * weights.iter().sum::<f64>();
        let mut sum = 0.0;
        let mut kept = 0;
        while kept < weights.len() && (kept == 0 || sum < limit) {
            sum += weights[kept];
            kept += 1;
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed ^ text.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        random.set_stream(position);
        let mut drawn = random.random::<f64>() * sum;
        for (token, weight) in ranked.iter().zip(&weights).take(kept) {
            drawn -= weight;
            if drawn < 0.0 {
                return *token;
            }
        }
        ranked[kept - 1]
    }
}

/// The first of the largest.
pub(crate) fn largest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(temperature: f64, top_k: Option<usize>, top_p: f64) -> Sampling {
        Sampling::Random {
            temperature,
            top_k: top_k.and_then(NonZeroUsize::new),
            top_p,
            seed: 3,
        }
    }

    /// How often each token is drawn in 4000 draws.
    fn shares(sampling: Sampling, logits: &[f32]) -> Vec<f64> {
        let mut counts = vec![0; logits.len()];
        for position in 0..4000 {
            counts[sampling.choose(logits, [1, position]) as usize] += 1;
        }
        counts
            .iter()
            .map(|&count| f64::from(count) / 4000.0)
            .collect()
    }

    #[test]
    fn tokens_are_drawn_by_their_probabilities() {
        let probabilities = [0.5f32, 0.1, 0.25, 0.15];
        let logits = probabilities.map(f32::ln);
        for (token, share) in shares(random(1.0, None, 1.0), &logits).iter().enumerate() {
            // Three standard deviations of 4000 draws are below 0.024.
            assert!(
                (share - f64::from(probabilities[token])).abs() < 0.03,
                "{share}"
            );
        }
        // Squared and normalised: 0.25, 0.01, 0.0625, 0.0225 of 0.345.
        let sharper = shares(random(0.5, None, 1.0), &logits);
        assert!((sharper[0] - 0.25 / 0.345).abs() < 0.03);
    }

    #[test]
    fn top_k_and_top_p_leave_out_the_tail() {
        let logits = [0.5f32, 0.1, 0.25, 0.15].map(f32::ln);
        let of_two = shares(random(1.0, Some(2), 1.0), &logits);
        assert_eq!((of_two[1], of_two[3]), (0.0, 0.0));
        assert!((of_two[0] - 2.0 / 3.0).abs() < 0.03);
        // 0.5 + 0.25 reach 0.7; the first alone reaches 0.4.
        assert_eq!(shares(random(1.0, None, 0.7), &logits)[3], 0.0);
        assert_eq!(shares(random(1.0, None, 0.4), &logits)[0], 1.0);
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        assert_eq!(Sampling::Greedy.choose(&[0.5, 2.0, 2.0, -1.0], [0, 0]), 1);
    }

    #[test]
    fn senseless_options_are_refused() {
        assert!(random(0.0, None, 1.0).validate().is_err());
        assert!(random(1.0, None, 0.0).validate().is_err());
        assert!(random(0.7, None, 0.9).validate().is_ok());
    }
}
