//! A repository at one commit, as the Hub or its cache knows it.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use hf_hub::Repo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::HubId;
use crate::cache::{CachedRepository, is_plain};
use crate::download::Download;
use crate::error::{HubError, RequestError};
use crate::file_name::check_file_name;
use crate::{FileRequest, Hub};

/// The characters that need no escape in an address, besides letters and digits.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A repository at the commit that its revision meant when it was opened: all files that are fetched
/// are of that commit.
///
/// Without a connection, the files in the cache of the newest commit that it has.
pub struct Repository {
    hub: Hub,
    id: HubId,
    repository: Repo,
    cache: CachedRepository,
    commit: String,
    files: Vec<String>,
    origin: Origin,
}

/// Where the list of files comes from.
enum Origin {
    Hub,
    /// From the cache, in offline mode.
    Offline,
    /// From the cache, since the request to the Hub failed with this error.
    Unreachable(Arc<RequestError>),
}

/// The Hub's answer about a repository at a revision; only the fields that are used.
#[derive(Deserialize)]
struct Description {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Repository {
    pub(crate) fn open(hub: &Hub, id: &HubId) -> Result<Self, HubError> {
        let revision = id.revision().unwrap_or(crate::hub::DEFAULT_REVISION);
        let (name, revision) = (id.repository().to_owned(), revision.to_owned());
        let repository = Repo::with_revision(name, hub.kind, revision);
        let cache = CachedRepository::new(&hub.cache, &repository);
        let address = format!("api/{}", repository.api_url());
        let asked = match hub.offline {
            true => None,
            false => Some(hub.client.get_json::<Description>(&address)),
        };
        let (commit, files, origin) = match asked {
            Some(Ok(found)) => {
                if !is_plain(&found.sha) {
                    return Err(HubError::Answer {
                        id: id.to_string(),
                        problem: format!("its commit is {:?}", found.sha),
                    });
                }
                let files = found.siblings.into_iter().map(|file| file.rfilename);
                (found.sha, files.collect(), Origin::Hub)
            }
            failed => {
                let Some(commit) = cache.commit() else {
                    return Err(match failed {
                        Some(Err(error)) => hub.failed(id, error),
                        _ => hub.not_in_cache(id, "all of it".to_owned()),
                    });
                };
                let files = cache.files(&commit);
                match failed {
                    Some(Err(error)) => (commit, files, Origin::Unreachable(Arc::new(error))),
                    _ => (commit, files, Origin::Offline),
                }
            }
        };
        Ok(Self {
            hub: hub.clone(),
            id: id.clone(),
            repository,
            cache,
            commit,
            files,
            origin,
        })
    }

    /// The names of its files; from the cache, only the cached ones.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// The commit that all files are of.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// Makes sure that the requested files are in the cache and returns the directory of the snapshot, in
    /// which they have the names that they have in the repository.
    ///
    /// # Errors
    /// If the repository does not have a required file, a name would lead out of the snapshot, or a
    /// file cannot be fetched.
    pub fn fetch(&self, requests: &[FileRequest]) -> Result<PathBuf, HubError> {
        for request in requests {
            check_file_name(&self.id, &request.name)?;
        }
        let required = requests.iter().filter(|request| request.required);
        let required: Vec<&str> = required.map(|request| request.name.as_str()).collect();
        self.require(&required)?;
        let snapshot = self.cache.snapshot(&self.commit);
        if !matches!(self.origin, Origin::Hub) {
            return Ok(snapshot);
        }
        let id = self.id.to_string();
        let has = |request: &&FileRequest| self.files.contains(&request.name);
        for request in requests.iter().filter(has) {
            if snapshot.join(&request.name).exists() {
                continue;
            }
            let download = Download {
                client: &self.hub.client,
                cache: &self.cache,
                id: &id,
                commit: &self.commit,
                name: &request.name,
                path: self.path_of(&request.name),
            };
            download.run()?;
        }
        self.cache.remember(&self.commit)?;
        Ok(snapshot)
    }

    /// The first bytes of a file, at most `limit`, from the cache or the Hub; nothing is put into the cache.
    ///
    /// # Errors
    /// If the name would lead out of the repository or there is no such file, or it cannot be read or the Hub
    /// does not give it.
    pub fn beginning(&self, name: &str, limit: u64) -> Result<Vec<u8>, HubError> {
        check_file_name(&self.id, name)?;
        self.require(&[name])?;
        let cached = self.cache.snapshot(&self.commit).join(name);
        if !cached.exists() && matches!(self.origin, Origin::Hub) {
            let answer = self.hub.client.beginning(&self.path_of(name), limit);
            return answer.map_err(|error| self.hub.failed(&self.id, error));
        }
        let file = File::open(&cached).map_err(HubError::io("open", &cached))?;
        let mut bytes = Vec::new();
        let read = file.take(limit).read_to_end(&mut bytes);
        read.map_err(HubError::io("read", &cached))?;
        Ok(bytes)
    }

    /// # Errors
    /// If it has not all of these files, as far as is known.
    fn require(&self, names: &[&str]) -> Result<(), HubError> {
        let has = |name: &&&str| self.files.iter().any(|file| file == **name);
        let missing: Vec<&str> = names.iter().filter(|name| !has(name)).copied().collect();
        if let Some(first) = missing.first() {
            return Err(match &self.origin {
                Origin::Offline => self.hub.not_in_cache(&self.id, missing.join(", ")),
                Origin::Unreachable(error) => HubError::Incomplete {
                    id: self.id.to_string(),
                    endpoint: self.hub.client.endpoint().to_owned(),
                    cache: self.hub.cache.path().clone(),
                    missing: missing.join(", "),
                    source: Arc::clone(error),
                },
                Origin::Hub => HubError::FileMissing {
                    id: self.id.to_string(),
                    name: (*first).to_owned(),
                    available: self.files.join(", "),
                },
            });
        }
        Ok(())
    }

    /// What follows the endpoint in the address of a file.
    fn path_of(&self, name: &str) -> String {
        let name = name.split('/').map(escaped).collect::<Vec<_>>();
        format!(
            "{}/resolve/{}/{}",
            self.repository.url(),
            self.commit,
            name.join("/")
        )
    }
}

/// A part of an address.
pub(crate) fn escaped(part: &str) -> String {
    utf8_percent_encode(part, ESCAPED).to_string()
}
