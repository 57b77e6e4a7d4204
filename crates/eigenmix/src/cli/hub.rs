//! The command that publishes an adapter.

use clap::Args;

/// Upload an adapter to the Hugging Face Hub, with a generated model card.
///
/// Uploads the plain PEFT adapter that `eigenmix export` writes. Everything is checked first and
/// published in one commit, with the token of HF_TOKEN or `hf auth login`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix push runs/ferry me/ferry-lora --dry-run
  eigenmix push runs/ferry me/ferry-lora --private --license mit
  eigenmix push merged me/merged --base-model org/base --create-pr")]
pub(crate) struct PushArguments {
    /// A run, an adapter's directory, or a Hub id.
    #[arg(value_name = "RUN|ADAPTER")]
    pub(crate) source: String,

    /// The repository; created if it does not exist.
    #[arg(value_name = "ORG/NAME")]
    pub(crate) repository: String,

    /// Make a new repository private.
    #[arg(long)]
    pub(crate) private: bool,

    /// The branch to commit to; created from main if it does not exist [default: main].
    #[arg(long, value_name = "BRANCH")]
    pub(crate) revision: Option<String>,

    /// The commit message.
    #[arg(
        long,
        short,
        value_name = "TEXT",
        default_value = "Upload adapter with Eigenmix"
    )]
    pub(crate) message: String,

    /// Open a pull request instead of committing.
    #[arg(long)]
    pub(crate) create_pr: bool,

    /// The Hub id of the base model, if the adapter names a directory.
    #[arg(long, value_name = "ID")]
    pub(crate) base_model: Option<String>,

    /// The licence, by its name on the Hub, such as mit or apache-2.0.
    #[arg(long, value_name = "NAME")]
    pub(crate) license: Option<String>,

    /// Also upload coefficients.safetensors, for a run with a basis.
    #[arg(long)]
    pub(crate) coefficients: bool,

    /// Only show what would be uploaded; nothing is sent, and no token is needed.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Continue even if the adapter has tensors that are not used.
    #[arg(long)]
    pub(crate) allow_partial: bool,
}
