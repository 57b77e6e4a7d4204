//! Why a configuration cannot be read.

use std::io;
use std::path::PathBuf;

use super::{BadConfig, OverrideError};

/// Why a configuration file is not valid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    #[error("cannot read `{path}`: {source}")]
    Unreadable { path: PathBuf, source: io::Error },

    #[error("`{path}`: {source}")]
    NotToml {
        path: PathBuf,
        source: toml::de::Error,
    },

    /// All of its problems.
    #[error(transparent)]
    Bad(#[from] BadConfig),

    #[error(transparent)]
    Override(#[from] OverrideError),
}
