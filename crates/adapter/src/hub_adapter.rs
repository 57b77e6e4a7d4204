//! Adapters on the Hub: which files of a repository are wanted.

use std::path::PathBuf;

use eigenmix_hub::{FileRequest, Hub, HubId, Location};

use crate::weights_file::{INDEX_NAME, MLX_WEIGHTS_NAME, PICKLED_NAME, WEIGHTS_NAME};
use crate::{AdapterError, Labels, PeftConfig, Prompts};

/// The path of an ADAPTER argument: itself if it exists here, else downloaded from the Hub or found
/// in its cache.
///
/// # Errors
/// If the argument is neither a path nor a Hub id, or the Hub does not give the files of an adapter.
pub fn locate_adapter(argument: &str) -> Result<PathBuf, AdapterError> {
    match Location::parse(argument)? {
        Location::Path(path) => Ok(path),
        Location::Hub(id) => fetch_adapter(&Hub::from_env()?, &id),
    }
}

/// Fetches what an adapter's directory has and returns its path in the cache; of a repository with
/// no more than one file of kohya or diffusers, the path of the file.
///
/// # Errors
/// As [`Hub::fetch`], and if the repository only has a pickled file.
pub fn fetch_adapter(hub: &Hub, id: &HubId) -> Result<PathBuf, AdapterError> {
    let repository = hub.open(id)?;
    let has = |name: &str| repository.files().iter().any(|file| file == name);
    if has(PICKLED_NAME) && !has(WEIGHTS_NAME) && !has(INDEX_NAME) {
        let path = PathBuf::from(format!("{id}/{PICKLED_NAME}"));
        return Err(AdapterError::PickledWeights(path));
    }
    if !has(PeftConfig::FILE_NAME)
        && let Some(name) = only_tensor_file(repository.files())
    {
        let snapshot = repository.fetch(&[FileRequest::required(name)])?;
        return Ok(snapshot.join(name));
    }
    if has(INDEX_NAME) && !has(WEIGHTS_NAME) {
        let shards = repository
            .files()
            .iter()
            .filter(|name| name.starts_with("adapter_model-") && name.ends_with(".safetensors"));
        let mut requests = vec![
            FileRequest::required(PeftConfig::FILE_NAME),
            FileRequest::required(INDEX_NAME),
            FileRequest::optional(Labels::FILE_NAME),
            FileRequest::optional(Prompts::FILE_NAME),
        ];
        requests.extend(shards.map(FileRequest::required));
        return Ok(repository.fetch(&requests)?);
    }
    let weights = match has(MLX_WEIGHTS_NAME) && !has(WEIGHTS_NAME) {
        true => MLX_WEIGHTS_NAME,
        false => WEIGHTS_NAME,
    };
    let requests = [
        FileRequest::required(PeftConfig::FILE_NAME),
        FileRequest::required(weights),
        FileRequest::optional(Labels::FILE_NAME),
        FileRequest::optional(Prompts::FILE_NAME),
    ];
    Ok(repository.fetch(&requests)?)
}

/// The file of tensors at the root of a repository, if there is one only.
fn only_tensor_file(files: &[String]) -> Option<&str> {
    let is_tensor_file = |name: &&String| name.ends_with(".safetensors") && !name.contains('/');
    let mut found = files.iter().filter(is_tensor_file);
    let first = found.next()?;
    found.next().is_none().then_some(first)
}
