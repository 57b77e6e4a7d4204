//! Eigenmix recycles LoRA adapters: the command line.

mod adapter_argument;
mod allocator;
mod byte_count;
mod cli;
mod commands;
mod config_file;
mod console;
mod destination;
mod dry_run;
mod experiment;
mod experiment_report;
mod failure;
mod image_labels;
mod interruption;
mod layer_table;
mod load_report;
mod merge_into_base;
mod merge_search;
mod model_request;
mod output_style;
mod overrides;
mod page_file;
mod pictures;
mod progress;
mod publication;
mod report;
mod run_directory;
mod starter;
mod table;
mod training_display;
mod transfer_display;
mod truncation;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::console::Console;
use crate::transfer_display::TransferDisplay;

fn main() -> ExitCode {
    allocator::keep_memory();
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
