//! The command that writes a training file.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use eigenmix_trainer::AdapterMethod;

/// Write a commented training file for your model, data and adapters.
///
/// Looks at the model, the data and the adapters given, or searches for them below the current
/// directory. Each guess has a comment with its reason.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix init
  eigenmix init --base datasets/quickstart/base --data datasets/quickstart/tasks/ferry_port \\
      --adapters datasets/quickstart/adapters --out ferry.toml
  eigenmix init --base org/base --data org/texts --method lora --out configs/texts.toml")]
pub(crate) struct InitArguments {
    /// The base model: a directory, a GGUF file or a Hub id (of which no weights are downloaded), or a
    /// GGUF file on the Hub (`org/name:file.gguf`).
    #[arg(long, value_name = "MODEL")]
    pub(crate) base: Option<String>,

    /// The data: a directory or a Hub id.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<String>,

    /// Adapters to recycle, or directories that contain some.
    #[arg(long, value_name = "DIR|ADAPTER", num_args = 1..)]
    pub(crate) adapters: Vec<String>,

    /// Recycle the adapters that are most worth it for the task, at most N, as `eigenmix select` finds them
    /// [default: 16, where more fit a base model that is at hand and has less than a billion parameters].
    #[arg(long, value_name = "N")]
    pub(crate) top: Option<NonZeroUsize>,

    /// The method [default: eigenmix if adapters fit the base model, otherwise lora].
    #[arg(long, value_name = "METHOD", value_parser = method_parser())]
    pub(crate) method: Option<AdapterMethod>,

    /// The file to write.
    #[arg(long, short, value_name = "FILE", default_value = "train.toml")]
    pub(crate) out: PathBuf,

    /// Overwrite FILE if it exists.
    #[arg(long, short)]
    pub(crate) force: bool,
}

fn method_parser() -> impl TypedValueParser<Value = AdapterMethod> {
    PossibleValuesParser::new(AdapterMethod::ALL.map(AdapterMethod::name)).map(|name| {
        let mut methods = AdapterMethod::ALL.into_iter();
        methods
            .find(|method| method.name() == name)
            .unwrap_or(AdapterMethod::Lora)
    })
}
