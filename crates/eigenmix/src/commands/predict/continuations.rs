//! Continuations of each line or row by a language model.

use eigenmix_data::{
    DataConfig, IncrementalDecoder, LanguageContent, PredictedColumn, PredictedValues,
    PredictionTable,
};
use eigenmix_trainer::{BaseModel, GenerationOptions, LoadedModel, Prompt, Sampling, generate};
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
        },
        batch_size: arguments.batch_size.get(),
        console,
    };
    match input {
        Input::Lines(lines) if console.is_json() => writer.lines_together(lines),
        Input::Lines(lines) => writer.one_by_one(lines),
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
    batch_size: usize,
    console: &'a Console,
}

impl Writer<'_> {
    /// Every token is shown as soon as it is generated.
    fn one_by_one(&self, lines: Lines) -> anyhow::Result<()> {
        for line in lines {
            let (line, place) = line?;
            let prompt = self.prompts.of_line(&line, place)?;
            let mut decoder = IncrementalDecoder::new(self.prompts.tokenizer(), true);
            let mut problem = None;
            let mut show = |_, token| {
                let shown = decoder
                    .push(token)
                    .map_err(anyhow::Error::from)
                    .and_then(|text| self.console.part(text));
                problem = problem.take().or(shown.err());
            };
            let (network, device) = (&self.model.network, &self.model.device);
            generate(network, &[prompt], &self.options, device, &mut show);
            if let Some(problem) = problem {
                return Err(problem);
            }
            self.console.line(&decoder.finish()?)?;
        }
        Ok(())
    }

    /// One object in the end.
    fn lines_together(&self, lines: Lines) -> anyhow::Result<()> {
        let lines = lines.collect::<anyhow::Result<Vec<_>>>()?;
        // All of them first: a line that is refused is refused before the work.
        let prompts = lines
            .iter()
            .map(|(line, place)| self.prompts.of_line(line, place.clone()))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let texts = lines.into_iter().map(|(line, _)| Value::from(line));
        self.print(texts.collect(), self.continued(&prompts)?)
    }

    fn table(&self, table: &PredictionTable, arguments: &PredictArguments) -> anyhow::Result<()> {
        let output = TableOutput::new(table, &[PREDICTION], arguments, self.console)?;
        let rows = table.prompts(self.prompts.config())?;
        let prompts = rows
            .iter()
            .map(|row| self.prompts.of_row(row))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let found = self.continued(&prompts)?;
        if self.console.is_json() && arguments.out.is_none() {
            let rows = rows.iter().map(|row| asked(&row.content));
            return self.print(rows.collect(), found);
        }
        let texts = found.into_iter().map(|(text, _)| text).collect();
        let column = PredictedColumn {
            name: PREDICTION.to_owned(),
            values: PredictedValues::Texts(texts),
        };
        output.write(&[column], self.console)
    }

    /// The continuation of each prompt, and how many tokens it has.
    fn continued(&self, prompts: &[Prompt]) -> anyhow::Result<Vec<(String, usize)>> {
        let mut found = Vec::with_capacity(prompts.len());
        let progress = self.console.progress("writing", prompts.len(), "prompts");
        for batch in prompts.chunks(self.batch_size) {
            let (network, device) = (&self.model.network, &self.model.device);
            for tokens in generate(network, batch, &self.options, device, &mut |_, _| {}) {
                let text = self.prompts.tokenizer().decode(&tokens, true)?;
                found.push((text, tokens.len()));
                progress.advance();
            }
        }
        Ok(found)
    }

    fn print(&self, texts: Vec<Value>, found: Vec<(String, usize)>) -> anyhow::Result<()> {
        let predictions = texts.into_iter().zip(found);
        let predictions = predictions
            .map(|(text, (continuation, tokens))| Continuation {
                text,
                continuation,
                tokens,
            })
            .collect();
        self.console
            .line(&serde_json::to_string(&Continuations { predictions })?)
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
}

/// A prompt and its continuation.
#[derive(Serialize)]
struct Continuation {
    text: Value,
    continuation: String,
    tokens: usize,
}
