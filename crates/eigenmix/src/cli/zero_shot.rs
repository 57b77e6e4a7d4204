//! The flags of CLIP's zero-shot classification.

use clap::Args;

/// What to ask CLIP, and about which labels.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Zero-shot classification with CLIP")]
pub(crate) struct ZeroShotArguments {
    /// Classify images by what texts say of each label: {} is where the label goes, as in
    /// "a photo of a {}."; may be repeated, and the texts of a label are averaged [default: the
    /// prompts that the adapter was trained with].
    #[arg(long = "prompt", value_name = "TEXT")]
    pub(crate) prompts: Vec<String>,

    /// The labels to choose from [default: those of the adapter, or of the data that are evaluated].
    #[arg(long, value_name = "LABEL,…", value_delimiter = ',')]
    pub(crate) labels: Vec<String>,
}
