//! Continuations of each line or row by a language model.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use eigenmix_data::{
    DataConfig, IncrementalDecoder, LanguageContent, PredictedColumn, PredictedValues,
    PredictionTable,
};
use eigenmix_trainer::{
    BaseModel, GenerationEvent, GenerationOptions, GenerationSpeed, LoadedModel, Prompt, Sampling,
    generate,
};
use serde::Serialize;
use serde_json::Value;

use super::input::{Input, Lines};
use super::prompts::Prompts;
use super::table_output::{PREDICTION, TableOutput};
use crate::cli::PredictArguments;
use crate::console::Console;

pub(super) fn run(
    model: &LoadedModel,
    base: &BaseModel,
    config: &DataConfig,
    input: Input,
    arguments: &PredictArguments,
    console: &Console,
) -> anyhow::Result<()> {
    let sampling = sampling(arguments)?;
    let tokenizer = base.tokenizer()?;
    let prompts = Prompts::new(base, &tokenizer, config, arguments)?;
    let writer = Writer {
        model,
        prompts: &prompts,
        options: GenerationOptions {
            sampling,
            stop: prompts.stop_ids()?,
            batch_size: arguments.batch_size,
        },
        console,
    };
    match input {
        // Whoever writes the lines may wait for the answer to one before writing the next.
        Input::Lines(lines) if lines.are_awaited() && !console.is_json() => {
            writer.one_by_one(lines)
        }
        Input::Lines(lines) => writer.lines_together(lines),
        Input::Table(table) => writer.table(&table, arguments),
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

/// Continues prompts, and shows what comes.
struct Writer<'a> {
    model: &'a LoadedModel,
    prompts: &'a Prompts<'a>,
    options: GenerationOptions,
    console: &'a Console,
}

/// The continuation of each prompt, and how long all of them took.
struct Continued {
    texts: Vec<ContinuedText>,
    speed: GenerationSpeed,
}

struct ContinuedText {
    text: String,
    /// How many tokens it has.
    tokens: usize,
}

impl Writer<'_> {
    /// Every token is shown as soon as it is generated.
    fn one_by_one(&self, lines: Lines) -> anyhow::Result<()> {
        let mut total = GenerationSpeed::default();
        for line in lines {
            let (line, place) = line?;
            let prompt = self.prompts.of_line(&line, place)?;
            let mut decoder = IncrementalDecoder::new(self.prompts.tokenizer(), true);
            let mut show = |event: GenerationEvent| match event {
                GenerationEvent::Token { token, .. } => self.console.part(decoder.push(token)?),
                GenerationEvent::Complete { .. } => Ok(()),
            };
            let (_, speed) = self.generate(&[prompt], &mut show)?;
            total += speed;
            self.console.line(&decoder.finish()?)?;
        }
        self.close(total);
        Ok(())
    }

    /// All lines, several at a time: each continuation is shown when it and those before it are
    /// complete, or with `--json` all as one object in the end.
    fn lines_together(&self, lines: Lines) -> anyhow::Result<()> {
        let lines = lines.collect::<anyhow::Result<Vec<_>>>()?;
        // All of them first: a line that is refused is refused before the work.
        let prompts = lines
            .iter()
            .map(|(line, place)| self.prompts.of_line(line, place.clone()))
            .collect::<anyhow::Result<Vec<_>>>()?;
        if self.console.is_json() {
            let found = self.continued(&prompts, |_| Ok(()))?;
            let texts = lines.into_iter().map(|(line, _)| Value::from(line));
            return self.print(texts.collect(), found);
        }
        let found = self.continued(&prompts, |text| self.console.line(&text.text))?;
        self.close(found.speed);
        Ok(())
    }

    fn table(&self, table: &PredictionTable, arguments: &PredictArguments) -> anyhow::Result<()> {
        let output = TableOutput::new(table, &[PREDICTION], arguments, self.console)?;
        let rows = table.prompts(self.prompts.config())?;
        let prompts = rows
            .iter()
            .map(|row| self.prompts.of_row(row))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let found = self.continued(&prompts, |_| Ok(()))?;
        if self.console.is_json() && arguments.out.is_none() {
            let rows = rows.iter().map(|row| asked(&row.content));
            return self.print(rows.collect(), found);
        }
        let texts = found.texts.into_iter().map(|one| one.text).collect();
        let column = PredictedColumn {
            name: PREDICTION.to_owned(),
            values: PredictedValues::Texts(texts),
        };
        output.write(&[column], self.console)?;
        self.close(found.speed);
        Ok(())
    }

    /// - show: gets the texts in the order of their prompts, as soon as they are complete
    fn continued(
        &self,
        prompts: &[Prompt],
        show: impl Fn(&ContinuedText) -> anyhow::Result<()>,
    ) -> anyhow::Result<Continued> {
        let progress = self.console.progress("writing", prompts.len(), "prompts");
        let mut waiting = BTreeMap::new();
        let mut texts = Vec::with_capacity(prompts.len());
        let mut collect = |event: GenerationEvent| {
            if let GenerationEvent::Complete { text, tokens } = event {
                progress.advance();
                let found = ContinuedText {
                    text: self.prompts.tokenizer().decode(tokens, true)?,
                    tokens: tokens.len(),
                };
                waiting.insert(text, found);
                while let Some(next) = waiting.remove(&texts.len()) {
                    show(&next)?;
                    texts.push(next);
                }
            }
            Ok(())
        };
        let (_, speed) = self.generate(prompts, &mut collect)?;
        Ok(Continued { texts, speed })
    }

    /// # Errors
    /// The first of `on_event`, which ends the generation.
    fn generate(
        &self,
        prompts: &[Prompt],
        on_event: &mut dyn FnMut(GenerationEvent) -> anyhow::Result<()>,
    ) -> anyhow::Result<(Vec<Vec<u32>>, GenerationSpeed)> {
        let (network, device) = (&self.model.network, &self.model.device);
        let mut heard = Ok(());
        let mut hear = |event: GenerationEvent| {
            heard = on_event(event);
            match heard {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        };
        let found = generate(network, prompts, &self.options, device, &mut hear);
        heard.map(|()| found)
    }

    /// The closing line.
    fn close(&self, speed: GenerationSpeed) {
        if speed.prompt_tokens > 0 {
            self.console.note(speed);
        }
    }

    fn print(&self, texts: Vec<Value>, found: Continued) -> anyhow::Result<()> {
        let predictions = texts.into_iter().zip(found.texts);
        let predictions = predictions
            .map(|(text, found)| Continuation {
                text,
                continuation: found.text,
                tokens: found.tokens,
            })
            .collect();
        let continuations = Continuations {
            predictions,
            speed: found.speed.into(),
        };
        self.console.line(&serde_json::to_string(&continuations)?)
    }
}

/// What a row asks, for people and programs.
fn asked(content: &LanguageContent) -> Value {
    match content {
        LanguageContent::Text(text) => Value::from(text.as_str()),
        LanguageContent::PromptCompletion { prompt, .. } => Value::from(prompt.as_str()),
        LanguageContent::MultipleChoice(question) => Value::from(question.prompt.as_str()),
        LanguageContent::Conversation { messages, .. } => serde_json::json!(messages),
    }
}

#[derive(Serialize)]
struct Continuations {
    predictions: Vec<Continuation>,
    speed: Speed,
}

/// How long the prompts and what continues them took; rates are absent where there was nothing.
#[derive(Serialize)]
struct Speed {
    prompt_tokens: usize,
    prompt_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_tokens_per_second: Option<f64>,
    new_tokens: usize,
    new_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_per_second: Option<f64>,
}

impl From<GenerationSpeed> for Speed {
    fn from(speed: GenerationSpeed) -> Self {
        Self {
            prompt_tokens: speed.prompt_tokens,
            prompt_seconds: speed.prompt_time.as_secs_f64(),
            prompt_tokens_per_second: speed.prompt_tokens_per_second(),
            new_tokens: speed.new_tokens,
            new_seconds: speed.new_time.as_secs_f64(),
            tokens_per_second: speed.tokens_per_second(),
        }
    }
}

/// A prompt and its continuation.
#[derive(Serialize)]
struct Continuation {
    text: Value,
    continuation: String,
    tokens: usize,
}
