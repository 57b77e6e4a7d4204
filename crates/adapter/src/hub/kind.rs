//! What kind of repository an id means.

/// A kind of repository on the Hub; each has its own namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RepositoryKind {
    /// Models and adapters.
    Model,
    Dataset,
}

impl RepositoryKind {
    /// Its name in `/api/models/…` and in the cache.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }

    /// What comes before the id in the addresses of files.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::Dataset => "datasets/",
        }
    }
}
