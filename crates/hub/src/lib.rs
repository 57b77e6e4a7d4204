//! The Hugging Face Hub: files from it, through the cache that all its tools share, and commits to it.
//!
//! ```
//! use eigenmix_hub::HubId;
//!
//! # fn main() -> Result<(), eigenmix_hub::HubError> {
//! let id = HubId::parse("org/adapter@v1.2")?;
//! assert_eq!(id.repository(), "org/adapter");
//! assert_eq!(id.revision(), Some("v1.2"));
//! # Ok(())
//! # }
//! ```
//!
//! Fetched files are then in the cache, verified, all of one commit:
//!
//! ```no_run
//! use eigenmix_hub::{FileRequest, Hub, HubId};
//!
//! # fn main() -> Result<(), eigenmix_hub::HubError> {
//! let id = HubId::parse("org/adapter@main")?;
//! let requests = [FileRequest::required("adapter_config.json"), FileRequest::optional("README.md")];
//! let directory = Hub::from_env()?.fetch(&id, &requests)?;
//! println!("{}", directory.join("adapter_config.json").display());
//! # Ok(())
//! # }
//! ```
//!
//! # Why transfers are our own
//!
//! Ids, addresses and the layout of the cache are those of the crate `hf-hub` 0.5; transfers are our
//! own, on the `ureq` that it brings along. That version neither resumes across processes nor verifies
//! what it downloads, and cannot upload.
//!
//! `hf-hub` 1.0 uploads and speaks Xet, but measured on 2 cores with this workspace's release profile
//! (`cargo build --release --timings` of an empty crate, `default-features = false` with `blocking` and
//! `rustls-tls`):
//!
//! | | crates | sum of all units | wall |
//! |---|---:|---:|---:|
//! | 0.5 with `ureq`, `sha1`, `sha2`, `base64` | 73 | 47 s | 24 s |
//! | 1.0 | 236 | 285 s | 146 s |
//!
//! 219 s of the 285 go to 144 crates that nothing else in this workspace needs (tokio, hyper, reqwest,
//! the Xet client with its database), so a cold build would take one and three quarter minutes longer.
//! 33 s of them compile the C code of `aws-lc-sys`, which the Xet client brings in whatever the
//! features; on x86-64 Linux it needed a C compiler and no cmake.
//!
//! Nor does it do everything that this crate does. Over plain HTTP, a download that broke off
//! starts again at its first byte, a connection that breaks within a file is not retried, and the
//! download is not compared with its checksum before it enters the cache. Commit modes, the
//! observer of transfers, locks between processes, retries of requests and the use of the cache
//! alone have their counterparts there.

mod adapters;
mod backoff;
mod cache;
mod checksum;
mod client;
mod content;
mod download;
mod error;
mod file_name;
mod hub;
mod hub_file;
mod large_file;
mod location;
mod observer;
mod repository;
mod upload;

pub use adapters::{fetch_adapter, fetch_adapter_file, fetch_tokenizer};
pub use content::{UploadContent, UploadFile};
pub use error::{HubError, RequestError};
pub use hub::{FileRequest, Hub, cache_of_eigenmix};
pub use hub_file::HubFile;
pub use location::{HubId, Location};
pub use observer::{
    Transfer, TransferDirection, TransferObserver, TransferProgress, observe_transfers,
};
pub use repository::Repository;
pub use upload::{Commit, Committed};
