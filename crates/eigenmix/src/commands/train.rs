//! `eigenmix train`: a training from its file to its adapter.

use std::fmt;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use toml::Table;
use trainer::{DeviceChoice, Outcome, RunOptions, TrainConfig, Training};

use crate::byte_count::ByteCount;
use crate::cli::TrainArguments;
use crate::console::Console;
use crate::dry_run::DryRun;
use crate::failure::BadInput;
use crate::interruption;
use crate::overrides::Override;
use crate::training_display::TrainingDisplay;

pub(crate) fn run(
    arguments: &TrainArguments,
    device: DeviceChoice,
    console: &Console,
) -> anyhow::Result<()> {
    let table = read_table(&arguments.config, &arguments.overrides)?;
    let config = resolve(table).with_context(|| format!("`{}`", arguments.config.display()))?;
    if arguments.dry_run {
        return console.result(&DryRun::new(config)?);
    }
    let training = Training::prepare(config)?;
    let stop = interruption::flag()?;
    let options = RunOptions {
        device: device.open()?,
        resume: arguments.resume,
        force: arguments.force,
        stop,
    };
    let outcome = training.run(&options, &mut TrainingDisplay::new(console, "training"))?;
    let config = arguments.config.display();
    if outcome.interrupted {
        let out = outcome.output.display();
        console.note(format_args!(
            "stopped after step {}; `eigenmix train {config} --resume` continues `{out}`",
            outcome.steps
        ));
    }
    let interrupted = outcome.interrupted;
    console.result(&TrainResult { outcome })?;
    match interrupted {
        true => Err(interruption::Interrupted.into()),
        false => Ok(()),
    }
}

/// Reads a TOML file and applies what was set on the command line.
pub(crate) fn read_table(path: &Path, overrides: &[Override]) -> anyhow::Result<Table> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| BadInput(format!("cannot read `{}`: {error}", path.display())))?;
    let mut table: Table = text
        .parse()
        .map_err(|error| BadInput(format!("`{}`: {error}", path.display())))?;
    for change in overrides {
        change.apply(&mut table)?;
    }
    Ok(table)
}

/// The training configuration that a table describes.
pub(crate) fn resolve(table: Table) -> anyhow::Result<TrainConfig> {
    // Through text, so that a wrong key is shown with its line.
    let text = toml::to_string(&table)?;
    Ok(TrainConfig::from_toml(&text)?)
}

#[derive(Serialize)]
#[serde(transparent)]
struct TrainResult {
    outcome: Outcome,
}

impl fmt::Display for TrainResult {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = &self.outcome;
        let state = match outcome.interrupted {
            true => "interrupted",
            false => "trained",
        };
        write!(
            formatter,
            "`{}`: {state}, {} steps in {:.1} s\n  parameters  {} of the adapter, {} of the head",
            outcome.output.display(),
            outcome.steps,
            outcome.seconds,
            outcome.adapter_parameters,
            outcome.head_parameters
        )?;
        if !outcome.interrupted {
            write!(formatter, "\n  size        {}", ByteCount(outcome.bytes))?;
        }
        for (split, figures) in [("validation", &outcome.validation), ("test", &outcome.test)] {
            for (name, figure) in figures.iter().flatten() {
                write!(formatter, "\n  {split:<10}  {name} {figure:.4}")?;
            }
        }
        Ok(())
    }
}
