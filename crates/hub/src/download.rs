//! Downloads one file of a repository into the cache: resumes where it broke off, verifies the
//! file, and only then gives it its name.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use ureq::http::{HeaderMap, StatusCode};

use crate::cache::{CachedRepository, is_plain};
use crate::checksum::Checksum;
use crate::client::{Client, header};
use crate::error::{HubError, RequestError};
use crate::observer::{self, Transfer, TransferDirection, TransferProgress};

/// A file at a commit.
pub(crate) struct Download<'a> {
    pub(crate) client: &'a Client,
    pub(crate) cache: &'a CachedRepository,
    /// The repository, for messages.
    pub(crate) id: &'a str,
    pub(crate) commit: &'a str,
    /// Its checked name in the repository.
    pub(crate) name: &'a str,
    /// Its address below the endpoint.
    pub(crate) path: String,
}

/// The Hub's information about a file.
struct Description {
    etag: String,
    size: u64,
}

impl Download<'_> {
    /// Makes sure that the file is in the cache under its name.
    ///
    /// # Errors
    /// If it cannot be fetched, arrives damaged, or the cache cannot be written.
    pub(crate) fn run(&self) -> Result<(), HubError> {
        let headers = self
            .client
            .head(&self.path)
            .map_err(|error| self.failed(error))?;
        let Description { etag, size } = self.describe(&headers)?;
        let shown = format!("{}/{}", self.id, self.name);
        let blob = self.cache.blob(&etag);
        if !is_complete(&blob, size) {
            let partial = self.cache.incomplete_blob(&etag);
            let mut progress = observer::begin(Transfer {
                direction: TransferDirection::Download,
                name: &shown,
                size,
                resumed_at: length(&partial).min(size),
            });
            let _lock = self.cache.lock(&etag, || progress.waiting())?;
            // Another process may have fetched it meanwhile.
            if !is_complete(&blob, size) {
                self.complete(&partial, &etag, size, progress.as_mut())?;
                fs::rename(&partial, &blob)
                    .map_err(HubError::io("write to the Hub cache", &blob))?;
            }
            progress.finished();
        }
        self.cache.link(self.commit, self.name, &etag)
    }

    fn describe(&self, headers: &HeaderMap) -> Result<Description, HubError> {
        let linked = |linked: &str, own: &str| header(headers, linked).or(header(headers, own));
        let etag = linked("X-Linked-ETag", "ETag")
            .map(|etag| etag.trim_start_matches("W/").trim_matches('"'))
            .filter(|etag| is_plain(etag))
            .ok_or_else(|| self.malformed_answer("an etag"))?;
        let size = linked("X-Linked-Size", "Content-Length")
            .and_then(|size| size.parse().ok())
            .ok_or_else(|| self.malformed_answer("a size"))?;
        match header(headers, "X-Repo-Commit") {
            Some(commit) if commit != self.commit => Err(HubError::Answer {
                id: self.id.to_owned(),
                problem: format!(
                    "`{}` was requested at commit {}, but is of {commit:?}",
                    self.name, self.commit
                ),
            }),
            _ => Ok(Description {
                etag: etag.to_owned(),
                size,
            }),
        }
    }

    /// Fetches what is missing from `partial`, and everything again if the existing part turns out
    /// to be wrong.
    fn complete(
        &self,
        partial: &Path,
        etag: &str,
        size: u64,
        progress: &mut dyn TransferProgress,
    ) -> Result<(), HubError> {
        let is_resumed = length(partial) > 0;
        self.fill(partial, size, progress)?;
        let Some(problem) = self.problem(partial, etag)? else {
            return Ok(());
        };
        let discard = || fs::remove_file(partial);
        discard().map_err(HubError::io("remove", partial))?;
        if is_resumed {
            self.fill(partial, size, progress)?;
            if self.problem(partial, etag)?.is_none() {
                return Ok(());
            }
            discard().map_err(HubError::io("remove", partial))?;
        }
        Err(self.damaged(problem))
    }

    fn problem(&self, partial: &Path, etag: &str) -> Result<Option<String>, HubError> {
        match Checksum::from_etag(etag) {
            Some(sum) => sum.problem(partial).map_err(HubError::io("read", partial)),
            None => Ok(None),
        }
    }

    /// Appends to `partial` until it has `size` bytes, asking again where a connection breaks.
    fn fill(
        &self,
        partial: &Path,
        size: u64,
        progress: &mut dyn TransferProgress,
    ) -> Result<(), HubError> {
        let unwritable = || HubError::io("write to the Hub cache", partial);
        if let Some(parent) = partial.parent() {
            fs::create_dir_all(parent).map_err(unwritable())?;
        }
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(partial)
            .map_err(unwritable())?;
        if length(partial) > size {
            file.set_len(0).map_err(unwritable())?;
        }
        let mut backoff = self.client.backoff();
        loop {
            let before = file.seek(SeekFrom::End(0)).map_err(unwritable())?;
            progress.reached(before);
            if before == size {
                return file.sync_all().map_err(unwritable());
            }
            let ended = self.append(&mut file, partial, before, size, progress);
            let reached = file.seek(SeekFrom::End(0)).map_err(unwritable())?;
            if reached > before {
                backoff.reset();
            }
            match ended {
                Ok(()) if reached == size => {}
                Err(Broken::For(error)) => return Err(error),
                Err(Broken::Request(error))
                    if !(error.is_transient() || reached > before)
                        || !backoff.wait(error.retry_after()) =>
                {
                    return Err(self.failed(error));
                }
                Err(Broken::Request(_)) => {}
                Ok(()) if backoff.wait(None) => {}
                Ok(()) => {
                    let problem = format!("it ended after {reached} of {size} bytes");
                    return Err(self.damaged(problem));
                }
            }
        }
    }

    /// One request for the bytes after `start`.
    fn append(
        &self,
        file: &mut File,
        partial: &Path,
        start: u64,
        size: u64,
        progress: &mut dyn TransferProgress,
    ) -> Result<(), Broken> {
        let unwritable =
            |error| Broken::For(HubError::io("write to the Hub cache", partial)(error));
        let answer = self
            .client
            .get_from(&self.path, start)
            .map_err(Broken::Request)?;
        let mut position = start;
        if start > 0 {
            let expected = format!("bytes {start}-");
            let continues = answer.status() == StatusCode::PARTIAL_CONTENT
                && header(answer.headers(), "Content-Range")
                    .is_some_and(|range| range.starts_with(&expected));
            if answer.status() == StatusCode::PARTIAL_CONTENT && !continues {
                return Err(Broken::For(self.malformed_answer("the requested part")));
            }
            if !continues {
                // A server without range requests sends everything.
                file.set_len(0).map_err(unwritable)?;
                position = 0;
            }
        }
        let mut body = answer.into_body().into_reader();
        let mut buffer = vec![0; 1 << 18];
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) => return Err(Broken::Request(RequestError::Interrupted(error))),
            };
            position += count as u64;
            if position > size {
                file.set_len(0).map_err(unwritable)?;
                let problem = format!("it has more than the {size} bytes that were announced");
                return Err(Broken::For(self.damaged(problem)));
            }
            file.write_all(&buffer[..count]).map_err(unwritable)?;
            progress.reached(position);
        }
    }

    fn failed(&self, source: RequestError) -> HubError {
        HubError::Request {
            id: self.id.to_owned(),
            endpoint: self.client.endpoint().to_owned(),
            advice: source.advice(),
            source: Box::new(source),
        }
    }

    fn malformed_answer(&self, missing: &str) -> HubError {
        HubError::Answer {
            id: self.id.to_owned(),
            problem: format!("`{}` comes without {missing}", self.name),
        }
    }

    fn damaged(&self, problem: String) -> HubError {
        HubError::Damaged {
            id: self.id.to_owned(),
            name: self.name.to_owned(),
            problem,
        }
    }
}

/// Why an answer ended early.
enum Broken {
    /// It may be asked for again.
    Request(RequestError),
    /// For good.
    For(HubError),
}

fn is_complete(blob: &Path, size: u64) -> bool {
    fs::metadata(blob).is_ok_and(|found| found.is_file() && found.len() == size)
}

/// The length of a file, 0 if there is none.
fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}
