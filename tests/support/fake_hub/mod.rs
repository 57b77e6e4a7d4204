//! A Hub on this machine, and the storage server that it sends large files to and from: what
//! Hugging Face's answers to its own Python library look like, as far as these tests need.
//!
//! It lives as long as its value, knows one token, and can be made to misbehave.

// Each test binary compiles this file, and none needs all of it.
#![allow(dead_code, unused_imports)]

mod access;
mod answers;
mod http;
mod uploads;

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use sha1::Sha1;
use sha2::{Digest, Sha256};

pub use access::{hub, hub_with, id};
pub use http::Request;

/// The only token that opens private repositories and may write.
pub const TOKEN: &str = "hf_secret_of_the_tests";

/// Files by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The files in a directory.
pub fn files_in(directory: impl AsRef<Path>) -> Files {
    let entries = fs::read_dir(directory).expect("a directory");
    entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("UTF-8");
            (name, fs::read(entry.path()).expect("a file"))
        })
        .collect()
}

/// A running Hub.
pub struct FakeHub {
    /// The value for `HF_ENDPOINT`.
    pub endpoint: String,
    state: Arc<Mutex<State>>,
    stopped: Arc<AtomicBool>,
    servers: Vec<(SocketAddr, JoinHandle<()>)>,
}

/// Which of the two servers was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    Hub,
    Storage,
}

/// How an answer is spoilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status instead.
    Status(u16),
    /// This status, with a Retry-After of this many seconds.
    StatusWait(u16, u64),
    /// The connection ends after this many bytes of the body.
    EndAfter(usize),
    /// The first byte of the body is another.
    Damage,
    /// Ranges are not understood: all is sent.
    IgnoreRange,
    /// Another part than the one that was asked for.
    WrongRange,
}

#[derive(Default)]
pub(crate) struct State {
    /// By `models/org/name` or `datasets/org/name`.
    repositories: BTreeMap<String, Repository>,
    /// Contents in large storage by SHA-256.
    objects: BTreeMap<String, Vec<u8>>,
    /// Parts that were uploaded, by SHA-256 and number.
    parts: BTreeMap<(String, usize), Vec<u8>>,
    faults: Vec<PlannedFault>,
    requests: Vec<Request>,
    /// Files of this size and more are uploaded in parts of this size.
    part_size: Option<usize>,
    hub: String,
    storage: String,
}

#[derive(Default)]
pub(crate) struct Repository {
    access: Access,
    /// The commit of each branch.
    branches: BTreeMap<String, String>,
    commits: BTreeMap<String, Files>,
}

/// Who may read a repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    #[default]
    Public,
    /// The token's owner; to others it does not exist.
    Private,
    /// Nobody yet.
    Gated,
}

struct PlannedFault {
    /// In the method, a space, and the path with its query.
    within: String,
    fault: Fault,
    times: usize,
}

impl FakeHub {
    /// A Hub without repositories.
    pub fn start() -> Self {
        let [hub, storage] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let address = |listener: &TcpListener| listener.local_addr().expect("an address");
        let state = State {
            hub: format!("http://{}", address(&hub)),
            storage: format!("http://{}", address(&storage)),
            ..State::default()
        };
        let endpoint = state.hub.clone();
        let state = Arc::new(Mutex::new(state));
        let stopped = Arc::new(AtomicBool::new(false));
        let servers = [(hub, Server::Hub), (storage, Server::Storage)].map(|(listener, server)| {
            let address = address(&listener);
            let (state, stopped) = (Arc::clone(&state), Arc::clone(&stopped));
            let thread = std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    if stopped.load(Ordering::SeqCst) {
                        return;
                    }
                    let state = Arc::clone(&state);
                    // A client that hangs up is its own affair.
                    std::thread::spawn(move || http::serve(stream, server, &state));
                }
            });
            (address, thread)
        });
        Self {
            endpoint,
            state,
            stopped,
            servers: servers.into(),
        }
    }

    /// A Hub with one public model repository.
    pub fn with_model(id: &str, files: Files) -> Self {
        let hub = Self::start();
        hub.add("models", id, files, Access::Public);
        hub
    }

    /// Adds a repository and returns its commit.
    ///
    /// - kind: `models` or `datasets`
    pub fn add(&self, kind: &str, id: &str, files: Files, access: Access) -> String {
        let mut state = self.state();
        let key = format!("{kind}/{id}");
        let repository = state.repositories.entry(key).or_default();
        repository.access = access;
        let commit = repository.commit("main", files.clone());
        for content in files.into_values() {
            state.objects.insert(sha256(&content), content);
        }
        commit
    }

    /// The files of a model repository's branch; none where there is no such branch.
    pub fn files(&self, id: &str, branch: &str) -> Option<Files> {
        let state = self.state();
        let repository = state.repositories.get(&format!("models/{id}"))?;
        let commit = repository.branches.get(branch)?;
        repository.commits.get(commit).cloned()
    }

    /// Whether a model repository is private; none where there is no such repository.
    pub fn is_private(&self, id: &str) -> Option<bool> {
        let state = self.state();
        let repository = state.repositories.get(&format!("models/{id}"))?;
        Some(repository.access == Access::Private)
    }

    /// Spoils the next N answers to requests that have `within` in `METHOD /path?query`.
    pub fn spoil(&self, within: &str, fault: Fault, times: usize) {
        self.state().faults.push(PlannedFault {
            within: within.to_owned(),
            fault,
            times,
        });
    }

    /// Lets large files be uploaded in parts of this size.
    pub fn upload_in_parts(&self, size: usize) {
        self.state().part_size = Some(size);
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// All requests so far as `METHOD /path?query`.
    pub fn request_lines(&self) -> Vec<String> {
        self.requests().iter().map(Request::line).collect()
    }

    pub fn forget_requests(&self) {
        self.state().requests.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for FakeHub {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        for (address, server) in self.servers.drain(..) {
            // Wakes the server from waiting for a connection.
            let _ = TcpStream::connect(address);
            let _ = server.join();
        }
    }
}

impl Repository {
    /// Makes `files` the newest state of a branch.
    fn commit(&mut self, branch: &str, files: Files) -> String {
        let mut state = Sha1::new();
        state.update(self.commits.len().to_string());
        for (name, content) in &files {
            state.update(name);
            state.update(content);
        }
        let commit = hexadecimal(&state.finalize());
        self.commits.insert(commit.clone(), files);
        self.branches.insert(branch.to_owned(), commit.clone());
        commit
    }

    /// The commit that a revision means.
    fn resolve(&self, revision: &str) -> Option<String> {
        let known = self
            .commits
            .contains_key(revision)
            .then(|| revision.to_owned());
        known.or_else(|| self.branches.get(revision).cloned())
    }
}

/// A test that failed while it held the lock says so itself.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Whether a file is kept in large storage.
fn is_large(name: &str) -> bool {
    [".safetensors", ".parquet", ".bin"]
        .iter()
        .any(|end| name.ends_with(end))
}

pub fn sha256(content: &[u8]) -> String {
    hexadecimal(&Sha256::digest(content))
}

/// The id that Git gives to a file's content.
pub fn git_blob_id(content: &[u8]) -> String {
    let header = format!("blob {}\0", content.len());
    hexadecimal(
        &Sha1::new()
            .chain_update(header)
            .chain_update(content)
            .finalize(),
    )
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
