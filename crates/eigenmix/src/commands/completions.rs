//! `eigenmix completions`: shell completions of commands and flags.

use std::fmt;

use clap::CommandFactory;
use serde::Serialize;

use crate::cli::{Cli, CompletionsArguments};
use crate::console::Console;

pub(crate) fn run(arguments: &CompletionsArguments, console: &Console) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Cli::command(),
        "eigenmix",
        &mut script,
    );
    console.result(&Completions {
        shell: arguments.shell.to_string(),
        script: String::from_utf8(script)?,
    })
}

#[derive(Serialize)]
struct Completions {
    shell: String,
    script: String,
}

impl fmt::Display for Completions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.script.trim_end())
    }
}
