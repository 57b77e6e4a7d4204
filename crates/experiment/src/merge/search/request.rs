//! The search of a merge: a `search` table of a `[[merge]]`, or the flags of a command.

use std::num::NonZeroUsize;

use eigenmix_merging::SearchValues;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// The values to search, the data, and the length of the search.
///
/// Searches λ and the method's parameters, one coordinate at a time, for the best normalised
/// accuracy on the validation splits: the mean over the tasks of the accuracy divided by that of
/// the task's own adapter. Then evaluates the best merge on the test splits, each task with its own
/// head, and with all heads at once. Parameters that the merge sets are not searched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchRequest {
    /// The base model.
    pub base: String,
    /// The data of each adapter's task, as NAME=DIR, where NAME is the adapter's name (that of its
    /// stage, or the last part of its path or Hub id) or its position from 1; without NAME=, the
    /// directories are in the order of the adapters.
    pub data: Vec<String>,
    /// CLIP: zero-shot prompts with {} in the place of the label [default: the prompts of each
    /// adapter].
    #[serde(default)]
    pub prompts: Vec<String>,
    /// The values of λ to try [default: 0.1 to 1.0 in steps of 0.1, then up to 9.9 while `patience`
    /// lasts].
    #[serde(default)]
    pub scales: Option<Vec<f64>>,
    /// The values to try for each parameter of the method, under the name of the list.
    #[serde(flatten)]
    pub values: SearchValues,
    /// Beyond 1.0, stop after this many values of λ in a row without improvement.
    #[serde(default, serialize_with = "with_default_patience")]
    #[schemars(with = "Option<NonZeroUsize>")]
    pub patience: Option<NonZeroUsize>,
    /// Go through the coordinates at most this many times, or until nothing changes.
    #[serde(default = "default_rounds")]
    pub rounds: NonZeroUsize,
    /// Search on this many validation rows per task, drawn with the seed [default: all].
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
    /// The batch size.
    #[serde(default = "default_batch_size")]
    pub batch_size: NonZeroUsize,
}

/// The patience beyond λ = 1.0 if none is given.
pub(super) const DEFAULT_PATIENCE: NonZeroUsize = NonZeroUsize::new(2).expect("not zero");

/// The stamps of stages have the default, so that those of earlier releases stay valid.
fn with_default_patience<S: Serializer>(
    patience: &Option<NonZeroUsize>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    patience.unwrap_or(DEFAULT_PATIENCE).serialize(serializer)
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
