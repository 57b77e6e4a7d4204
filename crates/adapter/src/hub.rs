//! Files from the Hugging Face Hub, through the cache that all its tools share.

use std::fs;
use std::path::{Component, Path, PathBuf};

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use crate::file::{PICKLED_NAME, WEIGHTS_NAME};
use crate::{AdapterError, HubId, Labels, Location, PeftConfig, Prompts};

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
const DEFAULT_REVISION: &str = "main";

/// A file that is wanted from a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileWish {
    /// Its path in the repository.
    pub name: String,
    /// Whether it is an error if the repository does not have it.
    pub required: bool,
}

impl FileWish {
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
pub struct Hub {
    endpoint: String,
    cache: Cache,
    token: Option<String>,
    kind: RepoType,
    offline: bool,
    progress: bool,
}

/// The path of an ADAPTER argument: itself if it exists here, else downloaded from the Hub or found
/// in its cache.
///
/// # Errors
/// If the argument is neither a path nor a Hub id, or the Hub does not give the files of an adapter.
pub fn locate_adapter(argument: &str) -> Result<PathBuf, AdapterError> {
    match Location::parse(argument)? {
        Location::Path(path) => Ok(path),
        Location::Hub(id) => Hub::from_env()?.fetch_adapter(&id),
    }
}

impl Hub {
    /// The Hub as the environment describes it: `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`,
    /// `HF_TOKEN`, `HF_TOKEN_PATH` and `HF_HUB_OFFLINE`, with the defaults of its Python library.
    ///
    /// # Errors
    /// If there is neither a cache nor a home directory.
    pub fn from_env() -> Result<Self, AdapterError> {
        let home = variable("HF_HOME").map(PathBuf::from).or_else(|| {
            let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
            let cache = cache.or_else(|| Some(std::env::home_dir()?.join(".cache")));
            cache.map(|cache| cache.join("huggingface"))
        });
        let cache = match (variable("HF_HUB_CACHE"), &home) {
            (Some(cache), _) => PathBuf::from(cache),
            (None, Some(home)) => home.join("hub"),
            (None, None) => return Err(AdapterError::NoCacheDirectory),
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
        Ok(Self::new(endpoint, cache)
            .with_token(token)
            .offline(offline))
    }

    /// The Hub at `endpoint` with its cache in `cache`, without a token.
    pub fn new(endpoint: impl Into<String>, cache: PathBuf) -> Self {
        // Links in the cache are relative between absolute paths.
        let cache = std::path::absolute(&cache).unwrap_or(cache);
        let endpoint = endpoint.into().trim_end_matches('/').to_owned();
        Self {
            endpoint,
            cache: Cache::new(cache),
            token: None,
            kind: RepoType::Model,
            offline: false,
            progress: false,
        }
    }

    pub fn with_token(mut self, token: Option<String>) -> Self {
        self.token = token;
        self
    }

    /// Whether ids mean repositories of datasets instead of models and adapters.
    pub fn datasets(mut self, datasets: bool) -> Self {
        self.kind = if datasets {
            RepoType::Dataset
        } else {
            RepoType::Model
        };
        self
    }

    /// Whether only the cache is used.
    pub fn offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }

    /// Whether downloads show a bar on standard error.
    pub fn progress(mut self, progress: bool) -> Self {
        self.progress = progress;
        self
    }

    /// Fetches what an adapter's directory has and returns its path in the cache.
    ///
    /// # Errors
    /// As [`Hub::fetch`], and if the repository only has a pickled file.
    pub fn fetch_adapter(&self, id: &HubId) -> Result<PathBuf, AdapterError> {
        let wishes = [
            FileWish::required(PeftConfig::FILE_NAME),
            FileWish::required(WEIGHTS_NAME),
            FileWish::optional(Labels::FILE_NAME),
            FileWish::optional(Prompts::FILE_NAME),
        ];
        self.fetch(id, &wishes).map_err(|error| match error {
            AdapterError::HubFileMissing {
                name, available, ..
            } if name == WEIGHTS_NAME && available.split(", ").any(|file| file == PICKLED_NAME) => {
                AdapterError::PickledWeights(PathBuf::from(format!("{id}/{PICKLED_NAME}")))
            }
            other => other,
        })
    }

    /// Makes sure that the wished files of a repository are in the cache and returns the directory
    /// of the snapshot, in which they have the names that they have in the repository.
    ///
    /// All files come from one commit. Without a connection the newest complete snapshot in the
    /// cache serves.
    ///
    /// # Errors
    /// If the repository cannot be asked and the cache does not have the required files, the
    /// repository does not have one of them, or a name would lead out of the snapshot.
    pub fn fetch(&self, id: &HubId, wishes: &[FileWish]) -> Result<PathBuf, AdapterError> {
        for wish in wishes {
            check_name(id, &wish.name)?;
        }
        if self.offline {
            return self
                .cached(id, wishes)
                .map_err(|missing| AdapterError::Offline {
                    id: id.to_string(),
                    cache: self.cache.path().clone(),
                    missing,
                });
        }
        let info = match self.repository(self.repo(id, revision_of(id)), id)?.info() {
            Ok(info) => info,
            Err(error) => {
                return self
                    .cached(id, wishes)
                    .map_err(|_| self.request_error(id, error));
            }
        };
        if info.sha.is_empty() || !info.sha.chars().all(|digit| digit.is_ascii_alphanumeric()) {
            let problem = format!("its commit is `{}`", info.sha);
            return Err(AdapterError::HubAnswer {
                id: id.to_string(),
                problem,
            });
        }
        let available: Vec<&str> = info
            .siblings
            .iter()
            .map(|file| file.rfilename.as_str())
            .collect();
        self.download(id, &info.sha, wishes, &available)
    }

