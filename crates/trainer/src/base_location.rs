//! Where a base model is, and which of its files are fetched from the Hub.

use std::path::{Path, PathBuf};

use eigenmix_adapter::RepositoryFiles;
use eigenmix_diffusion::Pipeline;
use eigenmix_gguf::{GgufFile, is_gguf_name, part_names, text_in_beginning};
use eigenmix_hub::{FileRequest, Hub, HubFile, HubId, Location, Repository};
use eigenmix_models::{ModelError, is_gguf, shard_names};

use crate::TrainerError;
use crate::base_model::COMPANIONS;

/// Of the metadata of a GGUF file.
const TYPE: &str = "general.type";
const CONFIG: &str = "config.json";
const SINGLE_FILE: &str = "model.safetensors";
const SHARD_INDEX: &str = "model.safetensors.index.json";
/// Weights that are never opened, since they can run code.
const PICKLED: [&str; 2] = ["pytorch_model.bin", "pytorch_model.bin.index.json"];

/// Which files of a base model to fetch from the Hub.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Wanted {
    /// Everything but the weights, which may be gigabytes.
    Description,
    Weights,
}

/// The directory or the GGUF file of a base model named by a path, a Hub id or a file on the Hub.
pub(crate) fn locate(name: &str, wanted: Wanted) -> Result<PathBuf, TrainerError> {
    if let Some(file) = HubFile::parse(name)? {
        return fetch_file(&Hub::from_env()?, &file);
    }
    match Location::parse(name)? {
        Location::Path(path) => {
            if !path.join(CONFIG).is_file() && Pipeline::is_at(&path) {
                let model = name.to_owned();
                return Err(TrainerError::DiffusionModel { model });
            }
            require_named_file(&path, wanted)?;
            Ok(path)
        }
        Location::Hub(id) => fetch(&Hub::from_env()?, &id, wanted),
    }
}

/// Whether a name is that of a model or a file on the Hub, rather than a path.
///
/// # Errors
/// If it is neither.
pub(crate) fn is_on_hub(name: &str) -> Result<bool, TrainerError> {
    let is_file = HubFile::parse(name)?.is_some();
    Ok(is_file || matches!(Location::parse(name)?, Location::Hub(_)))
}

/// Whether an argument names a base model, going by its files: nothing is fetched, but for the beginning of
/// the only GGUF file of a repository, which may be an adapter.
///
/// # Errors
/// If it is neither a path nor a Hub id, or the Hub does not answer.
pub fn is_base_model(argument: &str) -> Result<bool, TrainerError> {
    if let Some(file) = HubFile::parse(argument)? {
        if !is_gguf_name(&file.name) {
            return Ok(false);
        }
        let repository = Hub::from_env()?.open(&file.id)?;
        return Ok(!begins_as_adapter(&repository, &file.name)?);
    }
    let files = match Location::parse_owned(argument)? {
        Location::Path(path) if path.is_dir() => files_in(&path),
        Location::Path(path) => {
            if !is_gguf(&path) {
                return Ok(false);
            }
            let file = GgufFile::open(&path).map_err(ModelError::from)?;
            let kind = file.text(TYPE).map_err(ModelError::from)?;
            return Ok(kind != Some("adapter"));
        }
        Location::Hub(id) => {
            let repository = Hub::from_env()?.open(&id)?;
            if is_gguf_adapter(&repository, &id)? {
                return Ok(false);
            }
            repository.files().to_vec()
        }
    };
    let has = |name: &str| files.iter().any(|file| file == name);
    let is_adapter = files.iter().any(|file| file.starts_with("adapter"));
    let is_model = has(CONFIG) || only_gguf(&files, Wanted::Weights).is_some();
    Ok(is_model && !is_adapter)
}

/// Whether a repository is one GGUF file of an adapter, by the metadata in front.
fn is_gguf_adapter(repository: &Repository, id: &HubId) -> Result<bool, TrainerError> {
    let Ok(files) = RepositoryFiles::of(&id.to_string(), repository.files()) else {
        return Ok(false);
    };
    match files.required.first() {
        Some(name) if files.is_single_file && is_gguf_name(name) => {
            begins_as_adapter(repository, name)
        }
        _ => Ok(false),
    }
}

