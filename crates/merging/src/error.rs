//! Everything that can go wrong between adapters and their merge.

use eigenmix_adapter::{AdapterError, LayerKind};
use eigenmix_eigenlorax::decomposition::DecompositionError;
use eigenmix_tensors::FileError;

/// Why adapters could not be merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    #[error("no adapters were given; name at least one")]
    NoAdapters,

    #[error(
        "{method} resolves conflicts between adapters and needs at least two of them, found 1; use sum or average for one"
    )]
    NeedsTwoAdapters { method: &'static str },

    #[error(
        "{found} weights were given for {adapters} adapters; give one for each, in the same order"
    )]
    WeightCount { found: usize, adapters: usize },

    #[error("{what} must be a finite number, found {found}")]
    NotANumber { what: &'static str, found: f64 },

    #[error("density must be above 0 and at most 1, found {found}; 0.2 keeps the largest 20 %")]
    Density { found: f64 },

    #[error("drop must be at least 0 and below 1, found {found}; 0.9 drops nine entries in ten")]
    Drop { found: f64 },

    #[error(
        "the rank fraction of CART must be above 0 and at most 1, found {found}; the paper tries 0.04, 0.08, 0.16 and 0.32"
    )]
    RankFraction { found: f64 },

    #[error("a λ to be searched must be a finite number above 0, found {found}; 0 merges nothing")]
    SearchScale { found: f64 },

    #[error(
        "there is no {what} to search; name at least one value, or leave the grid to the default"
    )]
    NothingToSearch { what: &'static str },

    #[error(
        "the values of {what} to be searched must ascend, found {} before {}", .found[0], .found[1]
    )]
    NotAscending { what: &'static str, found: [f64; 2] },

    #[error("a search of 0 rounds was asked for; 1 goes through the coordinates once")]
    NoRounds,

    #[error("a rank of 0 was asked for; ask for at least 1, or for none to keep everything")]
    NoRank,

    #[error(
        "adapter `{second}` is for the base model `{second_base}`, but `{first}` is for `{first_base}`; leave one out, or allow the mismatch if the names mean the same model"
    )]
    BaseModels {
        first: String,
        first_base: String,
        second: String,
        second_base: String,
    },

    #[error(
        "module `{module}`: adapter `{first}` has [d_out, d_in] {first_shape:?}, adapter `{second}` has {second_shape:?}; is one of them for another base model?"
    )]
    UnequalShapes {
        module: String,
        first: String,
        first_shape: [usize; 2],
        second: String,
        second_shape: [usize; 2],
    },

    #[error(
        "module `{module}`: adapter `{first}` has it as {first_layer}, adapter `{second}` as {second_layer}; is one of them for another base model?"
    )]
    UnequalLayers {
        module: String,
        first: String,
        first_layer: LayerKind,
        second: String,
        second_layer: LayerKind,
    },

    #[error(
        "adapter `{first}` has no module in common with `{second}` (it has `{first_module}`, the other `{second_module}`), and they do not both name the same base model; leave one out, or allow the mismatch if they are for the same model"
    )]
    NothingInCommon {
        first: String,
        first_module: String,
        second: String,
        second_module: String,
    },

    #[error(
        "module `{module}` of adapter `{adapter}` has a DoRA magnitude, which rescales the whole weight and is no part of the low-rank update s·B·A; train the adapter without use_dora, or merge it into its base model instead"
    )]
    Magnitude { module: String, adapter: String },

    #[error(
        "module `{module}` of adapter `{adapter}` has a bias of B (lora_bias), for which merging methods are not defined; train the adapter without lora_bias, or merge it into its base model instead"
    )]
    LoraBias { module: String, adapter: String },

    #[error(
        "module `{module}` of adapter `{adapter}` holds NaN or infinite values; its training diverged or its file is damaged"
    )]
    NotFinite { module: String, adapter: String },

    #[error("module `{module}` could not be decomposed")]
    Decomposition {
        module: String,
        source: DecompositionError,
    },

    #[error(
        "the merge of {adapters} adapters changes no module: their updates are zero, or cancel under these weights and this scale"
    )]
    NothingLeft { adapters: usize },

    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Adapter(#[from] AdapterError),
}
