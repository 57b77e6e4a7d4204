//! `eigenmix run`: every arm of an experiment with every seed, and one comparison.

use std::path::Path;

use adapter::{AdapterError, write_file};
use trainer::{DeviceChoice, Outcome, RunOptions, TrainConfig, Training};

use crate::cli::RunArguments;
use crate::commands::train::read_table;
use crate::console::Console;
use crate::experiment::Experiment;
use crate::interruption;
use crate::report::{ArmReport, Report};
use crate::training_display::TrainingDisplay;

pub(crate) fn run(
    arguments: &RunArguments,
    device: DeviceChoice,
    console: &Console,
) -> anyhow::Result<()> {
    let table = read_table(&arguments.experiment, &arguments.overrides)?;
    let experiment = Experiment::from_table(table, arguments.out.as_deref())
        .map_err(|error| error.context(format!("`{}`", arguments.experiment.display())))?;
    if arguments.dry_run {
        return console.result(&experiment);
    }
    let device = device.open()?;
    let stop = interruption::flag()?;
    let mut reports = Vec::new();
    let mut number = 0;
    for arm in &experiment.arms {
        let mut outcomes = Vec::new();
        for cell in &arm.cells {
            number += 1;
            let action = format!(
                "[{number}/{}] {} seed {}",
                experiment.cells(),
                arm.name,
                cell.seed
            );
            let directory = Path::new(&cell.config.output);
            let state = match arguments.force && directory.exists() {
                true => State::Replaced,
                false => State::of(&cell.config)?,
            };
            let outcome = match state {
                State::Finished(outcome) => {
                    console.note(format_args!("{action}: finished before"));
                    *outcome
                }
                State::Fresh | State::Started | State::Replaced => {
                    let options = RunOptions {
                        device: device.clone(),
                        resume: matches!(state, State::Started),
                        force: matches!(state, State::Replaced),
                        stop,
                    };
                    let mut display = TrainingDisplay::new(console, action);
                    Training::prepare(cell.config.clone())?.run(&options, &mut display)?
                }
            };
            if outcome.interrupted {
                console.note("stopped; the same command continues from here");
                return Err(interruption::Interrupted.into());
            }
            outcomes.push((cell.seed, outcome));
        }
        reports.extend(ArmReport::of(&arm.name, &outcomes));
    }
    let report = Report {
        output: experiment.output.display().to_string(),
        arms: reports,
    };
    write_file(
        &experiment.output.join("report.md"),
        report.markdown().as_bytes(),
    )?;
    let json = serde_json::to_vec_pretty(&report)?;
    write_file(&experiment.output.join("report.json"), &json)?;
    console.result(&report)
}

/// How far a cell got in earlier runs of the experiment.
enum State {
    Fresh,
    /// It has a checkpoint.
    Started,
    Finished(Box<Outcome>),
    /// Whatever is there is to go.
    Replaced,
}

impl State {
    /// # Errors
    /// If the cell was run with another configuration.
    fn of(config: &TrainConfig) -> anyhow::Result<Self> {
        let directory = Path::new(&config.output);
        if !directory.exists() {
            return Ok(Self::Fresh);
        }
        if !Training::is_same(config, directory)? {
            return Err(AdapterError::AlreadyExists(directory.to_owned()).into());
        }
        if let Some(outcome) = Outcome::read(directory) {
            return Ok(Self::Finished(Box::new(outcome)));
        }
        let has_checkpoint = directory.join("checkpoints").is_dir();
        Ok(if has_checkpoint {
            Self::Started
        } else {
            Self::Replaced
        })
    }
}
