//! `eigenmix predict`: a label for every text or image, or what a language model writes next.

mod continuations;
mod labels;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, stdin};
use std::path::Path;

use eigenmix_experiment::BadInput;
use eigenmix_experiment::no_labels;
use eigenmix_trainer::{Classifier, DeviceChoice, TaskKind};

use crate::cli::PredictArguments;
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
    match model.task_kind(base) {
        TaskKind::CausalLm => continuations::run(&model, base, arguments, console),
        TaskKind::SequenceClassification => {
            let classifier = Classifier::from_model(model)?;
            labels::of_texts(&classifier, base, arguments, console)
        }
        TaskKind::ImageClassification => {
            let classifier = Classifier::from_model(model)?;
            labels::of_images(&classifier, base, arguments, console)
        }
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
