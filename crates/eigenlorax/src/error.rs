//! The errors of extracting and using subspaces.

use std::path::PathBuf;

use eigenmix_adapter::{AdapterError, AdapterSetError};
use eigenmix_tensors::FileError;

use crate::decomposition::DecompositionError;

/// Why a subspace could not be extracted, read, written or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EigenloraxError {
    #[error("0 components were requested; use at least 1")]
    NoComponents,

    #[error(
        "the share of variance to keep must be above 0 and at most 1, found {found}; 0.95 keeps 95 %"
    )]
    VarianceShare { found: f64 },

    #[error(
        "the weights of {adapters} adapters must be {adapters} numbers of at least 0, not all of them 0; {problem}"
    )]
    Weights { adapters: usize, problem: String },

    #[error(
        "the share of an adapter that may stay outside the basis must be at least 0 and below 1, found {found}; 0.05 leaves 5 %"
    )]
    ResidualShare { found: f64 },

    #[error(
        "adapter `{adapter}` is a source of the subspace already (as `{source_location}`); leave it out, or extract the subspace again with other options"
    )]
    SourceTwice {
        adapter: String,
        source_location: String,
    },

    #[error(
        "module `{module}` of adapter `{adapter}` looks like `{known}` of the subspace under another name; bring both to one form first"
    )]
    OtherName {
        module: String,
        adapter: String,
        known: String,
    },

    #[error(
        "nothing to extract: none of the {adapters} adapters given changes any module; do they hold trained LoRA factors?"
    )]
    NothingToExtract { adapters: usize },

    #[error(
        "a flattened subspace compares whole factors, which need one rank: in module `{module}` adapter `{adapter}` has rank {rank}, `{other}` has {other_rank}; bring them to one with `eigenmix export --rank`, or extract the usual kind"
    )]
    UnequalRanks {
        module: String,
        adapter: String,
        rank: usize,
        other: String,
        other_rank: usize,
    },

    #[error(
        "a flattened subspace cannot grow: its directions are those of whole factors; extract it again with all adapters"
    )]
    FlattenedGrowth,

    #[error("{clusters} clusters were requested of {adapters} adapters; use fewer")]
    TooManyClusters { clusters: usize, adapters: usize },

    #[error(
        "no two of the {adapters} adapters are in one cluster, so there is nothing that they share; give a smaller number of clusters, or extract one subspace of all of them"
    )]
    NoClusters { adapters: usize },

    #[error("module `{module}` could not be decomposed")]
    Decomposition {
        module: String,
        source: DecompositionError,
    },

    #[error(
        "adapter `{adapter}` is for the base model `{adapter_base}`, but the subspace is of `{subspace_base}`; use a subspace of the same model, or allow the mismatch if the names mean the same model"
    )]
    SubspaceBaseModel {
        adapter: String,
        adapter_base: String,
        subspace_base: String,
    },

    #[error(
        "module `{module}` has [d_out, d_in] {found:?}, but {expected:?} in the subspace; is it of another base model?"
    )]
    SubspaceShape {
        module: String,
        expected: [usize; 2],
        found: [usize; 2],
    },

    #[error(
        "the subspace has no module `{module}`; it has {modules}, such as `{example}`: was it extracted from adapters with other target modules?"
    )]
    NoSuchModule {
        module: String,
        modules: usize,
        example: String,
    },

    #[error(
        "adapter `{adapter}` and the subspace have no module in common: the adapter has `{adapter_example}`, the subspace `{subspace_example}`; were they made for different base models or target modules?"
    )]
    NoCommonModule {
        adapter: String,
        adapter_example: String,
        subspace_example: String,
    },

    #[error("`{path}`: {problem}; extract the subspace again")]
    DamagedSubspace { path: PathBuf, problem: String },

    #[error("`{path}` does not describe a subspace of this release; extract the subspace again")]
    Description {
        path: PathBuf,
        source: serde_json::Error,
    },

    #[error(
        "`{path}` could not be read; a subspace is a directory with subspace.json and subspace.safetensors"
    )]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },

    #[error(transparent)]
    Set(#[from] AdapterSetError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Adapter(#[from] AdapterError),
}
