//! The search of a merge: a `search` table of a `[[merge]]`, or the flags of a command.

use std::num::NonZeroUsize;

use eigenmix_merging::SearchValues;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is searched, on what, and how long.
///
/// λ and the parameters of the method are searched, coordinate by coordinate, for the best mean over
/// the tasks of accuracy on the validation split divided by the adapter's own; then the best merge is
/// evaluated on the test splits, each task with its own head, and with all heads at once. A parameter
/// that the merge gives is not searched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchRequest {
    /// The base model.
    pub base: String,
    /// The data of an adapter's task, once for each adapter: NAME=DIR, where NAME is the adapter's
    /// name (the last part of its path or Hub id) or its place, from 1; without NAME= the directories
    /// belong to the adapters in their order.
    pub data: Vec<String>,
    /// CLIP: classify images by what texts say of each label, {} being where the label goes
    /// [default: the prompts that each adapter was trained with].
    #[serde(default)]
    pub prompts: Vec<String>,
    /// The λ to try [default: 0.1 to 1.0 by 0.1, and on up to 9.9 while `patience` lasts].
    #[serde(default)]
    pub scales: Option<Vec<f64>>,
    /// The values to try of the parameters of the method, each list by its name.
    #[serde(flatten)]
    pub values: SearchValues,
    /// Beyond 1.0, stop when so many λ in a row were no better than the best before them.
    #[serde(default = "default_patience")]
    pub patience: NonZeroUsize,
    /// Go through the coordinates so often, or until nothing changes.
    #[serde(default = "default_rounds")]
    pub rounds: NonZeroUsize,
    /// Search on so many validation rows of each task, drawn by the seed [default: all].
    #[serde(default)]
    pub search_rows: Option<NonZeroUsize>,
    /// The column of the (first) text.
    #[serde(default = "default_text")]
    pub text: String,
    /// The column of the second text, for tasks on pairs.
    #[serde(default)]
    pub text_pair: Option<String>,
    /// The column of the label.
    #[serde(default = "default_label")]
    pub label: String,
    /// How many examples to run at once.
    #[serde(default = "default_batch_size")]
    pub batch_size: NonZeroUsize,
}

fn default_patience() -> NonZeroUsize {
    const PATIENCE: NonZeroUsize = NonZeroUsize::new(2).expect("not zero");
    PATIENCE
}

fn default_rounds() -> NonZeroUsize {
    NonZeroUsize::MIN
}

fn default_batch_size() -> NonZeroUsize {
    const SIZE: NonZeroUsize = NonZeroUsize::new(32).expect("not zero");
    SIZE
}

fn default_text() -> String {
    "text".to_owned()
}

fn default_label() -> String {
    "label".to_owned()
}
