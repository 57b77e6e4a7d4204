//! The commands that run a base model.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use eigenmix_diffusion::ForwardPart;
use eigenmix_experiment::Override;

use super::{ColumnArguments, LabelArguments, ModelArguments, ZeroShotArguments};

/// Train an adapter as described in a TOML file.
///
/// Writes a run: the resolved configuration, metrics.jsonl, checkpoints and, at the end, a plain
/// PEFT adapter.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix train configs/quickstart/pretrain.toml
  eigenmix train ferry.toml --set training.epochs=3 --set output=runs/short
  eigenmix train ferry.toml --tokens-per-batch 4096
  eigenmix train ferry.toml --resume")]
pub(crate) struct TrainArguments {
    /// The configuration, a TOML file.
    #[arg(value_name = "CONFIG.toml")]
    pub(crate) config: PathBuf,

    /// Fill each batch with as many examples as have together no more than N tokens, instead of
    /// the configuration's batch_size.
    #[arg(long, value_name = "N")]
    pub(crate) tokens_per_batch: Option<NonZeroUsize>,

    /// Override a key of the configuration; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<Override>,

    /// Continue an interrupted run from its last checkpoint.
    #[arg(long, conflicts_with = "force")]
    pub(crate) resume: bool,

    /// Only show what would be trained and estimate the memory; of weights that are here, only the
    /// headers are read.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Overwrite the run if it exists.
    #[arg(long, short)]
    pub(crate) force: bool,
}

/// Evaluate a model on a dataset: accuracy, correlation, perplexity.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix evaluate --base datasets/quickstart/base --adapter datasets/quickstart/adapters/gym \\
      --data datasets/quickstart/tasks/gym --split test
  eigenmix evaluate --base datasets/quickstart/base --adapter merged \\
      --head datasets/quickstart/adapters/gym --data datasets/quickstart/tasks/gym
  eigenmix evaluate --base models/clip --data datasets/pets --prompt 'a photo of a {}, a pet.'")]
pub(crate) struct EvaluateArguments {
    #[command(flatten)]
    pub(crate) model: ModelArguments,

    /// A directory with train, validation and test as .jsonl, .csv or .parquet, or a dataset on the Hub
    /// (org/name, or org/name@revision).
    #[arg(long, value_name = "DIR|ID")]
    pub(crate) data: String,

    /// The split to evaluate on.
    #[arg(long, default_value = "test")]
    pub(crate) split: String,

    #[command(flatten)]
    pub(crate) columns: ColumnArguments,

    /// The column of the label [default: that of the training, or label].
    #[arg(long, value_name = "COLUMN")]
    pub(crate) label: Option<String>,

    /// Set another key of the `[data]` table, such as format=alpaca; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<Override>,

    /// A metric, such as accuracy, perplexity or exact-match; may be repeated [default: the usual
    /// ones for the task].
    #[arg(long = "metric", value_name = "NAME")]
    pub(crate) metrics: Vec<String>,

    /// The batch size.
    #[arg(long, value_name = "N", default_value = "32")]
    pub(crate) batch_size: NonZeroUsize,

    #[command(flatten)]
    pub(crate) labels: LabelArguments,

    #[command(flatten)]
    pub(crate) zero_shot: ZeroShotArguments,
}

