//! Which file of a directory holds the tensors of its adapter.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use eigenmix_gguf::is_gguf_name;
use eigenmix_tensors::{FileError, TensorFile};
use serde_json::Value;

use crate::AdapterError;
use crate::dialect::gguf_file;

/// The name that PEFT gives to the file with the tensors.
pub(crate) const WEIGHTS_NAME: &str = "adapter_model.safetensors";
/// The name that mlx-lm gives to it.
pub(crate) const MLX_WEIGHTS_NAME: &str = "adapters.safetensors";
/// What PEFT wrote before safetensors.
const PICKLED_NAME: &str = "adapter_model.bin";
/// What lists the shards of tensors that are too large for one file.
const INDEX_NAME: &str = "adapter_model.safetensors.index.json";

/// What an adapter is opened by: the first of these that its directory has.
const BY_PRIORITY: [&str; 3] = [WEIGHTS_NAME, INDEX_NAME, MLX_WEIGHTS_NAME];

/// What an adapter is opened by, by names of PEFT and mlx-lm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weights {
    /// A file of tensors of this name.
    File(&'static str),
    /// An index of this name, and the shards that it names.
    Shards(&'static str),
}

impl Weights {
    /// Those of a directory or a repository, if it has any.
    ///
    /// - has: whether it has a file of a name
    ///
    /// # Errors
    /// The name of the file if it is pickled.
    pub(crate) fn among(has: impl Fn(&str) -> bool) -> Result<Option<Self>, &'static str> {
        match BY_PRIORITY.into_iter().find(|name| has(name)) {
            Some(INDEX_NAME) => Ok(Some(Self::Shards(INDEX_NAME))),
            Some(name) => Ok(Some(Self::File(name))),
            None if has(PICKLED_NAME) => Err(PICKLED_NAME),
            None => Ok(None),
        }
    }
}

/// The adapter's directory, and its file of tensors or its shards as one.
///
/// # Errors
/// If there is no such file or more than one, it is pickled, it cannot be opened, or an index is
/// malformed.
pub(crate) fn open_weights(path: &Path) -> Result<(PathBuf, TensorFile), AdapterError> {
    if !path.exists() {
        return Err(FileError::NotFound(path.to_owned()).into());
    }
    if path.is_file() {
        let extension = path.extension().and_then(|extension| extension.to_str());
        return match extension {
            Some("safetensors") => {
                if is_shard(path) {
                    return Err(AdapterError::Shard(path.to_owned()));
                }
                Ok((parent_of(path), TensorFile::open(path)?))
            }
            _ if is_gguf_name(path) => Ok((parent_of(path), gguf_file::open(path)?)),
            Some("bin" | "pt" | "pth") => Err(AdapterError::PickledWeights(path.to_owned())),
            _ => Err(AdapterError::NotAnAdapter(path.to_owned())),
        };
    }
    let directory = path.to_owned();
    match Weights::among(|name| directory.join(name).exists()) {
        Ok(Some(Weights::File(name))) => {
            let tensors = TensorFile::open(&directory.join(name))?;
            return Ok((directory, tensors));
        }
        Ok(Some(Weights::Shards(index))) => {
            let tensors = open_shards(&directory.join(index))?;
            return Ok((directory, tensors));
        }
        Ok(None) => {}
        Err(pickled) => return Err(AdapterError::PickledWeights(directory.join(pickled))),
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
        (Some(weights), true) => return Ok((directory, TensorFile::open(&weights)?)),
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

/// The directory of a file.
fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Whether a file is one of several that hold the tensors together: `…-00001-of-00002.safetensors`.
pub(crate) fn is_shard(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some((rest, total)) = stem.rsplit_once("-of-") else {
        return false;
    };
    let number = rest.rsplit_once('-').map(|(_, number)| number);
    let is_tensor_file = path.extension().is_some_and(|found| found == "safetensors");
    is_tensor_file && is_number(total) && number.is_some_and(is_number)
}

/// The files that an index names, as one; all of them have to be there.
///
/// # Errors
/// If the index is malformed, a shard cannot be opened, or it lacks a tensor that the index says is in
/// it.
fn open_shards(index: &Path) -> Result<TensorFile, AdapterError> {
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
    let mut joined: Option<TensorFile> = None;
    for (path, tensors) in &tensors_of {
        let shard = TensorFile::open(path)?;
        if let Some(absent) = tensors.iter().find(|tensor| !shard.contains(tensor)) {
            let shard = path.file_name().unwrap_or_default().to_string_lossy();
            return Err(malformed(format!("`{shard}` has no tensor `{absent}`")));
        }
        joined = Some(match joined {
            Some(before) => before.joined_with(shard)?,
            None => shard,
        });
    }
    joined.ok_or_else(|| malformed("it names no file".to_owned()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_file_comes_before_an_index_and_both_before_the_file_of_mlx_and_a_pickled_one() {
        let all = [WEIGHTS_NAME, INDEX_NAME, MLX_WEIGHTS_NAME, PICKLED_NAME];
        let found: Vec<_> = (0..=all.len())
            .map(|left_out| Weights::among(|name| all[left_out..].contains(&name)))
            .collect();
        let expected = [
            Ok(Some(Weights::File(WEIGHTS_NAME))),
            Ok(Some(Weights::Shards(INDEX_NAME))),
            Ok(Some(Weights::File(MLX_WEIGHTS_NAME))),
            Err(PICKLED_NAME),
            Ok(None),
        ];
        assert_eq!(found, expected);
    }
}
