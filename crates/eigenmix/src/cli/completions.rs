//! The command for shells.

use clap::Args;
use clap_complete::Shell;

/// Print the completions of all commands and flags for a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix completions bash > ~/.local/share/bash-completion/completions/eigenmix
  eigenmix completions zsh > ~/.zfunc/_eigenmix
  eigenmix completions fish > ~/.config/fish/completions/eigenmix.fish")]
pub(crate) struct CompletionsArguments {
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}
