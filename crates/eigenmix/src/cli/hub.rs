//! The command that publishes an adapter.

use clap::Args;

/// Upload an adapter to the Hugging Face Hub, with a model card made from what is known of it.
///
/// What is uploaded is the plain PEFT adapter that `eigenmix export` writes. Everything is checked
/// first, and becomes visible in one commit. The token is that of HF_TOKEN or of `hf auth login`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eigenmix push runs/travel me/travel-lora --dry-run
  eigenmix push runs/travel me/travel-lora --private --license mit
  eigenmix push merged me/merged --base-model org/base --create-pr")]
pub(crate) struct PushArguments {
    /// A run, an adapter's directory, or a Hub id.
    #[arg(value_name = "RUN|ADAPTER")]
    pub(crate) source: String,

    /// The repository, which is created if it is not there.
    #[arg(value_name = "ORG/NAME")]
    pub(crate) repository: String,

    /// Make a new repository private.
    #[arg(long)]
    pub(crate) private: bool,

    /// The branch to commit to, made from main if it is not there [default: main].
    #[arg(long, value_name = "BRANCH")]
    pub(crate) revision: Option<String>,

    /// The message of the commit.
    #[arg(
        long,
        short,
        value_name = "TEXT",
        default_value = "Upload adapter with Eigenmix"
    )]
    pub(crate) message: String,

    /// Propose the commit in a pull request.
    #[arg(long)]
    pub(crate) create_pr: bool,

    /// The Hub id of the base model, where the adapter names a directory.
    #[arg(long, value_name = "ID")]
    pub(crate) base_model: Option<String>,

    /// The licence for the card, by its name on the Hub, such as mit or apache-2.0.
    #[arg(long, value_name = "NAME")]
    pub(crate) license: Option<String>,

    /// Upload coefficients.safetensors as well, which a run with a basis has.
    #[arg(long)]
    pub(crate) coefficients: bool,

    /// Only show what would be uploaded; nothing is sent, and no token is needed.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Go on although the adapter has tensors that are not used.
    #[arg(long)]
    pub(crate) allow_partial: bool,
}
