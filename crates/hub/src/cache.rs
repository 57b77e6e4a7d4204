//! A repository in the cache that all tools of the Hub share.
//!
//! ```text
//! models--org--name/blobs/ETAG                        the contents
//! models--org--name/blobs/ETAG.incomplete             what has come so far
//! models--org--name/snapshots/COMMIT/path/in/repo     links to blobs
//! models--org--name/refs/main                         the commit that a branch or tag meant last
//! .locks/models--org--name/ETAG.lock                  held while a blob is fetched
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, CacheRepo, Repo};

use crate::error::HubError;

/// Where one repository lies in the cache.
pub(crate) struct CachedRepository {
    cache: Cache,
    repository: Repo,
    paths: CacheRepo,
}

/// Held while this process, and no other, fetches a blob.
pub(crate) struct BlobLock {
    // Closing the file gives the lock back.
    _file: File,
}

impl CachedRepository {
    pub(crate) fn new(cache: &Cache, repository: &Repo) -> Self {
        Self {
            cache: cache.clone(),
            repository: repository.clone(),
            paths: cache.repo(repository.clone()),
        }
    }

    fn directory(&self) -> PathBuf {
        self.cache.path().join(self.repository.folder_name())
    }

    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.paths.pointer_path(commit)
    }

    pub(crate) fn blob(&self, etag: &str) -> PathBuf {
        self.paths.blob_path(etag)
    }

    pub(crate) fn incomplete_blob(&self, etag: &str) -> PathBuf {
        self.directory()
            .join("blobs")
            .join(format!("{etag}.incomplete"))
    }

    /// The commit of the revision when the Hub was last asked.
    pub(crate) fn commit(&self) -> Option<String> {
        let commit = match fs::read_to_string(self.reference()) {
            Ok(commit) => commit.trim().to_owned(),
            // A revision that is a commit has no reference, but is the name of its snapshot.
            Err(_) => self.repository.revision().to_owned(),
        };
        (is_plain(&commit) && self.snapshot(&commit).is_dir()).then_some(commit)
    }

    /// Stores the commit of the revision.
    pub(crate) fn remember(&self, commit: &str) -> Result<(), HubError> {
        let path = self.reference();
        let is_commit = self.repository.revision() == commit;
        if is_commit || fs::read_to_string(&path).is_ok_and(|known| known == commit) {
            return Ok(());
        }
        let written = self.paths.create_ref(commit);
        written.map_err(HubError::io("write to the Hub cache", &path))
    }

    fn reference(&self) -> PathBuf {
        self.directory()
            .join("refs")
            .join(self.repository.revision())
    }

    /// Waits until no other process fetches this blob.
    ///
    /// - waiting: called once if it does
    pub(crate) fn lock(&self, etag: &str, waiting: impl FnOnce()) -> Result<BlobLock, HubError> {
        let locks = self
            .cache
            .path()
            .join(".locks")
            .join(self.repository.folder_name());
        let path = locks.join(format!("{etag}.lock"));
        let open = || {
            create_parent(&path)?;
            let file = File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            match file.try_lock() {
                Ok(()) => Ok(file),
                Err(fs::TryLockError::WouldBlock) => {
                    waiting();
                    file.lock()?;
                    Ok(file)
                }
                // A file system without locks: Python's library continues without one as well.
                Err(fs::TryLockError::Error(error))
                    if error.kind() == io::ErrorKind::Unsupported =>
                {
                    Ok(file)
                }
                Err(fs::TryLockError::Error(error)) => Err(error),
            }
        };
        let file = open().map_err(HubError::io("lock", &path))?;
        Ok(BlobLock { _file: file })
    }

    /// Gives a blob its name in a snapshot.
    ///
    /// - name: a checked path in the repository
    pub(crate) fn link(&self, commit: &str, name: &str, etag: &str) -> Result<(), HubError> {
        let pointer = self.snapshot(commit).join(name);
        let link = || {
            create_parent(&pointer)?;
            match point(&self.blob(etag), name, etag, &pointer) {
                // Another process was faster, or the blob behind the link had gone.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    match pointer.exists() {
                        true => Ok(()),
                        false => {
                            fs::remove_file(&pointer)?;
                            point(&self.blob(etag), name, etag, &pointer)
                        }
                    }
                }
                done => done,
            }
        };
        link().map_err(HubError::io("write to the Hub cache", &pointer))
    }

    /// The names of the files in a snapshot that are in the cache, sorted.
    pub(crate) fn files(&self, commit: &str) -> Vec<String> {
        let root = self.snapshot(commit);
        let mut names = Vec::new();
        let mut pending = vec![root.clone()];
        while let Some(directory) = pending.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    pending.push(path);
                } else if path.exists()
                    && let Ok(name) = path.strip_prefix(&root)
                {
                    let parts: Vec<_> = name.iter().map(|part| part.to_string_lossy()).collect();
                    names.push(parts.join("/"));
                }
            }
        }
        names.sort();
        names
    }
}

