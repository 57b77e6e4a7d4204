//! The flags of CLIP's zero-shot classification.

use clap::Args;

/// The prompts and labels of CLIP's zero-shot head.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Zero-shot classification with CLIP")]
pub(crate) struct ZeroShotArguments {
    /// A zero-shot prompt with {} in the place of the label, such as "a photo of a {}."; may be
    /// repeated, and the prompts of a label are averaged [default: those of the adapter].
    #[arg(long = "prompt", value_name = "TEXT")]
    pub(crate) prompts: Vec<String>,

    /// The labels to choose from [default: those of the adapter, or of the evaluated data].
    #[arg(long, value_name = "LABEL,…", value_delimiter = ',')]
    pub(crate) labels: Vec<String>,
}
