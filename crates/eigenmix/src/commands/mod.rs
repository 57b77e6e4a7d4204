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

use eigenmix_experiment::BadInput;
use eigenmix_trainer::{Launcher, Processes};

use crate::cli::{Cli, Command};
use crate::console::Console;
use crate::threads;

/// Runs a command.
///
/// # Errors
/// The error of the command; [`crate::failure`] turns it into an exit status.
pub(crate) fn run(cli: Cli, processes: &Processes, console: &Console) -> anyhow::Result<()> {
    let Cli { common, command } = cli;
    threads::set(common.threads, processes)?;
    let device = match processes.is_alone() {
        true => common.device,
        false => common.device.of_process(processes.local_rank()),
    };
    match command {
        Command::Init(arguments) => init::run(&arguments, device, console),
        Command::Extract(arguments) => extract::run(&arguments, console),
        Command::Gradient(arguments) => gradient::run(&arguments, device, console),
        Command::Select(arguments) => select::run(&arguments, device, console),
        Command::Project(arguments) => project::run(&arguments, console),
        Command::Merge(arguments) => merge::run(&arguments, device, console),
        Command::Pack(arguments) => pack::run(&arguments, console),
        Command::Unpack(arguments) => unpack::run(&arguments, console),
        Command::Train(arguments) => train::run(&arguments, device, processes, console),
        Command::Tune(arguments) => tune::run(&arguments, device, console),
        Command::Evaluate(arguments) => evaluate::run(&arguments, device, console),
        Command::Predict(arguments) => predict::run(&arguments, device, console),
        Command::Forward(arguments) => forward::run(&arguments, device, console),
        Command::Generate(arguments) => generate::run(&arguments, device, console),
        Command::Export(arguments) => export::run(&arguments, console),
        Command::Inspect(arguments) => inspect::run(&arguments, console),
        Command::Push(arguments) => push::run(&arguments, console),
        Command::Run(arguments) => run::run(&arguments, device, processes, console),
        Command::Report(arguments) => report::run(&arguments, console),
        Command::Schema(arguments) => schema::run(&arguments, console),
        Command::RunCell => run::run_cell(device),
        Command::Completions(arguments) => completions::run(&arguments, console),
        Command::Devices => devices::run(console),
    }
}

/// The processes that share the work of a command: those that `mpirun` started, if it is one that can be shared.
///
/// - name: of the command
///
/// # Errors
/// If there are several, and the command or this build can't share its work.
pub(crate) fn processes(command: &Command, name: &str) -> anyhow::Result<Processes> {
    match command {
        Command::Train(_) => Ok(Processes::open()?),
        // Parts of an experiment have nothing to tell each other, whatever starts them.
        Command::Run(arguments) if arguments.shard.is_none() => Ok(Processes::open()?),
        Command::Run(_) | Command::RunCell => Ok(Processes::alone()),
        _ => match Launcher::of_this_process().filter(|launcher| launcher.has_others()) {
            Some(Launcher { name: launcher, .. }) => Err(BadInput(format!(
                "`eigenmix {name}` works in one process, and `{launcher}` has started several; start it without, \
                 or with one process (`train` and `run` share their work)"
            ))
            .into()),
            None => Ok(Processes::alone()),
        },
    }
}
