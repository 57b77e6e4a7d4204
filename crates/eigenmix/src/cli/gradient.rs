//! The command that makes the gradient of a task an adapter.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use super::TrainingFileArguments;

/// Write the gradient of a task as an adapter, to recycle it beside others.
///
/// Reads a training file, fits the head on the frozen features and sums the gradient of the loss at the
/// base model over the training examples, in the modules that the training adapts. Its strongest
/// directions, with the sign of a step that lowers the loss, are written as an ordinary adapter.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix gradient ferry.toml --out ferry-gradient
  eigenmix extract datasets/quickstart/adapters/* ferry-gradient --out shared --components 8 \\
      --weights 1,1,1,1,1,1,3")]
pub(crate) struct GradientArguments {
    #[command(flatten)]
    pub(crate) file: TrainingFileArguments,

    /// Where to write the adapter: a new directory.
    #[arg(long, short, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// The most directions to keep of a module.
    #[arg(long, value_name = "R", default_value = "24")]
    pub(crate) rank: NonZeroUsize,

    /// The most examples to sum over, drawn by the seed.
    #[arg(long, value_name = "N", default_value = "2048")]
    pub(crate) examples: NonZeroUsize,

    /// Overwrite DIR if it exists.
    #[arg(long, short)]
    pub(crate) force: bool,
}
