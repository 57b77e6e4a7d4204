//! Continuing texts with a language model.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::time::Instant;

use burn::tensor::Device;
use eigenmix_models::{Batch, Cache, ImageBatch, Network, TokenBatch};

use crate::generation_speed::GenerationSpeed;
use crate::host_values::host_values;
use crate::sampling::Sampling;

/// A text to be continued.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// At least one.
    pub tokens: Vec<u32>,
    /// Those whose places are among the tokens.
    pub images: Option<ImageBatch>,
    /// The most tokens that are added; with those of the prompt no more than the model takes.
    pub max_new_tokens: NonZeroUsize,
}

/// How the next token is chosen, when a text ends, and how many are written at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationOptions {
    pub sampling: Sampling,
    /// Tokens that end a text; the one that does is not part of it.
    pub stop: Vec<u32>,
    /// The most texts that are continued together: where one ends, the next prompt takes its place.
    pub batch_size: NonZeroUsize,
}

/// What happens while texts are generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GenerationEvent<'a> {
    /// A text has one more token.
    Token { text: usize, token: u32 },
    /// A text is complete: all of its new tokens.
    Complete { text: usize, tokens: &'a [u32] },
}

/// Continues every prompt, and tells how long that took. Each token passes through the model once, and
/// its keys and values are cached; a prompt passes through at once.
///
/// - on_event: is told what happens as it does; texts are named by the index of their prompt. After a break
///   nothing more is generated or told
/// - output: the new tokens of each text
///
/// # Panics
/// If a prompt is empty or the model is not a decoder.
pub fn generate(
    network: &Network,
    prompts: &[Prompt],
    options: &GenerationOptions,
    device: &Device,
    on_event: &mut dyn FnMut(GenerationEvent) -> ControlFlow<()>,
) -> (Vec<Vec<u32>>, GenerationSpeed) {
    let mut generation = Generation {
        network,
        prompts,
        options,
        device,
        on_event,
        texts: vec![Vec::new(); prompts.len()],
        unfinished: Vec::new(),
        cache: network.cache(0),
        speed: GenerationSpeed::default(),
    };
    // Whoever ended it early knows that.
    let _: ControlFlow<()> = generation.run();
    (generation.texts, generation.speed)
}

/// Texts that are being generated.
struct Generation<'a> {
    network: &'a Network,
    prompts: &'a [Prompt],
    options: &'a GenerationOptions,
    device: &'a Device,
    on_event: &'a mut dyn FnMut(GenerationEvent) -> ControlFlow<()>,
    /// The new tokens of every text.
    texts: Vec<Vec<u32>>,
    /// Those that are being continued; each has a new token that the model has not seen.
    unfinished: Vec<usize>,
    /// Of the unfinished texts, in the same order.
    cache: Cache,
    speed: GenerationSpeed,
}

impl Generation<'_> {
    /// Continues every prompt, unless it is ended early.
    fn run(&mut self) -> ControlFlow<()> {
        let mut begun = 0;
        while begun < self.prompts.len() || !self.unfinished.is_empty() {
            let room = self.options.batch_size.get() - self.unfinished.len();
            let end = self.prompts.len().min(begun + room);
            if begun < end {
                self.begin((begun..end).collect())?;
                begun = end;
            } else {
                self.advance()?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Reads prompts and chooses the first token of each.
    fn begin(&mut self, texts: Vec<usize>) -> ControlFlow<()> {
        let start = Instant::now();
        let mut cache = self.network.cache(texts.len());
        let prompts = texts.iter().map(|&text| self.prompts[text].tokens.clone());
        let tokens: Vec<Vec<u32>> = prompts.collect();
        let images = texts.iter().flat_map(|&text| &self.prompts[text].images);
        let images = ImageBatch::joined(images);
        let logits = next_logits(self.network, &tokens, images, &mut cache, self.device);
        self.speed.prompt_tokens += tokens.iter().map(Vec::len).sum::<usize>();
        self.speed.prompt_time += start.elapsed();
        let kept = self.choose(&texts, &logits)?;
        if kept.len() < texts.len() {
            cache.keep(&kept);
        }
        self.unfinished
            .extend(kept.iter().map(|&place| texts[place]));
        self.cache.append(cache);
        ControlFlow::Continue(())
    }

    /// One more token for every unfinished text.
    fn advance(&mut self) -> ControlFlow<()> {
        let start = Instant::now();
        let texts = std::mem::take(&mut self.unfinished);
        let last = texts.iter().map(|&text| self.texts[text].last());
        let last = last.map(|token| vec![*token.expect("a token from the prompt")]);
        let last = last.collect::<Vec<_>>();
        let logits = next_logits(self.network, &last, None, &mut self.cache, self.device);
        let kept = self.choose(&texts, &logits)?;
        if kept.len() < texts.len() {
            self.cache.keep(&kept);
        }
        self.unfinished = kept.iter().map(|&place| texts[place]).collect();
        self.speed.new_tokens += texts.len();
        self.speed.new_time += start.elapsed();
        ControlFlow::Continue(())
    }

    /// Chooses the next token of each text, and returns the places of those that go on.
    ///
    /// - logits: `[texts, vocabulary]`
    fn choose(&mut self, texts: &[usize], logits: &[f32]) -> ControlFlow<(), Vec<usize>> {
        let mut kept = Vec::with_capacity(texts.len());
        let vocabulary = logits.len() / texts.len();
        let rows = texts.iter().zip(logits.chunks_exact(vocabulary));
        for (place, (&text, logits)) in rows.enumerate() {
            let position = self.texts[text].len() as u64;
            let token = self
                .options
                .sampling
                .choose(logits, [text as u64, position]);
            let stops = self.options.stop.contains(&token);
            if !stops {
                self.texts[text].push(token);
                (self.on_event)(GenerationEvent::Token { text, token })?;
            }
            let tokens = &self.texts[text];
            if stops || tokens.len() == self.prompts[text].max_new_tokens.get() {
                (self.on_event)(GenerationEvent::Complete { text, tokens })?;
            } else {
                kept.push(place);
            }
        }
        ControlFlow::Continue(kept)
    }
}

/// - tokens: those of each sequence that the cache does not have
/// - output: `[sequences, vocabulary]`
fn next_logits(
    network: &Network,
    tokens: &[Vec<u32>],
    images: Option<ImageBatch>,
    cache: &mut Cache,
    device: &Device,
) -> Vec<f32> {
    let batch = Batch {
        texts: Some(TokenBatch::continuing(tokens, cache.lengths())),
        images,
    };
    // On a thread of the pool, which hands work to the others sooner than a thread outside of it.
    rayon::scope(|_| host_values(network.next_token(&batch, cache, device)))
}

#[cfg(test)]
#[path = "generation_tests.rs"]
mod tests;
