//! Continuations of each line by a language model.

use std::num::NonZeroUsize;

use eigenmix_data::{
    ChatTemplate, DataConfig, IncrementalDecoder, LanguageEncoder, Message, TextTokenizer,
};
use eigenmix_experiment::BadInput;
use eigenmix_trainer::{BaseModel, GenerationOptions, LoadedModel, Prompt, Sampling, generate};
use serde::Serialize;

use super::lines;
use crate::cli::PredictArguments;
use crate::console::Console;

/// The maximum number of new tokens if none is given.
const MAX_NEW_TOKENS: NonZeroUsize = NonZeroUsize::new(128).expect("not zero");

pub(super) fn run(
    model: &LoadedModel,
    base: &BaseModel,
    arguments: &PredictArguments,
    console: &Console,
) -> anyhow::Result<()> {
    let sampling = sampling(arguments)?;
    let tokenizer = base.tokenizer()?;
    let options = GenerationOptions {
        sampling,
        stop: tokenizer.stop_ids().to_vec(),
    };
    let prompts = Prompts::new(base, &tokenizer, arguments)?;
    match console.is_json() {
        true => together(model, &prompts, &options, arguments, console),
        false => one_by_one(model, &prompts, &options, arguments, console),
    }
}

fn sampling(arguments: &PredictArguments) -> anyhow::Result<Sampling> {
    let sampling = match arguments.temperature {
        None => Sampling::Greedy,
        Some(temperature) => Sampling::Random {
            temperature,
            top_k: arguments.top_k,
            top_p: arguments.top_p.unwrap_or(1.0),
            seed: arguments.seed.unwrap_or(0),
        },
    };
    sampling.validate()?;
    Ok(sampling)
}

/// Lines as prompts in tokens.
struct Prompts<'a> {
    encoder: LanguageEncoder<'a>,
    tokenizer: &'a TextTokenizer,
    /// The maximum number of tokens of prompt and continuation together.
    room: usize,
    max_new_tokens: NonZeroUsize,
    arguments: &'a PredictArguments,
}

impl<'a> Prompts<'a> {
    fn new(
        base: &BaseModel,
        tokenizer: &'a TextTokenizer,
        arguments: &'a PredictArguments,
    ) -> anyhow::Result<Self> {
        let template = match arguments.chat {
            true => Some(ChatTemplate::load(base.directory(), None)?),
            false => None,
        };
        let config = DataConfig::new("the input");
        Ok(Self {
            encoder: LanguageEncoder::new(tokenizer, template, &config)?,
            tokenizer,
            room: base.max_length()?,
            max_new_tokens: arguments.max_new_tokens.unwrap_or(MAX_NEW_TOKENS),
            arguments,
        })
    }

    /// - index: the line of the input, from 0
    fn encode(&self, index: usize, line: &str) -> anyhow::Result<Prompt> {
        let number = index + 1;
        let mut prompt = match self.arguments.chat {
            true => {
                let system = self.arguments.system.as_deref();
                let system = system.map(|system| Message::new("system", system));
                let messages: Vec<_> = system
                    .into_iter()
                    .chain([Message::new("user", line)])
                    .collect();
                self.encoder.chat_prompt(&messages)?
            }
            false => self.encoder.text_prompt(line)?,
        };
        if prompt.is_empty() {
            // A model without a token of its own for it begins a text after the end of another.
            let first = self.tokenizer.bos_id().or(self.tokenizer.eos_id());
            prompt.push(first.ok_or_else(|| {
                BadInput(format!(
                    "line {number} is empty, and the tokenizer has no beginning-of-text token; write a prompt or remove the line"
                ))
            })?);
        }
        let wanted = self.max_new_tokens.get();
        if prompt.len() + wanted > self.room {
            let advice = match self.room.saturating_sub(prompt.len()) {
                0 => "shorten the prompt".to_owned(),
                room => format!("shorten the prompt, or give --max-new-tokens {room}"),
            };
            return Err(BadInput(format!(
                "line {number}: the prompt's {} tokens and --max-new-tokens {wanted} exceed the model's {} positions; {advice}",
                prompt.len(),
                self.room,
            ))
            .into());
        }
        Ok(Prompt {
            tokens: prompt,
            max_new_tokens: self.max_new_tokens,
        })
    }
}

/// Every token is shown as soon as it is generated.
fn one_by_one(
    model: &LoadedModel,
    prompts: &Prompts,
    options: &GenerationOptions,
    arguments: &PredictArguments,
    console: &Console,
) -> anyhow::Result<()> {
    for (index, line) in lines(&arguments.input)?.enumerate() {
        let prompt = prompts.encode(index, &line?)?;
        let mut decoder = IncrementalDecoder::new(prompts.tokenizer, true);
        let mut problem = None;
        let mut show = |_, token| {
            let shown = decoder
                .push(token)
                .map_err(anyhow::Error::from)
                .and_then(|text| console.part(text));
            problem = problem.take().or(shown.err());
        };
        generate(&model.network, &[prompt], options, &model.device, &mut show);
        if let Some(problem) = problem {
            return Err(problem);
        }
        console.line(&decoder.finish()?)?;
    }
    Ok(())
}

/// Batches of prompts, and one object in the end.
fn together(
    model: &LoadedModel,
    prompts: &Prompts,
    options: &GenerationOptions,
    arguments: &PredictArguments,
    console: &Console,
) -> anyhow::Result<()> {
    let lines = lines(&arguments.input)?.collect::<anyhow::Result<Vec<String>>>()?;
    let mut predictions = Vec::with_capacity(lines.len());
    // All of them first: a line that is refused is refused before the work.
    let encoded = lines
        .iter()
        .enumerate()
        .map(|(index, text)| prompts.encode(index, text))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let progress = console.progress("writing", lines.len(), "prompts");
    let batch_size = arguments.batch_size.get();
    for (texts, encoded) in lines.chunks(batch_size).zip(encoded.chunks(batch_size)) {
        let found = generate(
            &model.network,
            encoded,
            options,
            &model.device,
            &mut |_, _| {},
        );
        for (prompt, tokens) in texts.iter().zip(found) {
            predictions.push(Continuation {
                text: prompt.clone(),
                continuation: prompts.tokenizer.decode(&tokens, true)?,
                tokens: tokens.len(),
            });
            progress.advance();
        }
    }
    drop(progress);
    console.line(&serde_json::to_string(&Continuations { predictions })?)
}

#[derive(Serialize)]
struct Continuations {
    predictions: Vec<Continuation>,
}

/// A prompt and its continuation.
#[derive(Serialize)]
struct Continuation {
    text: String,
    continuation: String,
    tokens: usize,
}
