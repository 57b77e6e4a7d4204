//! Reads an experiment file and lists its stages and cells:
//! `cargo run --release -p eigenmix-experiment --example list_cells -- configs/quickstart.toml`.

use std::path::PathBuf;
use std::process::ExitCode;

use eigenmix_experiment::{ConfigFile, Experiment, ExperimentError, InputCheck, Work, message};

fn main() -> ExitCode {
    let path = std::env::args_os().nth(1).map(PathBuf::from);
    let path = path.unwrap_or_else(|| "configs/quickstart.toml".into());
    match list(&path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", message(&error));
            ExitCode::FAILURE
        }
    }
}

fn list(path: &std::path::Path) -> Result<(), ExperimentError> {
    let file = ConfigFile::read(path, &[])?;
    // Only the plan is needed: models, data and adapters need not exist.
    let experiment = Experiment::from_file(&file, None, InputCheck::Skipped)?;
    for stage in &experiment.stages {
        println!("{}:{}", stage.kind().name(), stage.name());
    }
    for cell in experiment.cells() {
        let work = match &cell.work {
            Work::Train(config) => config.adapter.method.name(),
            Work::Evaluate(config) => &config.evaluate,
        };
        println!("{}: {work}", cell.name);
    }
    Ok(())
}
