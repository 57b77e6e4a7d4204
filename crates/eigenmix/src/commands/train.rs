//! `eigenmix train`: a training from its file to its adapter.

use std::fmt;

use eigenmix_experiment::ByteCount;
use eigenmix_experiment::{ConfigFile, Override};
use eigenmix_experiment::{DryRun, ExperimentError};
use eigenmix_trainer::{DeviceChoice, Outcome, Processes, RunOptions, Training};
use serde::Serialize;

use crate::cli::TrainArguments;
use crate::console::Console;
use crate::training_display::TrainingDisplay;

pub(crate) fn run(
    arguments: &TrainArguments,
    device: DeviceChoice,
    processes: &Processes,
    console: &Console,
) -> anyhow::Result<()> {
    let tokens = arguments.tokens_per_batch.map(|tokens| {
        let tokens = Override::of("training.tokens_per_batch", tokens.get());
        tokens.instead_of("training.batch_size")
    });
    // An override names a key of its own, which is then one too many.
    let overrides: Vec<_> = tokens
        .into_iter()
        .chain(arguments.overrides.clone())
        .collect();
    let config = ConfigFile::read(&arguments.config, &overrides)?.train_config()?;
    if arguments.dry_run {
        return console.result(&DryRun::new(config)?);
    }
    let mut training = Training::prepare(config)?;
    let stop = console.stop(processes)?;
    let options = RunOptions {
        device: device.open()?,
        resume: arguments.resume,
        force: arguments.force,
        stop,
        processes,
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
        true => Err(ExperimentError::Interrupted.into()),
        false => Ok(()),
    }
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
        if let Some(shared) = outcome.processes.as_ref().filter(|shared| shared.steps > 0) {
            let share = |seconds: f64| 100.0 * seconds / shared.seconds;
            write!(
                formatter,
                "\n  processes   {}, each gave the others {} a step; of the steps' time {:.1} % waiting, {:.1} % \
                 moving",
                shared.count,
                ByteCount(shared.bytes / shared.steps as u64),
                share(shared.waiting_seconds),
                share(shared.moving_seconds)
            )?;
        }
        for (split, metrics) in [("validation", &outcome.validation), ("test", &outcome.test)] {
            for (name, value) in metrics.iter().flatten() {
                write!(formatter, "\n  {split:<10}  {name} {value:.4}")?;
            }
        }
        Ok(())
    }
}
