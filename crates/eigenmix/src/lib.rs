//! Eigenmix recycles LoRA adapters: the command line, as a library.
//!
//! [`main`] is what the binary runs. [`call()`] runs one command inside another program: its options
//! are given by name and checked by the definitions of the command line, its result is the JSON object
//! that `--json` prints, and notes, warnings and progress go to the [`Host`].

mod allocator;
mod call;
mod cli;
mod commands;
mod console;
mod failure;
mod host;
mod interruption;
mod layer_table;
mod page_file;
mod program;
mod progress;
mod threads;
mod training_display;
mod transfer_display;
mod words;

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches};
use eigenmix_experiment::message;
use eigenmix_trainer::Launcher;

pub use call::call;
pub use failure::{CallError, failure};
pub use host::Host;
pub use program::{Program, set_program};

use crate::cli::Cli;
use crate::console::Console;
use crate::transfer_display::TransferDisplay;

/// Runs the command line and returns its exit status: 0 on success, 2 for wrong usage or bad input, 1
/// otherwise.
///
/// - words: the name of the program and its arguments
pub fn main(words: impl IntoIterator<Item = OsString>) -> u8 {
    allocator::keep_freed_memory();
    let given = Cli::command().try_get_matches_from(words);
    let parsed = given.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        // Help and version count as such errors, too.
        Err(error) => {
            // If the stream is closed, there is nobody to tell.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(failure::BAD_INPUT);
        }
    };
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
        Ok(()) => 0,
        Err(error) => {
            processes.announce(&message(error.as_ref()));
            failure::report(&error, processes.is_first())
        }
    }
}
