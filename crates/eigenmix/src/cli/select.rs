//! The command that says which adapters are worth recycling.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use eigenmix_experiment::Override;

/// Say which of many adapters are worth recycling for a task, before anything is trained.
///
/// Takes the gradient of the task once, at the frozen base model, and orders the adapters by how far each
/// points where the gradient does, beyond what those above it do already: copies and noise come last. The
/// best 20 (or N of --top) are also applied to the base model, and their loss is measured under a head that is fitted to
/// other examples. Says how the same figures look for random updates, and whether recycling will probably
/// pay.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix select datasets/quickstart/adapters --for ferry.toml
  eigenmix select pool/* org/name --for ferry.toml --top 6 --html selection.html
  eigenmix select pool --for ferry.toml --out selection.json")]
pub(crate) struct SelectArguments {
    /// Adapters, or directories of adapters or runs.
    #[arg(required = true, value_name = "ADAPTER")]
    pub(crate) adapters: Vec<String>,

    /// The training file of the task, a TOML file; its table `adapter` is not read.
    #[arg(long = "for", value_name = "TRAINING.toml")]
    pub(crate) task: PathBuf,

    /// Override a key of the file; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<Override>,

    /// The most adapters to choose.
    #[arg(long, value_name = "N", default_value = "8")]
    pub(crate) top: NonZeroUsize,

    /// The most examples to take the gradient over, drawn by the seed.
    #[arg(long, value_name = "N", default_value = "512")]
    pub(crate) examples: NonZeroUsize,

    /// The most examples to measure losses on.
    #[arg(long, value_name = "N", default_value = "192")]
    pub(crate) loss_examples: NonZeroUsize,

    /// Use adapters even if they name another base model.
    #[arg(long)]
    pub(crate) allow_base_mismatch: bool,

    /// Write the result to FILE as JSON.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,

    /// Write charts and the table to FILE, one page that opens offline.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,

    /// Overwrite these files if they exist.
    #[arg(long, short)]
    pub(crate) force: bool,
}
