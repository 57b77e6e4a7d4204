//! What a language model writes after every line.

use std::io::{Write, stdout};

use serde::Serialize;
use trainer::data::{
    ChatTemplate, DataConfig, IncrementalDecoder, LanguageEncoder, Message, TextTokenizer,
};
use trainer::{BaseModel, GenerationOptions, LoadedModel, Sampling, generate};

use super::lines;
use crate::cli::PredictArguments;
use crate::console::Console;
use crate::failure::BadInput;

pub(super) fn run(
    model: &LoadedModel,
    base: &BaseModel,
    arguments: &PredictArguments,
    console: &Console,
) -> anyhow::Result<()> {
    let options = GenerationOptions {
        max_new_tokens: arguments.max_new_tokens,
        sampling: sampling(arguments)?,
        stop: Vec::new(),
    };
    let tokenizer = base.tokenizer()?;
    let options = GenerationOptions {
        stop: tokenizer.stop_ids().to_vec(),
        ..options
    };
    let prompts = Prompts::new(base, &tokenizer, arguments)?;
    match console.is_json() {
        true => together(model, &prompts, &options, arguments, console),
        false => one_by_one(model, &prompts, &options, arguments),
    }
}

fn sampling(arguments: &PredictArguments) -> anyhow::Result<Sampling> {
    let sampling = match arguments.temperature {
        None => Sampling::Greedy,
        Some(temperature) => Sampling::Random {
            temperature,
            top_k: arguments.top_k,
            top_p: arguments.top_p.unwrap_or(1.0),
            seed: arguments.seed,
        },
    };
    sampling.validate()?;
    Ok(sampling)
}

/// Lines as prompts in tokens.
struct Prompts<'a> {
    encoder: LanguageEncoder<'a>,
    tokenizer: &'a TextTokenizer,
    /// How many tokens prompt and continuation may have together.
    room: usize,
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
            arguments,
        })
    }

    fn encode(&self, line: &str) -> anyhow::Result<Vec<u32>> {
        let prompt = match self.arguments.chat {
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
        let wanted = self.arguments.max_new_tokens.get();
        if prompt.is_empty() {
            let problem = "an empty line is no prompt: the model has no token that begins a text";
            return Err(BadInput(problem.to_owned()).into());
        }
        if prompt.len() + wanted > self.room {
            return Err(BadInput(format!(
                "a prompt of {} tokens and --max-new-tokens {wanted} are more than the {} that the model takes: `{}`",
                prompt.len(),
                self.room,
                line.chars().take(60).collect::<String>()
            ))
            .into());
        }
        Ok(prompt)
    }
}

/// Every token is shown as it comes.
fn one_by_one(
    model: &LoadedModel,
    prompts: &Prompts,
    options: &GenerationOptions,
    arguments: &PredictArguments,
) -> anyhow::Result<()> {
    for line in lines(&arguments.input)? {
        let prompt = prompts.encode(&line?)?;
        let mut decoder = IncrementalDecoder::new(prompts.tokenizer, true);
        let mut out = stdout().lock();
        let mut problem = None;
        let mut show = |_, token| {
            let shown = decoder
                .push(token)
                .map_err(anyhow::Error::from)
                .and_then(|text| {
                    out.write_all(text.as_bytes())?;
                    Ok(out.flush()?)
                });
            problem = problem.take().or(shown.err());
        };
        generate(&model.network, &[prompt], options, &model.device, &mut show);
        if let Some(problem) = problem {
            return Err(problem);
        }
        let rest = decoder.finish()?;
        writeln!(out, "{rest}")?;
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
    let progress = console.progress("writing", lines.len(), "prompts");
    for texts in lines.chunks(arguments.batch_size.get()) {
        let encoded = texts
            .iter()
            .map(|text| prompts.encode(text))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let found = generate(
            &model.network,
            &encoded,
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

/// A prompt and what comes after it.
#[derive(Serialize)]
struct Continuation {
    text: String,
    continuation: String,
    tokens: usize,
}
