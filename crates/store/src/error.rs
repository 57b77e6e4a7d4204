//! The errors of stores.

use std::path::PathBuf;

use eigenmix_adapter::AdapterSetError;
use eigenmix_eigenlorax::EigenloraxError;
use eigenmix_eigenlorax::decomposition::DecompositionError;
use eigenmix_tensors::FileError;

/// Why a store could not be made, read or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error(
        "`{name}` cannot be the name of an adapter in a store; a name is letters, digits, `.`, `_` and `-`; rename its directory"
    )]
    Name { name: String },

    #[error("two adapters have the name `{name}`; give each another directory name")]
    NameTwice { name: String },

    #[error("the store has no adapter `{name}`; it has {known}")]
    NoSuchAdapter { name: String, known: String },

    #[error("module `{module}` could not be decomposed")]
    Decomposition {
        module: String,
        source: DecompositionError,
    },

    #[error("`{path}`: {problem}; pack the adapters again")]
    Damaged { path: PathBuf, problem: String },

    #[error("`{path}` does not describe a store of this release; pack the adapters again")]
    Description {
        path: PathBuf,
        source: serde_json::Error,
    },

    #[error(
        "`{path}` could not be read; a store is a directory with store.json, basis.safetensors and coefficients.safetensors"
    )]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },

    #[error(transparent)]
    Set(#[from] AdapterSetError),
    #[error(transparent)]
    Eigenlorax(#[from] EigenloraxError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Adapter(#[from] eigenmix_adapter::AdapterError),
}

impl StoreError {
    pub(crate) fn no_such_adapter<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Self {
        Self::NoSuchAdapter {
            name: name.to_owned(),
            known: known.cloned().collect::<Vec<_>>().join(", "),
        }
    }
}