    /// The names of all files in a repository.
    ///
    /// # Errors
    /// If the Hub cannot be asked.
    pub fn files(&self, id: &HubId) -> Result<Vec<String>, AdapterError> {
        let info = self.repository(self.repo(id, revision_of(id)), id)?.info();
        let info = info.map_err(|error| self.request_error(id, error))?;
        Ok(info
            .siblings
            .into_iter()
            .map(|file| file.rfilename)
            .collect())
    }

    fn download(
        &self,
        id: &HubId,
        commit: &str,
        wishes: &[FileWish],
        available: &[&str],
    ) -> Result<PathBuf, AdapterError> {
        if let Some(missing) = wishes
            .iter()
            .find(|wish| wish.required && !available.contains(&wish.name.as_str()))
        {
            return Err(AdapterError::HubFileMissing {
                id: id.to_string(),
                name: missing.name.clone(),
                available: available.join(", "),
            });
        }
        let snapshot = self
            .cache
            .repo(self.repo(id, revision_of(id)))
            .pointer_path(commit);
        // Pinned to the commit, so that files of two commits are never mixed.
        let pinned = self.repository(self.repo(id, commit), id)?;
        for wish in wishes
            .iter()
            .filter(|wish| available.contains(&wish.name.as_str()))
        {
            let expected = snapshot.join(&wish.name);
            if expected.exists() {
                continue;
            }
            let found = pinned
                .download(&wish.name)
                .map_err(|error| self.request_error(id, error))?;
            if found != expected {
                let problem = format!(
                    "`{}` was asked for at commit {commit}, but came as {}",
                    wish.name,
                    found.display()
                );
                return Err(AdapterError::HubAnswer {
                    id: id.to_string(),
                    problem,
                });
            }
        }
        let named = self.cache.repo(self.repo(id, revision_of(id)));
        named.create_ref(commit).map_err(AdapterError::io(
            "write to the Hub cache",
            self.cache.path(),
        ))?;
        Ok(snapshot)
    }

    /// The snapshot in the cache, or what is missing from it.
    fn cached(&self, id: &HubId, wishes: &[FileWish]) -> Result<PathBuf, String> {
        let repository = self.cache.repo(self.repo(id, revision_of(id)));
        let folder = self
            .cache
            .path()
            .join(self.repo(id, revision_of(id)).folder_name());
        let reference = fs::read_to_string(folder.join("refs").join(revision_of(id)));
        // A revision that is a commit has no reference, but is the name of its snapshot.
        let commit = reference.unwrap_or_else(|_| revision_of(id).to_owned());
        let commit = commit.trim();
        if check_name(id, commit).is_err() {
            return Err("a valid reference".to_owned());
        }
        let snapshot = repository.pointer_path(commit);
        let missing: Vec<&str> = wishes
            .iter()
            .filter(|wish| wish.required && !snapshot.join(&wish.name).exists())
            .map(|wish| wish.name.as_str())
            .collect();
        if missing.is_empty() && snapshot.exists() {
            return Ok(snapshot);
        }
        Err(if snapshot.exists() {
            missing.join(", ")
        } else {
            "all of it".to_owned()
        })
    }

    fn repo(&self, id: &HubId, revision: &str) -> Repo {
        Repo::with_revision(id.repository().to_owned(), self.kind, revision.to_owned())
    }

    fn repository(&self, repo: Repo, id: &HubId) -> Result<ApiRepo, AdapterError> {
        let api = ApiBuilder::from_cache(self.cache.clone())
            .with_endpoint(self.endpoint.clone())
            .with_token(self.token.clone())
            .with_progress(self.progress)
            .with_retries(2)
            .build()
            .map_err(|error| self.request_error(id, error))?;
        Ok(api.repo(repo))
    }

    fn request_error(&self, id: &HubId, source: ApiError) -> AdapterError {
        // The type of the request's error belongs to a crate that hf-hub does not re-export.
        let status = source.to_string();
        let advice = match status
            .rsplit_once("http status: ")
            .map(|(_, status)| status)
        {
            Some("401" | "403") => {
                ": it does not exist, or is private or gated; check the spelling, or set HF_TOKEN"
            }
            Some("404") => ": there is no such repository, revision or file; check the spelling",
            _ => "",
        };
        AdapterError::HubRequest {
            id: id.to_string(),
            endpoint: self.endpoint.clone(),
            advice,
            source: Box::new(source),
        }
    }
}

fn revision_of(id: &HubId) -> &str {
    id.revision().unwrap_or(DEFAULT_REVISION)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Names may come from an index file in the repository itself.
fn check_name(id: &HubId, name: &str) -> Result<(), AdapterError> {
    let stays_inside = !name.is_empty()
        && !name.contains('\\')
        && Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
    if stays_inside {
        return Ok(());
    }
    Err(AdapterError::UnsafeFileName {
        id: id.to_string(),
        name: name.to_owned(),
    })
}
