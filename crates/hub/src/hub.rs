//! Access to the Hub, configured by the environment or by the caller.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hf_hub::{Cache, RepoType};

use crate::client::Client;
use crate::{HubError, HubId, Repository, RequestError, file_name};

pub(crate) const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
pub(crate) const DEFAULT_REVISION: &str = "main";
/// The first pause before a request is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// A file to fetch from a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRequest {
    /// Its path in the repository.
    pub name: String,
    /// Whether it is an error if the repository does not have it.
    pub required: bool,
}

impl FileRequest {
    pub fn required(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            required: true,
        }
    }

    pub fn optional(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            required: false,
        }
    }
}

/// Access to the Hub and to its cache on this machine.
///
/// It has no `Debug`, since it may hold a token.
#[derive(Clone)]
pub struct Hub {
    pub(crate) client: Arc<Client>,
    pub(crate) cache: Cache,
    pub(crate) kind: RepoType,
    pub(crate) offline: bool,
}

/// `HF_HOME`, or its default.
fn home() -> Option<PathBuf> {
    variable("HF_HOME").map(PathBuf::from).or_else(|| {
        let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(std::env::home_dir()?.join(".cache")));
        cache.map(|cache| cache.join("huggingface"))
    })
}

/// A directory for what Eigenmix itself keeps beside the Hub's cache: `HF_HOME/eigenmix`.
///
/// # Errors
/// If there is neither `HF_HOME` nor a home directory.
pub fn cache_of_eigenmix() -> Result<PathBuf, HubError> {
    let home = home().ok_or(HubError::NoCacheDirectory)?;
    Ok(home.join("eigenmix"))
}

impl Hub {
    /// The Hub as the environment describes it: `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`,
    /// `HF_TOKEN`, `HF_TOKEN_PATH` and `HF_HUB_OFFLINE`, with the defaults of its Python library.
    ///
    /// # Errors
    /// If there is neither a cache nor a home directory.
    pub fn from_env() -> Result<Self, HubError> {
        let home = home();
        let cache = match (variable("HF_HUB_CACHE"), &home) {
            (Some(cache), _) => PathBuf::from(cache),
            (None, Some(home)) => home.join("hub"),
            (None, None) => return Err(HubError::NoCacheDirectory),
        };
        let token_file = variable("HF_TOKEN_PATH")
            .map(PathBuf::from)
            .or_else(|| Some(home?.join("token")));
        let token = variable("HF_TOKEN")
            .or_else(|| fs::read_to_string(token_file?).ok())
            .map(|token| token.trim().to_owned())
            .filter(|token| !token.is_empty());
        let offline = variable("HF_HUB_OFFLINE").is_some_and(|value| {
            ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str())
        });
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        Ok(Self::new(&endpoint, &cache, token).offline(offline))
    }

    /// The Hub at `endpoint` with its cache in `cache`.
    pub fn new(endpoint: &str, cache: &Path, token: Option<String>) -> Self {
        Self::with_pause(endpoint, cache, token, PAUSE)
    }

    /// The same with another pause before the second attempt at a request; every further one is
    /// twice as long.
    pub fn with_pause(
        endpoint: &str,
        cache: &Path,
        token: Option<String>,
        pause: Duration,
    ) -> Self {
        Self {
            client: Arc::new(Client::new(endpoint.trim_end_matches('/'), token, pause)),
            cache: Cache::new(cache.to_owned()),
            kind: RepoType::Model,
            offline: false,
        }
    }

    /// Whether ids stand for repositories of datasets instead of models and adapters.
    pub fn datasets(mut self, datasets: bool) -> Self {
        self.kind = match datasets {
            true => RepoType::Dataset,
            false => RepoType::Model,
        };
        self
    }

    /// Whether only the cache is used.
    pub fn offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }

    /// Makes sure that the requested files of a repository are in the cache and returns the directory
    /// of the snapshot, in which they have the names that they have in the repository.
    ///
    /// All files come from one commit. Without a connection the newest snapshot in the cache serves,
    /// if it is complete.
    ///
    /// # Errors
    /// If the Hub cannot be reached and the cache does not have the required files, the repository
    /// does not have one of them, or a name would lead out of the snapshot.
    pub fn fetch(&self, id: &HubId, requests: &[FileRequest]) -> Result<PathBuf, HubError> {
        for request in requests {
            file_name::check_file_name(id, &request.name)?;
        }
        self.open(id)?.fetch(requests)
    }

    /// Asks for a repository: which commit its revision is, and which files it has.
    ///
    /// # Errors
    /// If the Hub cannot be reached and the cache does not have it.
    pub fn open(&self, id: &HubId) -> Result<Repository, HubError> {
        Repository::open(self, id)
    }

    pub(crate) fn failed(&self, id: &HubId, source: RequestError) -> HubError {
        HubError::Request {
            id: id.to_string(),
            endpoint: self.client.endpoint().to_owned(),
            advice: source.advice(),
            source: Box::new(source),
        }
    }

    pub(crate) fn not_in_cache(&self, id: &HubId, missing: String) -> HubError {
        HubError::Offline {
            id: id.to_string(),
            cache: self.cache.path().clone(),
            missing,
        }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
