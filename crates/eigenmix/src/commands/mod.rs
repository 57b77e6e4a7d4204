//! One file per command.

mod completions;
mod devices;
mod evaluate;
mod export;
mod extract;
mod forward;
mod forward_part;
mod generate;
mod gradient;
mod init;
mod inspect;
mod merge;
mod pack;
mod predict;
mod project;
mod push;
mod report;
mod run;
mod schema;
mod select;
mod train;
mod tune;
mod unpack;

use crate::cli::{Cli, Command, Common};
use crate::console::Console;

/// Runs a command.
///
/// # Errors
/// The error of the command; [`crate::failure`] turns it into an exit status.
pub(crate) fn run(cli: Cli, console: &Console) -> anyhow::Result<()> {
    let Cli { common, command } = cli;
    set_threads(&common)?;
    let device = common.device;
    match command {
        Command::Init(arguments) => init::run(&arguments, console),
        Command::Extract(arguments) => extract::run(&arguments, console),
        Command::Gradient(arguments) => gradient::run(&arguments, device, console),
        Command::Select(arguments) => select::run(&arguments, device, console),
        Command::Project(arguments) => project::run(&arguments, console),
        Command::Merge(arguments) => merge::run(&arguments, device, console),
        Command::Pack(arguments) => pack::run(&arguments, console),
        Command::Unpack(arguments) => unpack::run(&arguments, console),
        Command::Train(arguments) => train::run(&arguments, device, console),
        Command::Tune(arguments) => tune::run(&arguments, device, console),
        Command::Evaluate(arguments) => evaluate::run(&arguments, device, console),
        Command::Predict(arguments) => predict::run(&arguments, device, console),
        Command::Forward(arguments) => forward::run(&arguments, device, console),
        Command::Generate(arguments) => generate::run(&arguments, device, console),
        Command::Export(arguments) => export::run(&arguments, console),
        Command::Inspect(arguments) => inspect::run(&arguments, console),
        Command::Push(arguments) => push::run(&arguments, console),
        Command::Run(arguments) => run::run(&arguments, device, console),
        Command::Report(arguments) => report::run(&arguments, console),
        Command::Schema(arguments) => schema::run(&arguments, console),
        Command::RunCell => run::run_cell(device),
        Command::Completions(arguments) => completions::run(&arguments, console),
        Command::Devices => devices::run(console),
    }
}

/// `--threads` holds for everything that computes in parallel.
fn set_threads(common: &Common) -> anyhow::Result<()> {
    if let Some(threads) = common.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.get());
        pool.build_global()?;
    }
    Ok(())
}
