//! Everything that can go wrong between adapters and their merge.

use eigenmix_adapter::{AdapterError, AdapterSetError};
use eigenmix_eigenlorax::decomposition::DecompositionError;
use eigenmix_tensors::FileError;

use crate::parameter::Parameter;

/// Why adapters could not be merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
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

    #[error(
        "{} must be {}, found {found}; {}",
        .parameter.words(), .parameter.info().range, .parameter.info().advice
    )]
    OutOfRange { parameter: Parameter, found: f64 },

    /// An option that the method, or the space, doesn't have.
    #[error("{option} is for {owners} only")]
    OptionOfOthers {
        /// Its name in files.
        option: &'static str,
        /// The methods, or the space, that have it.
        owners: String,
    },

    #[error("a λ to be searched must be a finite number above 0, found {found}; 0 merges nothing")]
    SearchScale { found: f64 },

    #[error(
        "there is no {what} to search; name at least one value, or leave the grid to the default"
    )]
    NothingToSearch { what: String },

    #[error(
        "the values of {what} to be searched must ascend, found {} before {}", .found[0], .found[1]
    )]
    NotAscending { what: String, found: [f64; 2] },

    #[error("a search of 0 rounds was asked for; 1 goes through the coordinates once")]
    NoRounds,

    #[error("a rank of 0 was asked for; ask for at least 1, or for none to keep everything")]
    NoRank,

    #[error(
        "module `{module}` of adapter `{adapter}` has a bias of B (lora_bias), for which merging methods are not defined; train the adapter without lora_bias, or merge it into its base model instead"
    )]
    LoraBias { module: String, adapter: String },

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
    Set(#[from] AdapterSetError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Adapter(#[from] AdapterError),
}
