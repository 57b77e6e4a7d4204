//! Continuing texts with a language model.

use std::num::NonZeroUsize;

use burn::tensor::Device;
use eigenmix_models::{Network, TokenBatch};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::TrainerError;
use crate::host_values::host_values;

/// A text to be continued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// At least one.
    pub tokens: Vec<u32>,
    /// The most tokens that are added; with those of the prompt no more than the model takes.
    pub max_new_tokens: NonZeroUsize,
}

/// How the next token is chosen, and when a text ends.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationOptions {
    pub sampling: Sampling,
    /// Tokens that end a text; the one that does is not part of it.
    pub stop: Vec<u32>,
}

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
    fn choose(self, logits: &[f32], [text, position]: [u64; 2]) -> u32 {
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

fn largest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

/// Continues every prompt. Each token passes through the model once, and its keys and values are
/// cached.
///
/// `on_token` is called for every new token, with the index of its text and the token.
///
/// - output: the new tokens of each text
///
/// # Panics
/// If a prompt is empty or the model is not a decoder.
pub fn generate(
    network: &Network,
    prompts: &[Prompt],
    options: &GenerationOptions,
    device: &Device,
    on_token: &mut dyn FnMut(usize, u32),
) -> Vec<Vec<u32>> {
    let mut texts = vec![Vec::new(); prompts.len()];
    if prompts.is_empty() {
        return texts;
    }
    let mut cache = network.cache(prompts.len());
    // The texts that are not finished, and the tokens of each that the model has not seen.
    let mut unfinished: Vec<usize> = (0..prompts.len()).collect();
    let mut unseen: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.tokens.clone()).collect();
    for position in 0.. {
        let batch = TokenBatch::continuing(&unseen, cache.lengths());
        let logits = host_values(network.next_token(&batch, &mut cache, device));
        let vocabulary = logits.len() / unfinished.len();
        let mut kept = Vec::with_capacity(unfinished.len());
        unseen.clear();
        for (place, logits) in logits.chunks_exact(vocabulary).enumerate() {
            let text = unfinished[place];
            let token = options.sampling.choose(logits, [text as u64, position]);
            if options.stop.contains(&token) {
                continue;
            }
            texts[text].push(token);
            on_token(text, token);
            if texts[text].len() < prompts[text].max_new_tokens.get() {
                kept.push(place);
                unseen.push(vec![token]);
            }
        }
        if kept.is_empty() {
            break;
        }
        if kept.len() < unfinished.len() {
            cache.keep(&kept);
            unfinished = kept.iter().map(|&place| unfinished[place]).collect();
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use eigenmix_models::{Adaptation, Architecture, Checkpoint, HeadKind, LoadOptions, Train};

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

    /// A GPT-2 of random weights, which has no vector for a position beyond its last, and the device
    /// it is on.
    fn model() -> (Network, Device) {
        let device = Device::flex();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        let config = serde_json::json!({
            "model_type": "gpt2", "vocab_size": 29, "n_embd": 16, "n_layer": 2, "n_head": 4,
            "n_positions": 64, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new",
        });
        std::fs::write(&path, config.to_string()).unwrap();
        let checkpoint = Checkpoint::open_config(directory.path()).unwrap();
        let options = LoadOptions {
            head: HeadKind::LanguageModel,
            adaptation: &Adaptation::default(),
            train: Train::Everything,
            dropout: 0.0,
            seed: 1,
        };
        let architecture = Architecture::from_json(&config, &path).unwrap();
        let loaded = Network::load(&checkpoint, &architecture, &options, &device).unwrap();
        (loaded.model, device)
    }

    /// Every token from the whole text so far, without a cache.
    fn without_cache(model: &Network, prompt: &[u32], count: usize, device: &Device) -> Vec<u32> {
        let mut text = prompt.to_vec();
        for _ in 0..count {
            let batch = TokenBatch::continuing(&[text.clone()], &[0]);
            let logits = host_values(model.forward(&batch.into(), device));
            text.push(largest(&logits[logits.len() - 29..]));
        }
        text.split_off(prompt.len())
    }

    #[test]
    fn greedy_generation_with_the_cache_writes_the_same_tokens_as_without() {
        let (model, device) = model();
        let prompts = [vec![3, 5, 8], vec![1], vec![9, 9, 4, 6, 20]].map(|tokens| Prompt {
            tokens,
            max_new_tokens: NonZeroUsize::new(20).unwrap(),
        });
        let options = GenerationOptions {
            sampling: Sampling::Greedy,
            stop: vec![],
        };
        let texts = generate(&model, &prompts, &options, &device, &mut |_, _| {});
        for (prompt, text) in prompts.iter().zip(&texts) {
            assert_eq!(*text, without_cache(&model, &prompt.tokens, 20, &device));
        }
        // A token that ends a text is not part of it, and the other texts continue.
        let stop = GenerationOptions {
            stop: vec![texts[0][4]],
            ..options
        };
        let mut heard = vec![Vec::new(); 3];
        let stopped = generate(&model, &prompts, &stop, &device, &mut |text, token| {
            heard[text].push(token);
        });
        assert_eq!(heard, stopped);
        for (stopped, text) in stopped.iter().zip(&texts) {
            let end = text.iter().position(|&token| token == texts[0][4]);
            assert_eq!(stopped[..], text[..end.unwrap_or(text.len())]);
        }
    }

    #[test]
    fn a_text_ends_at_its_own_limit_and_never_outgrows_the_model() {
        let (model, device) = model();
        // Together as long as the 64 positions of the model, one in its prompt, one in what is added.
        let prompts = [(vec![7; 61], 3), (vec![4, 2], 62)].map(|(tokens, limit)| Prompt {
            tokens,
            max_new_tokens: NonZeroUsize::new(limit).unwrap(),
        });
        let options = GenerationOptions {
            sampling: Sampling::Greedy,
            stop: vec![],
        };
        let texts = generate(&model, &prompts, &options, &device, &mut |_, _| {});
        for (prompt, text) in prompts.iter().zip(&texts) {
            let limit = prompt.max_new_tokens.get();
            assert_eq!(*text, without_cache(&model, &prompt.tokens, limit, &device));
        }
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
