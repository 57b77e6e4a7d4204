//! `eigenmix predict`: a label for each text or image, or its continuation by a language model.

mod continuations;
mod input;
mod label_sets;
mod labelled_rows;
mod labels;
mod prompts;
mod table_output;

use std::num::NonZeroUsize;

use eigenmix_data::DataConfig;
use eigenmix_experiment::{BadInput, ExperimentError, ModelRequest, OpenedModel};
use eigenmix_trainer::{Classifier, DeviceChoice, TaskKind};

use crate::cli::{PredictArguments, changed, no_labels};
use crate::console::Console;
use input::Input;
use label_sets::SetLabeller;
use labelled_rows::RowModel;
use labels::ClassLabeller;

pub(crate) fn run(
    arguments: &PredictArguments,
    device: DeviceChoice,
    console: &Console,
) -> anyhow::Result<()> {
    let request = ModelRequest {
        threshold: arguments.labels.threshold,
        ..arguments.model.request(&arguments.zero_shot, device)
    };
    let opened = request.open()?;
    let base = &opened.base;
    let mut config = data_config(arguments, &opened)?;
    config.takes_images = base.architecture.image_tokens().is_some();
    let input = Input::open(&arguments.input, &config)?;
    if let (Input::Lines(_), Some(out)) = (&input, &arguments.out) {
        return Err(BadInput(format!(
            "--out {}: only the rows of a table (.jsonl, .csv, .parquet) are written back; lines go \
             to standard output",
            out.display()
        ))
        .into());
    }
    if let (Input::Table(_), Some(image)) = (&input, arguments.image.first()) {
        return Err(BadInput(format!(
            "--image {}: the rows of a table have a column of images; --image is for lines",
            image.display()
        ))
        .into());
    }
    let model = opened.load(&no_labels, console)?;
    let kind = model.task_kind(base);
    kind.check_settings(&config)?;
    let remedy = match kind {
        TaskKind::CausalLm | TaskKind::VisionLanguage => {
            "--set changes it, --raw takes lines as they stand"
        }
        _ => "--text, --text-pair and --set change it",
    };
    if !arguments.raw
        && let Some(note) = opened.input.note(&config, remedy)
    {
        console.note(note);
    }
    let task = kind.definition();
    if !arguments.image.is_empty() && kind != TaskKind::VisionLanguage {
        let problem = format!(
            "--image is for vision-language models, and the task of this model is {}; leave it out",
            task.name()
        );
        return Err(BadInput(problem).into());
    }
    match task.line_reader(base, &config)? {
        None => {
            refuse(&flags_of_classifiers(arguments), "classifiers", task.name())?;
            continuations::run(&model, base, &config, input, arguments, console)
        }
        Some(lines) => {
            let flags = flags_of_language_models(arguments);
            refuse(&flags, "language models", task.name())?;
            let classifier = Classifier::from_model(model)?;
            let rows = RowModel {
                classifier: &classifier,
                reader: &*lines,
                config: &config,
            };
            if let Some(threshold) = classifier.multi_label {
                if arguments.top.is_some() {
                    let problem = "--top is for models of one label a row, and of this one a row may have \
                                   several; --threshold says from which probability on";
                    return Err(BadInput(problem.to_owned()).into());
                }
                let labeller = SetLabeller::new(&classifier, threshold, &config)?;
                return labelled_rows::run(&labeller, &rows, input, arguments, console);
            }
            let labeller = ClassLabeller {
                classifier: &classifier,
                top: arguments.top.map_or(1, NonZeroUsize::get),
            };
            labelled_rows::run(&labeller, &rows, input, arguments, console)
        }
    }
}

/// The `[data]` table of the input: from what the training knew, the flags and `--set`.
fn data_config(
    arguments: &PredictArguments,
    opened: &OpenedModel,
) -> Result<DataConfig, ExperimentError> {
    let mut config = DataConfig::new(arguments.input.display().to_string());
    if let Some(limit) = opened.base.architecture.max_length() {
        config.max_length = limit;
    }
    opened.input.apply(&mut config);
    arguments.columns.apply(&mut config);
    changed(config, &arguments.overrides)
}

/// A flag, and whether it is given.
type Flag = (&'static str, bool);

fn flags_of_classifiers(arguments: &PredictArguments) -> [Flag; 1] {
    [("--top", arguments.top.is_some())]
}

/// Those that need another of them, as --top-k needs --temperature, are refused with it.
fn flags_of_language_models(arguments: &PredictArguments) -> [Flag; 5] {
    [
        ("--chat", arguments.chat),
        ("--raw", arguments.raw),
        ("--system", arguments.system.is_some()),
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
