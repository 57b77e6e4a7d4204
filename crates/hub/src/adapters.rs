//! The files of an adapter in a repository.

use std::path::PathBuf;

use eigenmix_adapter::RepositoryFiles;

use crate::{FileRequest, Hub, HubError, HubFile, HubId};

/// Fetches the tokenizer beside an adapter, if it has one.
///
/// # Errors
/// As [`Hub::fetch`].
pub fn fetch_tokenizer(id: &HubId) -> Result<(), HubError> {
    let names = [
        "tokenizer.json",
        "special_tokens_map.json",
        "added_tokens.json",
    ];
    let requests = names.map(FileRequest::optional);
    Hub::from_env()?.open(id)?.fetch(&requests)?;
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

/// Fetches one adapter of a repository that has several, each in a file: the path of that file.
///
/// # Errors
/// As [`Hub::fetch`].
pub fn fetch_adapter_file(hub: &Hub, file: &HubFile) -> Result<PathBuf, HubError> {
    let request = FileRequest::required(&file.name);
    Ok(hub.open(&file.id)?.fetch(&[request])?.join(&file.name))
}
