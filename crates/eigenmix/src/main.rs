//! Eigenmix recycles LoRA adapters: the command line.

mod allocator;
mod cli;
mod commands;
mod console;
mod failure;
mod interruption;
mod layer_table;
mod page_file;
mod progress;
mod threads;
mod training_display;
mod transfer_display;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use eigenmix_experiment::message;
use eigenmix_trainer::Launcher;

use crate::cli::Cli;
use crate::console::Console;
use crate::transfer_display::TransferDisplay;

fn main() -> ExitCode {
    allocator::keep_freed_memory();
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let name = matches.subcommand_name().unwrap_or_default();
    let processes = match commands::processes(&cli.command, name) {
        Ok(processes) => processes,
        // Others that the same launcher started say the same.
        Err(error) => {
            let rank = Launcher::of_this_process().and_then(|launcher| launcher.rank);
            return failure::report(&error, rank.is_none_or(|rank| rank == 0));
        }
    };
    let console = Console::new(&cli.common, &processes);
    if !cli.common.quiet {
        eigenmix_hub::observe_transfers(Box::new(TransferDisplay::new()));
    }
    let ended = commands::run(cli, &processes, &console).and_then(|()| Ok(processes.meet()?));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            processes.announce(&message(error.as_ref()));
            failure::report(&error, processes.is_first())
        }
    }
}
