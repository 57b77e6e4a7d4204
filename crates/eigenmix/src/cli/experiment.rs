//! The commands on experiments.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use eigenmix_experiment::{Override, Shard};

/// Run an experiment: its stages, then arms × seeds × values, and compare the arms in one report.
///
/// Finished cells are not run again, interrupted ones continue, and a failed cell does not stop the
/// others.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix run configs/quickstart.toml
  eigenmix run configs/quickstart.toml --set training.epochs=1 --out runs/quick --jobs 2
  eigenmix run configs/clinc150.toml --shard 3/8")]
pub(crate) struct RunArguments {
    /// The experiment: a TOML file with `seeds` and one `[[arm]]` per variant; or a training file.
    #[arg(
        value_name = "EXPERIMENT.toml",
        default_value = "configs/quickstart.toml"
    )]
    pub(crate) experiment: PathBuf,

    /// Override a key of the defaults; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<Override>,

    /// The directory for runs and report, instead of `output` in the file.
    #[arg(long, short, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// Only check the file and show the plan.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// The number of cells to run at a time, each in its own process with its share of the threads.
    #[arg(long, short, value_name = "N", default_value = "1")]
    pub(crate) jobs: NonZeroUsize,

    /// Run only the I-th of N parts of the cells (1/N to N/N), as in a job array. Each part makes
    /// the stages it needs; `eigenmix report` collects the parts.
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<Shard>,

    /// Start all stages and cells from scratch.
    #[arg(long, short)]
    pub(crate) force: bool,
}

/// Write the report of the finished part of an experiment.
///
/// Several directories are parts of one experiment that ran on different machines.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix report runs/quickstart
  eigenmix report from-node-1/clinc150 from-node-2/clinc150 --out runs/clinc150-report")]
pub(crate) struct ReportArguments {
    /// The directory that `eigenmix run` wrote to.
    #[arg(required = true, value_name = "DIR")]
    pub(crate) directories: Vec<PathBuf>,

    /// Where to write the report [default: the first DIR].
    #[arg(long, short, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// Print the JSON schema of training or experiment files, for completion in editors.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  eigenmix schema experiment > experiment.schema.json

An editor with a TOML language server (Taplo, Even Better TOML) uses it once the first line of the
file says so: #:schema ./experiment.schema.json")]
pub(crate) struct SchemaArguments {
    /// The kind of file.
    #[arg(value_enum)]
    pub(crate) kind: FileKind,
}

/// A kind of configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileKind {
    Training,
    Experiment,
}
