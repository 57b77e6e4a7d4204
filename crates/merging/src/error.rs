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

    #[error("values of λ must be finite and above 0, found {found}")]
    SearchScale { found: f64 },

    #[error("no values of {what} to search; give at least one, or use the default grid")]
    NothingToSearch { what: String },

    #[error(
        "the values of {what} must be in ascending order, found {} before {}", .found[0], .found[1]
    )]
    NotAscending { what: String, found: [f64; 2] },

    #[error("the search needs at least 1 round")]
    NoRounds,

    #[error("the rank must be at least 1; leave it out to keep everything")]
    NoRank,

    #[error(
        "the rank to compress to must be at least 1; leave it out to merge the updates as they are"
    )]
    NoCompressedRank,

    #[error(
        "a merge of adapters compressed to rank {compress} has no higher rank, so a rank of {rank} would truncate nothing; leave it out, or ask for a lower one"
    )]
    RankBesideCompression { rank: usize, compress: usize },

    #[error(
        "compressed adapters cannot be merged with {method} in the full space: it changes single entries of ΔW, and the result has full rank again; take the core or the knots space, or truncate the result to a rank instead"
    )]
    CompressedEntries { method: &'static str },

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