/// Predict a label for each text or image, or continue each text with a language model.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix predict --base datasets/quickstart/base --adapter runs/ferry --input queries.txt
  echo 'i want to cancel the cabin' | eigenmix predict --base datasets/quickstart/base \\
      --adapter runs/ferry --json
  echo 'Why is the sky blue?' | eigenmix predict --base models/llama --adapter runs/chat --chat
  eigenmix predict --base models/roberta --adapter runs/nli --input pairs.csv --out labelled.csv
  ls photos/*.jpg | eigenmix predict --base models/vit --adapter runs/birds
  ls photos/*.jpg | eigenmix predict --base models/clip --prompt 'a photo of a {}.' --labels cat,dog")]
pub(crate) struct PredictArguments {
    #[command(flatten)]
    pub(crate) model: ModelArguments,

    /// A file with one text or image path per line, or a table: .jsonl, .json, .csv, .tsv or .parquet,
    /// read as in training; - is standard input, with lines. Of a model of pairs, a line is two texts
    /// with a tab between them.
    #[arg(long, value_name = "FILE|-", default_value = "-")]
    pub(crate) input: PathBuf,

    /// Write the rows of a table back with predictions to this file, in the format of the input
    /// [default: standard output].
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,

    /// Overwrite the file that --out names.
    #[arg(long, short, requires = "out")]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) columns: ColumnArguments,

    /// Set another key of the `[data]` table, such as format=alpaca; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<Override>,

    /// The batch size.
    #[arg(long, value_name = "N", default_value = "32")]
    pub(crate) batch_size: NonZeroUsize,

    /// Classifiers of one label a row: show the N most probable labels [default: 1].
    #[arg(long, value_name = "N")]
    pub(crate) top: Option<NonZeroUsize>,

    #[command(flatten)]
    pub(crate) labels: LabelArguments,

    /// Vision-language models: an image that every line is about; may be repeated. A line says with
    /// `<image>` where it stands, else it comes first.
    #[arg(long, value_name = "FILE")]
    pub(crate) image: Vec<PathBuf>,

    /// Language models: treat each line as a user message and apply the chat template [default: as in
    /// the training].
    #[arg(long, conflicts_with = "raw")]
    pub(crate) chat: bool,

    /// Language models: take each line as it stands, without the template of the training.
    #[arg(long)]
    pub(crate) raw: bool,

    /// Language models, of conversations: the system message.
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    pub(crate) system: Option<String>,

    /// Language models: the maximum number of new tokens per line [default: 128].
    #[arg(long, value_name = "N")]
    pub(crate) max_new_tokens: Option<NonZeroUsize>,

    /// Language models: sample with this temperature instead of taking the most likely token.
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub(crate) temperature: Option<f64>,

    /// Language models, with --temperature: sample from the K most likely tokens.
    #[arg(long, value_name = "K", requires = "temperature")]
    pub(crate) top_k: Option<NonZeroUsize>,

    /// Language models, with --temperature: sample from the smallest set of tokens with this total
    /// probability.
    #[arg(
        long,
        value_name = "P",
        allow_negative_numbers = true,
        requires = "temperature"
    )]
    pub(crate) top_p: Option<f64>,

    /// Language models, with --temperature: the sampling seed [default: 0].
    #[arg(long, value_name = "S", requires = "temperature")]
    pub(crate) seed: Option<u64>,

    #[command(flatten)]
    pub(crate) zero_shot: ZeroShotArguments,
}

/// Run a model once on given tensors, to compare it with other software.
///
/// Reads the tensors `input.*` (such as `input.input_ids` [batch, seq]) and writes `logits`. Of a
/// diffusion model, `--part` says what runs: `unet` reads `input.sample`, `input.timestep`,
/// `input.encoder_hidden_states` (SDXL: `input.text_embeds`, `input.time_ids`) and writes `sample`;
/// `vae-encode` reads `input.pixel_values` and writes `mean` and `logvar`; `vae-decode` reads
/// `input.latents` and writes `sample`; `text` reads `input.input_ids` (SDXL: `input.input_ids_2`) and
/// writes `encoder_hidden_states` (SDXL: `pooled`).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix forward --base datasets/quickstart/base --adapter runs/ferry --inputs in.safetensors \\
      --out out.safetensors
  eigenmix forward --base stable-diffusion-v1-5 --part unet --adapter style.safetensors \\
      --inputs in.safetensors --out out.safetensors")]
pub(crate) struct ForwardArguments {
    #[command(flatten)]
    pub(crate) model: ModelArguments,

    /// Of a diffusion model, the part to run.
    #[arg(long, value_name = "PART", value_parser = part_parser())]
    pub(crate) part: Option<ForwardPart>,

    /// For a diffusion model in one .safetensors file: a directory or Hub id with configurations, if they
    /// are not those that are usual.
    #[arg(long, value_name = "MODEL")]
    pub(crate) base_config: Option<String>,

    /// The safetensors file with the inputs.
    #[arg(long, value_name = "FILE")]
    pub(crate) inputs: PathBuf,

    /// The safetensors file to write.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: PathBuf,

    /// Overwrite FILE if it exists.
    #[arg(long, short)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) zero_shot: ZeroShotArguments,
}

fn part_parser() -> impl TypedValueParser<Value = ForwardPart> {
    let names = ForwardPart::NAMES.map(|(name, _)| name);
    PossibleValuesParser::new(names)
        .try_map(|name| ForwardPart::from_name(&name).ok_or("one of the names has no part"))
}
