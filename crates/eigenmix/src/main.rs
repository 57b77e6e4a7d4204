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
mod training_display;
mod transfer_display;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::console::Console;
use crate::transfer_display::TransferDisplay;

fn main() -> ExitCode {
    allocator::keep_freed_memory();
    let cli = Cli::parse();
    let console = Console::new(&cli.common);
    if !cli.common.quiet {
        eigenmix_hub::observe_transfers(Box::new(TransferDisplay::new()));
    }
    match commands::run(cli, &console) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}
