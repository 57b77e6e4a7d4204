//! Adapters by what a user calls them: a path, or a repository whose files are fetched.

use std::path::PathBuf;

use eigenmix_adapter::{AdapterFile, RepositoryFiles};

use crate::{FileRequest, Hub, HubError, HubId, Location};

/// Opens an ADAPTER argument: a path, or a Hub id whose files are fetched first. The file keeps the
/// argument as its location.
///
/// # Errors
/// As [`locate_adapter`] and [`AdapterFile::open`].
pub fn open_adapter(argument: &str) -> Result<AdapterFile, HubError> {
    let file = AdapterFile::open(&locate_adapter(argument)?)?;
    Ok(file.with_location(argument))
}

/// The path of an ADAPTER argument: itself if it exists here, else downloaded from the Hub or found
/// in its cache.
///
/// # Errors
/// If the argument is neither a path nor a Hub id, or the Hub does not give the files of an adapter.
pub fn locate_adapter(argument: &str) -> Result<PathBuf, HubError> {
    match Location::parse(argument)? {
        Location::Path(path) => Ok(path),
        Location::Hub(id) => fetch_adapter(&Hub::from_env()?, &id),
    }
}

/// Fetches the tokenizer beside an adapter on the Hub, if it has one: only what runs a model needs it,
/// and it may be larger than the adapter. Of a path there is nothing to fetch.
///
/// # Errors
/// As [`Hub::fetch`].
pub fn fetch_tokenizer(argument: &str) -> Result<(), HubError> {
    let Location::Hub(id) = Location::parse(argument)? else {
        return Ok(());
    };
    let names = [
        "tokenizer.json",
        "special_tokens_map.json",
        "added_tokens.json",
    ];
    let requests = names.map(FileRequest::optional);
    Hub::from_env()?.open(&id)?.fetch(&requests)?;
    Ok(())
}

/// Fetches what an adapter's directory has and returns its path in the cache; of a repository with
/// no more than one file of kohya or diffusers, the path of the file.
///
/// # Errors
/// As [`Hub::fetch`], and if the repository only has a pickled file.
pub fn fetch_adapter(hub: &Hub, id: &HubId) -> Result<PathBuf, HubError> {
    let repository = hub.open(id)?;
    let files = RepositoryFiles::of(&id.to_string(), repository.files())?;
    let required = files.required.iter().map(FileRequest::required);
    let optional = files.optional.iter().copied().map(FileRequest::optional);
    let requests: Vec<FileRequest> = required.chain(optional).collect();
    let snapshot = repository.fetch(&requests)?;
    Ok(match (files.is_single_file, files.required.first()) {
        (true, Some(name)) => snapshot.join(name),
        _ => snapshot,
    })
}
