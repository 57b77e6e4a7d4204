//! The errors of access to the Hub.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use eigenmix_adapter::AdapterError;

/// Why something could not be fetched from the Hub or sent to it.
///
/// No message contains the token or the signed address of a storage server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    #[error(transparent)]
    Adapter(#[from] AdapterError),

    #[error(
        "`{argument}` is neither an existing path nor a Hub id of the form org/name or org/name@revision ({problem})"
    )]
    Location {
        argument: String,
        problem: &'static str,
    },

    #[error("`{0}` does not exist")]
    PathNotFound(PathBuf),

    #[error("no cache directory for the Hub: set HF_HOME or HOME")]
    NoCacheDirectory,

    #[error("`{id}`: the name `{name}` would leave the repository's directory")]
    UnsafeFileName { id: String, name: String },

    #[error("`{id}`: the request to the Hub at {endpoint} failed{advice}")]
    Request {
        id: String,
        endpoint: String,
        advice: &'static str,
        #[source]
        source: Box<RequestError>,
    },

    #[error("Hub repository `{id}` has no file `{name}` (it has: {available})")]
    FileMissing {
        id: String,
        name: String,
        available: String,
    },

    #[error("unexpected answer of the Hub for `{id}`: {problem}")]
    Answer { id: String, problem: String },

    #[error("`{name}` of `{id}` arrived damaged: {problem}; the download was discarded, try again")]
    Damaged {
        id: String,
        name: String,
        problem: String,
    },

    #[error(
        "`{id}` is not a local path and not complete in the Hub cache `{cache}` (missing: {missing}), and HF_HUB_OFFLINE forbids downloading it"
    )]
    Offline {
        id: String,
        cache: PathBuf,
        missing: String,
    },

    #[error(
        "`{id}` is not complete in the Hub cache `{cache}` (missing: {missing}), and the request to the Hub at {endpoint} failed{} ({source})", .source.advice()
    )]
    Incomplete {
        id: String,
        endpoint: String,
        cache: PathBuf,
        missing: String,
        source: Arc<RequestError>,
    },

    #[error("nothing can be sent to the Hub: HF_HUB_OFFLINE is set")]
    UploadOffline,

    #[error(
        "nothing can be sent to the Hub without a token with write access: set HF_TOKEN, or log in with `hf auth login`"
    )]
    NoToken,

    #[error("the Hub at {endpoint} rejects `{name}`: {problem}")]
    Refused {
        endpoint: String,
        name: String,
        problem: String,
    },

    #[error("cannot {action} `{path}`")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl HubError {
    /// A [`HubError::Io`] about `path`; `action` completes "cannot … `path`".
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// Why one request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    #[error("http status {status}{detail}")]
    Status {
        status: u16,
        /// The server's message, if any, after `: `.
        detail: String,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },

    #[error("{0}")]
    Transport(Box<ureq::Error>),

    #[error("the connection broke: {0}")]
    Interrupted(io::Error),

    #[error("the answer is not the JSON that was expected")]
    Json(#[source] serde_json::Error),

    #[error("it redirects {0}")]
    Redirect(&'static str),
}

impl RequestError {
    /// Whether the same request may succeed a little later.
    pub(crate) fn is_transient(&self) -> bool {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof, WouldBlock,
        };
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            Self::Interrupted(_) => true,
            Self::Transport(error) => match error.as_ref() {
                ureq::Error::Timeout(_) => true,
                // Not a refused connection or an unknown host: a user who is offline should learn
                // it at once.
                ureq::Error::Io(error) => matches!(
                    error.kind(),
                    BrokenPipe
                        | ConnectionAborted
                        | ConnectionReset
                        | TimedOut
                        | UnexpectedEof
                        | WouldBlock
                ),
                _ => false,
            },
            Self::Json(_) | Self::Redirect(_) => false,
        }
    }

    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// What to do about a failure to write.
    pub(crate) fn advice_to_writer(&self) -> &'static str {
        match self.status() {
            Some(401) => ": the token is not valid; check HF_TOKEN",
            Some(403) => {
                ": the token has no write access there; check the name or the token's permissions"
            }
            Some(404) => ": there is no such repository or branch; check the spelling",
            Some(413) => ": a file is too large for the Hub",
            _ => self.advice(),
        }
    }

    /// What to do about it, to follow what failed.
    pub(crate) fn advice(&self) -> &'static str {
        match self.status() {
            Some(401 | 403) => {
                ": it does not exist, or is private or gated; check the spelling, or set HF_TOKEN"
            }
            Some(404) => ": there is no such repository, revision or file; check the spelling",
            Some(429) => ": too many requests; wait, or set HF_TOKEN",
            _ => "",
        }
    }
}
