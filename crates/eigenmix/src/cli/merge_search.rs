//! The flags of `eigenmix merge --search`.

use std::num::NonZeroUsize;

use clap::Args;
use eigenmix_experiment::SearchRequest;

use super::parameter_flags::SearchFlags;

/// What is searched, on what, and how long.
#[derive(Debug, Args)]
#[command(next_help_heading = "Search")]
pub(crate) struct SearchArguments {
    /// Search λ and the parameters of the method, coordinate by coordinate, for the best mean over
    /// the tasks of accuracy on the validation split divided by the adapter's own; then evaluate
    /// the best merge on the test splits, each task with its own head, and with all heads at once.
    /// A parameter that is given by its flag is not searched.
    #[arg(long, requires_all = ["base", "data"])]
    pub(crate) search: bool,

    /// The base model.
    #[arg(long, value_name = "MODEL", requires = "search")]
    pub(crate) base: Option<String>,

    /// The data of an adapter's task, once for each adapter: NAME is the adapter's name (the last
    /// part of its path or Hub id) or its place, from 1; without NAME= the directories belong to
    /// the adapters in their order.
    #[arg(long, value_name = "[NAME=]DIR", requires = "search")]
    pub(crate) data: Vec<String>,

    /// CLIP: classify images by what texts say of each label, {} being where the label goes; may be
    /// repeated [default: the prompts that each adapter was trained with].
    #[arg(long = "prompt", value_name = "TEXT", requires = "search")]
    pub(crate) prompts: Vec<String>,

    /// The λ to try [default: 0.1 to 1.0 by 0.1, and on up to 9.9 while --patience lasts].
    #[arg(
        long,
        value_name = "λ,…",
        value_delimiter = ',',
        allow_negative_numbers = true,
        requires = "search",
        conflicts_with = "scale"
    )]
    pub(crate) scales: Option<Vec<f64>>,

    #[command(flatten)]
    pub(crate) values: SearchFlags,

    /// Beyond 1.0, stop when so many λ in a row were no better than the best before them.
    #[arg(
        long,
        value_name = "N",
        default_value = "2",
        requires = "search",
        conflicts_with = "scales"
    )]
    pub(crate) patience: NonZeroUsize,

    /// Go through the coordinates so often, or until nothing changes.
    #[arg(long, value_name = "N", default_value = "1", requires = "search")]
    pub(crate) rounds: NonZeroUsize,

    /// Search on so many validation rows of each task, drawn by the seed [default: all].
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

    /// How many examples to run at once.
    #[arg(long, value_name = "N", default_value = "32", requires = "search")]
    pub(crate) batch_size: NonZeroUsize,
}

impl SearchArguments {
    /// The search that was asked for, if one was.
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
