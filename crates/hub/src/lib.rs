//! The Hugging Face Hub: files from it, through the cache that all its tools share, and adapters to
//! it.
//!
//! Ids, addresses and the layout of the cache are `hf-hub`'s. Transfers are our own, on the `ureq` that
//! it brings along: version 0.5 neither resumes across processes nor verifies what it downloads, and
//! cannot upload; version 1 brings an asynchronous runtime and the Xet protocol, several minutes of
//! building for a handful of requests.
//!
//! ```
//! use eigenmix_hub::{HubId, Location};
//!
//! # fn main() -> Result<(), eigenmix_hub::HubError> {
//! // What an argument names, without asking anybody: a path that is there, or a repository.
//! let Location::Hub(id) = Location::parse("org/adapter@main")? else { panic!("no such path") };
//! assert_eq!((id.repository(), id.revision()), ("org/adapter", Some("main")));
//! # Ok(())
//! # }
//! ```
//!
//! Fetching asks the Hub, or the cache where that has everything:
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

mod backoff;
mod cache;
mod checksum;
mod client;
mod content;
mod download;
mod error;
mod file_name;
mod hub;
mod large_file;
mod location;
mod observer;
mod repository;
mod upload;

pub use content::{UploadContent, UploadFile};
pub use error::{HubError, RequestError};
pub use hub::{FileRequest, Hub};
pub use location::{HubId, Location};
pub use observer::{
    Transfer, TransferDirection, TransferObserver, TransferProgress, observe_transfers,
};
pub use repository::Repository;
pub use upload::{Commit, Committed};
