//! Where the adapter is that an argument stands for.

use std::path::{Path, PathBuf};

use eigenmix_adapter::{AdapterFile, PeftConfig};
use eigenmix_hub::{
    Hub, HubError, HubFile, HubId, Location, cache_of_eigenmix, fetch_adapter, fetch_adapter_file,
    fetch_tokenizer,
};
use eigenmix_store::StoredName;

use crate::TrainerError;
use crate::run::Run;

/// Where unpacked adapters of stores are, in the cache.
const UNPACKED: &str = "stores";

/// An argument that names an adapter: a path, of a run the adapter that it trained, an adapter of a store
/// as `STORE#NAME`, a Hub id, or a file on the Hub.
#[derive(Debug)]
pub enum AdapterPlace<'a> {
    /// An existing path.
    Path(PathBuf),
    Stored(StoredName<'a>),
    Hub(HubId),
    HubFile(HubFile),
}

impl<'a> AdapterPlace<'a> {
    /// # Errors
    /// If the argument is none of them.
    pub fn parse(argument: &'a str) -> Result<Self, HubError> {
        if let Some(stored) = StoredName::split(argument).filter(StoredName::is_in_store) {
            return Ok(Self::Stored(stored));
        }
        if let Some(file) = HubFile::parse(argument)? {
            return Ok(Self::HubFile(file));
        }
        Ok(match Location::parse_owned(argument)? {
            Location::Path(path) => Self::Path(path),
            Location::Hub(id) => Self::Hub(id),
        })
    }

    /// Whether it is on this machine, without being fetched.
    pub fn is_here(&self) -> bool {
        !matches!(self, Self::Hub(_) | Self::HubFile(_))
    }
}

/// The path of the adapter that `argument` stands for: of a Hub id where its files were downloaded to, of an
/// adapter of a store where it was unpacked to, which is in the same cache.
///
/// # Errors
/// If it is none of [`AdapterPlace`], the Hub does not give the files, or the store is damaged.
pub fn locate_adapter(argument: &str) -> Result<PathBuf, TrainerError> {
    let path = match AdapterPlace::parse(argument)? {
        AdapterPlace::Path(path) => path,
        AdapterPlace::Stored(stored) => {
            return Ok(stored.unpacked(&cache_of_eigenmix()?.join(UNPACKED))?);
        }
        AdapterPlace::Hub(id) => fetch_adapter(&Hub::from_env()?, &id)?,
        AdapterPlace::HubFile(file) => {
            return Ok(fetch_adapter_file(&Hub::from_env()?, &file)?);
        }
    };
    let trained = Run::at(&path).adapter();
    let is_adapter = |directory: &Path| {
        let mut names = [PeftConfig::FILE_NAME, Run::PIPELINE_ADAPTER].into_iter();
        names.any(|name| directory.join(name).exists())
    };
    let is_run = !is_adapter(&path) && is_adapter(&trained);
    Ok(if is_run { trained } else { path })
}

/// Opens the adapter that `argument` stands for; the file keeps the argument as its location.
///
/// # Errors
/// As [`locate_adapter`], and if the adapter is damaged.
pub fn open_adapter(argument: &str) -> Result<AdapterFile, TrainerError> {
    let file = AdapterFile::open(&locate_adapter(argument)?)?;
    Ok(file.with_location(argument))
}

/// Fetches the tokenizer beside an adapter on the Hub, if it has one: only what runs a model needs it, and
/// it may be larger than the adapter. Of everything else there is nothing to fetch.
///
/// # Errors
/// If the Hub does not answer.
pub fn fetch_tokenizer_of(argument: &str) -> Result<(), TrainerError> {
    if let AdapterPlace::Hub(id) = AdapterPlace::parse(argument)? {
        fetch_tokenizer(&id)?;
    }
    Ok(())
}
