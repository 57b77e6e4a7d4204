//! `eigenmix predict`: a label for each text or image, or its continuation by a language model.

mod continuations;
mod labels;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, stdin};
use std::path::Path;

use eigenmix_experiment::BadInput;
use eigenmix_trainer::{Classifier, DeviceChoice};

use crate::cli::{PredictArguments, no_labels};
use crate::console::Console;

pub(crate) fn run(
    arguments: &PredictArguments,
    device: DeviceChoice,
    console: &Console,
) -> anyhow::Result<()> {
    let request = arguments.model.request(&arguments.zero_shot, device);
    let opened = request.open()?;
    let base = &opened.base;
    let model = opened.load(&no_labels, console)?;
    let task = model.task_kind(base).definition();
    match task.line_reader(base, &arguments.input)? {
        None => {
            refuse(&flags_of_classifiers(arguments), "classifiers", task.name())?;
            continuations::run(&model, base, arguments, console)
        }
        Some(lines) => {
            let flags = flags_of_language_models(arguments);
            refuse(&flags, "language models", task.name())?;
            let classifier = Classifier::from_model(model)?;
            labels::run(&classifier, &*lines, arguments, console)
        }
    }
}

/// A flag, and whether it is given.
type Flag = (&'static str, bool);

fn flags_of_classifiers(arguments: &PredictArguments) -> [Flag; 1] {
    [("--top", arguments.top.is_some())]
}

/// Those that need another of them, as --top-k needs --temperature, are refused with it.
fn flags_of_language_models(arguments: &PredictArguments) -> [Flag; 3] {
    [
        ("--chat", arguments.chat),
        ("--temperature", arguments.temperature.is_some()),
        ("--max-new-tokens", arguments.max_new_tokens.is_some()),
    ]
}

/// Refuses flags that would have no effect.
fn refuse(flags: &[Flag], owners: &str, task: &str) -> Result<(), BadInput> {
    match flags.iter().find(|(_, is_given)| *is_given) {
        Some((flag, _)) => Err(BadInput(format!(
            "{flag} is for {owners}, and the task of this model is {task}; leave it out"
        ))),
        None => Ok(()),
    }
}

/// The lines of a file, or of standard input for `-`.
fn lines(input: &Path) -> anyhow::Result<impl Iterator<Item = anyhow::Result<String>>> {
    let reader: Box<dyn BufRead> = match input == Path::new("-") {
        true => Box::new(stdin().lock()),
        false => {
            let problem = |error| BadInput(format!("cannot read `{}`: {error}", input.display()));
            Box::new(BufReader::new(File::open(input).map_err(problem)?))
        }
    };
    let name = match input == Path::new("-") {
        true => "standard input".to_owned(),
        false => format!("`{}`", input.display()),
    };
    Ok(reader.lines().enumerate().map(move |(index, line)| {
        let number = index + 1;
        line.map_err(|error| match error.kind() {
            ErrorKind::InvalidData => {
                BadInput(format!("line {number} of {name} is not UTF-8; convert it")).into()
            }
            _ => anyhow::Error::new(error).context(format!("cannot read line {number} of {name}")),
        })
    }))
}
