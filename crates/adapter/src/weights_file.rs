//! Which file of a directory holds the tensors of its adapter.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use eigenmix_tensors::{FileError, TensorFile};
use serde_json::Value;

use crate::AdapterError;

/// The name that PEFT gives to the file with the tensors.
pub(crate) const WEIGHTS_NAME: &str = "adapter_model.safetensors";
/// The name that mlx-lm gives to it.
pub(crate) const MLX_WEIGHTS_NAME: &str = "adapters.safetensors";
/// What PEFT wrote before safetensors.
pub(crate) const PICKLED_NAME: &str = "adapter_model.bin";

/// What lists the shards of tensors that are too large for one file.
pub(crate) const INDEX_NAME: &str = "adapter_model.safetensors.index.json";

/// The adapter's directory and its file of tensors, or its shards.
pub(crate) fn find_weights(path: &Path) -> Result<(PathBuf, Vec<PathBuf>), AdapterError> {
    if !path.exists() {
        return Err(FileError::NotFound(path.to_owned()).into());
    }
    if path.is_file() {
        let extension = path.extension().and_then(|extension| extension.to_str());
        return match extension {
            Some("safetensors") => {
                let directory = match path.parent() {
                    Some(parent) if !parent.as_os_str().is_empty() => parent,
                    _ => Path::new("."),
                };
                if is_shard(path) {
                    return Err(AdapterError::Shard(path.to_owned()));
                }
                Ok((directory.to_owned(), vec![path.to_owned()]))
            }
            Some("bin" | "pt" | "pth") => Err(AdapterError::PickledWeights(path.to_owned())),
            _ => Err(AdapterError::NotAnAdapter(path.to_owned())),
        };
    }
    let directory = path.to_owned();
    for name in [WEIGHTS_NAME, MLX_WEIGHTS_NAME] {
        let weights = directory.join(name);
        if weights.exists() {
            return Ok((directory, vec![weights]));
        }
    }
    let index = directory.join(INDEX_NAME);
    if index.exists() {
        let shards = shards(&index)?;
        return Ok((directory, shards));
    }
    let pickled = directory.join(PICKLED_NAME);
    if pickled.exists() {
        return Err(AdapterError::PickledWeights(pickled));
    }
    let entries = std::fs::read_dir(&directory).map_err(FileError::io("list", &directory))?;
    let is_tensor_file = |path: &PathBuf| {
        path.is_file()
            && path
                .extension()
                .is_some_and(|extension| extension == "safetensors")
    };
    let mut candidates: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(is_tensor_file)
        .collect();
    if let Some(shard) = candidates.iter().find(|path| is_shard(path)) {
        return Err(AdapterError::Shard(shard.clone()));
    }
    match (candidates.pop(), candidates.is_empty()) {
        (Some(weights), true) => return Ok((directory, vec![weights])),
        (Some(_), false) => {
            let found = list(&directory)?;
            return Err(AdapterError::SeveralFiles { directory, found });
        }
        (None, _) => {}
    }
    let found = list(&directory)?;
    if found.is_empty() {
        return Err(AdapterError::EmptyDirectory(directory));
    }
    Err(AdapterError::NoWeights { directory, found })
}

/// Whether a file is one of several that hold the tensors together: `…-00001-of-00002.safetensors`.
fn is_shard(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some((rest, total)) = stem.rsplit_once("-of-") else {
        return false;
    };
    let number = rest.rsplit_once('-').map(|(_, number)| number);
    is_number(total) && number.is_some_and(is_number)
}

/// The files that an index names, each once; all of them have to be there.
///
/// # Errors
/// If the index is malformed, or a shard lacks a tensor that the index says is in it.
fn shards(index: &Path) -> Result<Vec<PathBuf>, AdapterError> {
    let malformed = |problem: String| AdapterError::ShardIndex {
        path: index.to_owned(),
        problem,
    };
    let text = std::fs::read(index).map_err(FileError::io("read", index))?;
    let entries: Value = serde_json::from_slice(&text).map_err(|source| FileError::Json {
        path: index.to_owned(),
        source,
    })?;
    let map = entries.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| malformed("it has no object `weight_map`".to_owned()))?;
    let directory = index.parent().unwrap_or(Path::new("."));
    let mut tensors_of: BTreeMap<PathBuf, Vec<&str>> = BTreeMap::new();
    for (tensor, file) in map {
        let name = file.as_str().unwrap_or_default();
        // A name from a file must not lead out of the directory.
        if Path::new(name).file_name() != Some(name.as_ref()) {
            return Err(malformed(format!(
                "{file} is not the name of a file beside it"
            )));
        }
        tensors_of
            .entry(directory.join(name))
            .or_default()
            .push(tensor);
    }
    if tensors_of.is_empty() {
        return Err(malformed("it names no file".to_owned()));
    }
    for (path, tensors) in &tensors_of {
        let shard = TensorFile::open(path)?;
        if let Some(absent) = tensors.iter().find(|tensor| !shard.contains(tensor)) {
            let shard = path.file_name().unwrap_or_default().to_string_lossy();
            return Err(malformed(format!("`{shard}` has no tensor `{absent}`")));
        }
    }
    Ok(tensors_of.into_keys().collect())
}

/// The first few names in a directory.
pub(crate) fn list(directory: &Path) -> Result<String, AdapterError> {
    let entries = std::fs::read_dir(directory).map_err(FileError::io("list", directory))?;
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let more = if names.len() > 8 { ", …" } else { "" };
    names.truncate(8);
    Ok(format!("{}{more}", names.join(", ")))
}