/// Whether a commit or an etag from outside can be the name of a file.
pub(crate) fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 128
        && !name.starts_with('.')
        && name
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
}

fn create_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

/// A relative link, so that the cache may be moved.
#[cfg(unix)]
fn point(_blob: &Path, name: &str, etag: &str, pointer: &Path) -> io::Result<()> {
    // Out of the folders of the name, of the commit and of `snapshots`.
    let ups = "../".repeat(name.split('/').count() + 1);
    std::os::unix::fs::symlink(format!("{ups}blobs/{etag}"), pointer)
}

/// On Windows, links need rights that few users have: move the file itself, as Python's library
/// does.
#[cfg(not(unix))]
fn point(blob: &Path, _name: &str, _etag: &str, pointer: &Path) -> io::Result<()> {
    fs::rename(blob, pointer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hf_hub::RepoType;

    fn repository_at(cache: &Path, revision: &str) -> CachedRepository {
        let (id, revision) = ("org/name".to_owned(), revision.to_owned());
        let repository = Repo::with_revision(id, RepoType::Model, revision);
        CachedRepository::new(&Cache::new(cache.to_owned()), &repository)
    }

    fn repository(cache: &Path) -> CachedRepository {
        repository_at(cache, "main")
    }

    #[test]
    fn names_in_folders_lead_to_their_blobs() {
        let cache = tempfile::tempdir().unwrap();
        let repository = repository(cache.path());
        let blob = repository.blob("abc");
        create_parent(&blob).unwrap();
        fs::write(&blob, "content").unwrap();
        for name in ["plain.txt", "a/b/nested.txt"] {
            repository.link("c0ffee", name, "abc").unwrap();
            repository.link("c0ffee", name, "abc").unwrap();
            let pointer = repository.snapshot("c0ffee").join(name);
            assert_eq!(fs::read_to_string(pointer).unwrap(), "content");
        }
        assert_eq!(repository.files("c0ffee"), ["a/b/nested.txt", "plain.txt"]);
    }

    #[test]
    fn a_link_whose_blob_is_gone_is_made_anew() {
        let cache = tempfile::tempdir().unwrap();
        let repository = repository(cache.path());
        create_parent(&repository.blob("new")).unwrap();
        fs::write(repository.blob("new"), "new").unwrap();
        repository.link("c0ffee", "file", "gone").unwrap();
        repository.link("c0ffee", "file", "new").unwrap();
        let pointer = repository.snapshot("c0ffee").join("file");
        assert_eq!(fs::read_to_string(pointer).unwrap(), "new");
    }

    #[test]
    fn a_revision_is_remembered_in_folders_of_its_own() {
        let cache = tempfile::tempdir().unwrap();
        let at = |revision| repository_at(cache.path(), revision);
        fs::create_dir_all(at("main").snapshot("c0ffee")).unwrap();
        at("refs/pr/1").remember("c0ffee").unwrap();
        assert_eq!(at("refs/pr/1").commit().as_deref(), Some("c0ffee"));
        assert_eq!(at("c0ffee").commit().as_deref(), Some("c0ffee"));
        assert_eq!(at("main").commit(), None);
        at("main").remember("../../../etc").unwrap();
        assert_eq!(at("main").commit(), None);
    }

    #[test]
    fn an_etag_from_outside_is_the_name_of_one_file() {
        for name in ["..", "../x", "a/b", "", ".hidden", "a\\b", "a b"] {
            assert!(!is_plain(name), "{name}");
        }
        assert!(is_plain("0a1b-2_c.3"));
    }
}
