//! The commands that run a base model.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use crate::overrides::Override;

/// Train an adapter as a TOML file describes it.
///
/// The run's directory gets the resolved configuration, metrics.jsonl, checkpoints and, at the end,
/// a plain PEFT adapter.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix train configs/travel.toml
  eigenmix train configs/travel.toml --set training.epochs=3 --set output=runs/short
  eigenmix train configs/travel.toml --resume")]
pub(crate) struct TrainArguments {
    /// The configuration, a TOML file.
    #[arg(value_name = "CONFIG.toml")]
    pub(crate) config: PathBuf,

    /// Override a key of the configuration; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<Override>,

    /// Continue an interrupted run from its last checkpoint.
    #[arg(long, conflicts_with = "force")]
    pub(crate) resume: bool,

    /// Replace the run's directory if it is there.
    #[arg(long, short)]
    pub(crate) force: bool,
}

/// Measure an adapter on a dataset.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  eigenmix evaluate --base models/minilm --adapter runs/travel --data datasets/travel --split test")]
pub(crate) struct EvaluateArguments {
    /// The base model.
    #[arg(long, value_name = "MODEL")]
    pub(crate) base: String,

    /// The adapter, with its head and labels.json.
    #[arg(long, value_name = "ADAPTER")]
    pub(crate) adapter: String,

    /// A directory with train, validation and test as .jsonl, .csv or .parquet.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: String,

    /// Which part of the data to use.
    #[arg(long, default_value = "test")]
    pub(crate) split: String,

    /// The column of the (first) text.
    #[arg(long, value_name = "COLUMN", default_value = "text")]
    pub(crate) text: String,

    /// The column of the second text, for tasks on pairs.
    #[arg(long, value_name = "COLUMN")]
    pub(crate) text_pair: Option<String>,

    /// The column of the label.
    #[arg(long, value_name = "COLUMN", default_value = "label")]
    pub(crate) label: String,

    /// Go on although the adapter has tensors that the base model has no place for.
    #[arg(long)]
    pub(crate) allow_partial: bool,

    /// How many examples to run at once.
    #[arg(long, value_name = "N", default_value = "32")]
    pub(crate) batch_size: NonZeroUsize,
}

/// Predict labels or continuations for lines of text.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix predict --base models/minilm --adapter runs/travel --input queries.txt
  echo 'book a table for two' | eigenmix predict --base models/minilm --adapter runs/travel --json")]
pub(crate) struct PredictArguments {
    /// The base model.
    #[arg(long, value_name = "MODEL")]
    pub(crate) base: String,

    /// The adapter, with its head and labels.json.
    #[arg(long, value_name = "ADAPTER")]
    pub(crate) adapter: String,

    /// A text file with one example a line, or - for standard input.
    #[arg(long, value_name = "FILE|-", default_value = "-")]
    pub(crate) input: PathBuf,

    /// Go on although the adapter has tensors that the base model has no place for.
    #[arg(long)]
    pub(crate) allow_partial: bool,

    /// How many examples to run at once.
    #[arg(long, value_name = "N", default_value = "32")]
    pub(crate) batch_size: NonZeroUsize,
}

/// Run a model once on given tensors, to compare it with other software.
///
/// Reads the tensors `input.*` (such as `input.input_ids` [batch, seq]) and writes `logits`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  eigenmix forward --base models/minilm --adapter runs/travel --inputs in.safetensors --out out.safetensors")]
pub(crate) struct ForwardArguments {
    /// The base model.
    #[arg(long, value_name = "MODEL")]
    pub(crate) base: String,

    /// The adapter; without one the base model runs as it is.
    #[arg(long, value_name = "ADAPTER")]
    pub(crate) adapter: Option<String>,

    /// The safetensors file with the inputs.
    #[arg(long, value_name = "FILE")]
    pub(crate) inputs: PathBuf,

    /// The safetensors file to write.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: PathBuf,

    /// Go on although the adapter has tensors that the base model has no place for.
    #[arg(long)]
    pub(crate) allow_partial: bool,

    /// Replace FILE if it is there.
    #[arg(long, short)]
    pub(crate) force: bool,
}

/// Run an experiment, arms × seeds, and compare the arms in one report.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix run configs/clinc.toml
  eigenmix run configs/clinc.toml --set training.epochs=1 --out runs/quick")]
pub(crate) struct RunArguments {
    /// The experiment, a TOML file with `seeds` and an [[arm]] a variant; or a training file.
    #[arg(
        value_name = "EXPERIMENT.toml",
        default_value = "configs/quickstart.toml"
    )]
    pub(crate) experiment: PathBuf,

    /// Override a key of the defaults; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<Override>,

    /// Where to write the runs and the report, instead of where the file says.
    #[arg(long, short, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// Only check the file and show what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Start every training anew, whatever is finished or begun.
    #[arg(long, short)]
    pub(crate) force: bool,
}
