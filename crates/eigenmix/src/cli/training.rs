//! The commands that run a base model.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use eigenmix_experiment::Override;

use super::{ModelArguments, ZeroShotArguments};

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

    /// Only say what would be trained and how much memory it would take; no weights are read.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Replace the run's directory if it is there.
    #[arg(long, short)]
    pub(crate) force: bool,
}

/// Measure a model on a dataset: accuracies, correlations, perplexity.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix evaluate --base models/minilm --adapter runs/travel --data datasets/travel --split test
  eigenmix evaluate --base models/minilm --adapter merged --head runs/travel --data datasets/travel
  eigenmix evaluate --base models/clip --data datasets/pets --prompt 'a photo of a {}, a pet.'")]
pub(crate) struct EvaluateArguments {
    #[command(flatten)]
    pub(crate) model: ModelArguments,

    /// A directory with train, validation and test as .jsonl, .csv or .parquet, or a dataset on the Hub
    /// (org/name, or org/name@revision).
    #[arg(long, value_name = "DIR|ID")]
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

    /// Set another key of a training file's [data] table, such as format=alpaca; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<Override>,

    /// What to measure, such as accuracy, perplexity or exact-match; may be repeated [default: what
    /// is usual for the task].
    #[arg(long = "metric", value_name = "NAME")]
    pub(crate) metrics: Vec<String>,

    /// How many examples to run at once.
    #[arg(long, value_name = "N", default_value = "32")]
    pub(crate) batch_size: NonZeroUsize,

    #[command(flatten)]
    pub(crate) zero_shot: ZeroShotArguments,
}

/// Predict a label for every line of text or image, or continue every line with a language model.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix predict --base models/minilm --adapter runs/travel --input queries.txt
  echo 'book a table for two' | eigenmix predict --base models/minilm --adapter runs/travel --json
  echo 'Why is the sky blue?' | eigenmix predict --base models/llama --adapter runs/chat --chat
  ls photos/*.jpg | eigenmix predict --base models/vit --adapter runs/birds
  ls photos/*.jpg | eigenmix predict --base models/clip --prompt 'a photo of a {}.' --labels cat,dog")]
pub(crate) struct PredictArguments {
    #[command(flatten)]
    pub(crate) model: ModelArguments,

    /// A file with a text, or the path of an image, on every line; or - for standard input.
    #[arg(long, value_name = "FILE|-", default_value = "-")]
    pub(crate) input: PathBuf,

    /// How many examples to run at once.
    #[arg(long, value_name = "N", default_value = "32")]
    pub(crate) batch_size: NonZeroUsize,

    /// Classifiers: show so many of the most probable labels.
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) top: NonZeroUsize,

    /// Language models: take each line as a user's message and let the chat template frame it.
    #[arg(long)]
    pub(crate) chat: bool,

    /// Language models, with --chat: what comes before the user's message.
    #[arg(long, value_name = "TEXT", requires = "chat")]
    pub(crate) system: Option<String>,

    /// Language models: the most tokens to write for each line.
    #[arg(long, value_name = "N", default_value = "128")]
    pub(crate) max_new_tokens: NonZeroUsize,

    /// Language models: draw tokens instead of taking the likeliest; logits are divided by this.
    #[arg(long, value_name = "T")]
    pub(crate) temperature: Option<f64>,

    /// Language models, with --temperature: draw from the K likeliest tokens only.
    #[arg(long, value_name = "K", requires = "temperature")]
    pub(crate) top_k: Option<NonZeroUsize>,

    /// Language models, with --temperature: draw from the likeliest tokens that together have this
    /// probability.
    #[arg(long, value_name = "P", requires = "temperature")]
    pub(crate) top_p: Option<f64>,

    /// Language models, with --temperature: the seed of the draws.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,

    #[command(flatten)]
    pub(crate) zero_shot: ZeroShotArguments,
}

/// Run a model once on given tensors, to compare it with other software.
///
/// Reads the tensors `input.*` (such as `input.input_ids` [batch, seq]) and writes `logits`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  eigenmix forward --base models/minilm --adapter runs/travel --inputs in.safetensors --out out.safetensors")]
pub(crate) struct ForwardArguments {
    #[command(flatten)]
    pub(crate) model: ModelArguments,

    /// The safetensors file with the inputs.
    #[arg(long, value_name = "FILE")]
    pub(crate) inputs: PathBuf,

    /// The safetensors file to write.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: PathBuf,

    /// Replace FILE if it is there.
    #[arg(long, short)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) zero_shot: ZeroShotArguments,
}
