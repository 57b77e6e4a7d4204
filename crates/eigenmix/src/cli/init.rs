//! The command that begins a training file.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use eigenmix_trainer::AdapterMethod;

/// Write a commented training file for what is at hand.
///
/// Looks at the base model, the data and the adapters that are named, or else searches for them below
/// the directory we are in. What is guessed has a comment with its reason.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix init
  eigenmix init --base models/minilm --data datasets/travel --adapters adapters
  eigenmix init --base org/base --data org/texts --method lora --out configs/texts.toml")]
pub(crate) struct InitArguments {
    /// The base model: a directory or a Hub id, of which only the description is fetched.
    #[arg(long, value_name = "MODEL")]
    pub(crate) base: Option<String>,

    /// The data: a directory or a Hub id.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<String>,

    /// Adapters to recycle, or directories that hold some.
    #[arg(long, value_name = "DIR|ADAPTER", num_args = 1..)]
    pub(crate) adapters: Vec<String>,

    /// What to train [default: eigenmix if adapters fit the base model, else lora].
    #[arg(long, value_name = "METHOD", value_parser = method_parser())]
    pub(crate) method: Option<AdapterMethod>,

    /// The file to write.
    #[arg(long, short, value_name = "FILE", default_value = "train.toml")]
    pub(crate) out: PathBuf,

    /// Replace FILE if it is there.
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
