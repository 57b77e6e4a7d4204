//! The flags of `eigenmix merge --search`.

use std::num::NonZeroUsize;

use clap::Args;
use eigenmix_experiment::SearchRequest;

use super::parameter_flags::SearchFlags;

/// The values to search, the data, and the length of the search.
#[derive(Debug, Args)]
#[command(next_help_heading = "Search")]
pub(crate) struct SearchArguments {
    /// Search λ and the method's parameters, one coordinate at a time, for the best normalised
    /// accuracy on the validation splits: the mean over the tasks of the accuracy divided by that
    /// of the task's own adapter. Then evaluate the best merge on the test splits, each task with
    /// its own head, and with all heads at once. Parameters given by flags are not searched.
    #[arg(long, requires_all = ["base", "data"])]
    pub(crate) search: bool,

    /// The base model; without --search, that of adapters in GGUF [default: the one that they name].
    #[arg(long, value_name = "MODEL")]
    pub(crate) base: Option<String>,

    /// The data of an adapter's task, once per adapter. NAME is the adapter's name (the last part
    /// of its path or Hub id) or its position from 1; without NAME=, the directories are in the
    /// order of the adapters.
    #[arg(long, value_name = "[NAME=]DIR", requires = "search")]
    pub(crate) data: Vec<String>,

    /// CLIP: a zero-shot prompt with {} in the place of the label; may be repeated [default: the
    /// prompts of each adapter].
    #[arg(long = "prompt", value_name = "TEXT", requires = "search")]
    pub(crate) prompts: Vec<String>,

    /// The values of λ to try [default: 0.1 to 1.0 in steps of 0.1, then up to 9.9 while --patience
    /// lasts].
    #[arg(
        long,
        value_name = "λ,…",
        value_delimiter = ',',
        allow_hyphen_values = true,
        requires = "search",
        conflicts_with = "scale"
    )]
    pub(crate) scales: Option<Vec<f64>>,

    #[command(flatten)]
    pub(crate) values: SearchFlags,

    /// Beyond 1.0, stop after this many values of λ in a row without improvement [default: 2].
    #[arg(long, value_name = "N", requires = "search", conflicts_with = "scales")]
    pub(crate) patience: Option<NonZeroUsize>,

    /// Go through the coordinates at most this many times, or until nothing changes.
    #[arg(long, value_name = "N", default_value = "1", requires = "search")]
    pub(crate) rounds: NonZeroUsize,

    /// Search on this many validation rows per task, drawn with the seed [default: all].
    #[arg(long, value_name = "N", requires = "search")]
    pub(crate) search_rows: Option<NonZeroUsize>,

    /// The column of the (first) text.
    #[arg(
        long,
        value_name = "COLUMN",
        default_value = "text",
        requires = "search"
    )]
    pub(crate) text: String,

    /// The column of the second text, for tasks on pairs.
    #[arg(long, value_name = "COLUMN", requires = "search")]
    pub(crate) text_pair: Option<String>,

    /// The column of the label.
    #[arg(
        long,
        value_name = "COLUMN",
        default_value = "label",
        requires = "search"
    )]
    pub(crate) label: String,

    /// The batch size.
    #[arg(long, value_name = "N", default_value = "32", requires = "search")]
    pub(crate) batch_size: NonZeroUsize,
}

impl SearchArguments {
    /// The base model, if it is for reading the adapters only.
    pub(super) fn base_without_search(&self) -> Option<String> {
        self.base.clone().filter(|_| !self.search)
    }

    /// The requested search, if any.
    pub(super) fn request(&self) -> Option<SearchRequest> {
        // Whoever asks for a search has to name a base model.
        let base = self.base.clone().filter(|_| self.search)?;
        Some(SearchRequest {
            base,
            data: self.data.clone(),
            prompts: self.prompts.clone(),
            scales: self.scales.clone(),
            values: self.values.0.clone(),
            patience: self.patience,
            rounds: self.rounds,
            search_rows: self.search_rows,
            text: self.text.clone(),
            text_pair: self.text_pair.clone(),
            label: self.label.clone(),
            batch_size: self.batch_size,
        })
    }
}