/// Whether a GGUF file of a repository is an adapter, by the metadata in front.
fn begins_as_adapter(repository: &Repository, name: &str) -> Result<bool, TrainerError> {
    // Tokenizers and the like come behind.
    const ENOUGH: u64 = 1 << 16;
    let beginning = repository.beginning(name, ENOUGH)?;
    Ok(text_in_beginning(&beginning, TYPE).as_deref() == Some("adapter"))
}

/// The names of what is in a directory, sorted.
fn files_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    files.sort_unstable();
    files
}

/// Refuses a directory that has nothing but GGUF files, of which none is named.
fn require_named_file(directory: &Path, wanted: Wanted) -> Result<(), TrainerError> {
    let files = files_in(directory);
    let named = |file: &str| directory.join(file).display().to_string();
    match only_gguf(&files, wanted) {
        Some(found) => Err(TrainerError::OnlyGguf {
            model: directory.display().to_string(),
            example: named(&found[0]),
            files: found.join(", "),
        }),
        None => Ok(()),
    }
}

/// The GGUF files, without further parts of split ones, if there are no weights in another form.
fn only_gguf(files: &[String], wanted: Wanted) -> Option<Vec<String>> {
    let has = |name: &str| files.iter().any(|file| file == name);
    if has(SINGLE_FILE) || has(SHARD_INDEX) || wanted == Wanted::Description && has(CONFIG) {
        return None;
    }
    let is_model = |file: &&String| is_gguf_name(file) && part_names(file).first() == Some(file);
    let found: Vec<String> = files.iter().filter(is_model).cloned().collect();
    (!found.is_empty()).then_some(found)
}

/// Fetches one file, or all parts of it if it was split.
fn fetch_file(hub: &Hub, file: &HubFile) -> Result<PathBuf, TrainerError> {
    if !is_gguf_name(&file.name) {
        return Err(TrainerError::FileOfBase {
            file: file.name.clone(),
            model: file.id.to_string(),
        });
    }
    let parts = part_names(&file.name).into_iter();
    let parts: Vec<FileRequest> = parts.map(FileRequest::required).collect();
    Ok(hub.open(&file.id)?.fetch(&parts)?.join(&file.name))
}

/// Fetches only the requested files of a model: repositories often have the same weights in several
/// formats.
fn fetch(hub: &Hub, id: &HubId, wanted: Wanted) -> Result<PathBuf, TrainerError> {
    let repository = hub.open(id)?;
    if let Some(found) = only_gguf(repository.files(), wanted) {
        let revision = id.revision().map(|revision| format!("@{revision}"));
        return Err(TrainerError::OnlyGguf {
            model: id.to_string(),
            example: format!(
                "{}:{}{}",
                id.repository(),
                found[0],
                revision.unwrap_or_default()
            ),
            files: found.join(", "),
        });
    }
    let mut requests = vec![FileRequest::required(CONFIG)];
    requests.extend(COMPANIONS.map(FileRequest::optional));
    if wanted == Wanted::Description {
        return Ok(repository.fetch(&requests)?);
    }
    let has = |name: &str| repository.files().iter().any(|file| file == name);
    if has(SHARD_INDEX) && !has(SINGLE_FILE) {
        requests.push(FileRequest::required(SHARD_INDEX));
        let directory = repository.fetch(&requests)?;
        let shards = shard_names(&directory.join(SHARD_INDEX))?;
        let shards: Vec<FileRequest> = shards.into_iter().map(FileRequest::required).collect();
        return Ok(repository.fetch(&shards)?);
    }
    if !has(SINGLE_FILE)
        && let Some(pickled) = PICKLED.into_iter().find(|name| has(name))
    {
        return Err(TrainerError::PickledBase {
            model: id.to_string(),
            file: pickled,
        });
    }
    requests.push(FileRequest::required(SINGLE_FILE));
    Ok(repository.fetch(&requests)?)
}
