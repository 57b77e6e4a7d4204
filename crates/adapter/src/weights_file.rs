//! Which file of a directory holds the tensors of its adapter.

use std::path::{Path, PathBuf};

use eigenmix_tensors::FileError;

use crate::AdapterError;

/// The name that PEFT gives to the file with the tensors.
pub(crate) const WEIGHTS_NAME: &str = "adapter_model.safetensors";
/// The name that mlx-lm gives to it.
pub(crate) const MLX_WEIGHTS_NAME: &str = "adapters.safetensors";
/// What PEFT wrote before safetensors.
pub(crate) const PICKLED_NAME: &str = "adapter_model.bin";

/// The adapter's directory and its file of tensors.
pub(crate) fn find_weights(path: &Path) -> Result<(PathBuf, PathBuf), AdapterError> {
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
                Ok((directory.to_owned(), path.to_owned()))
            }
            Some("bin" | "pt" | "pth") => Err(AdapterError::PickledWeights(path.to_owned())),
            _ => Err(AdapterError::NotAnAdapter(path.to_owned())),
        };
    }
    let directory = path.to_owned();
    for name in [WEIGHTS_NAME, MLX_WEIGHTS_NAME] {
        let weights = directory.join(name);
        if weights.exists() {
            return Ok((directory, weights));
        }
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
    match (candidates.pop(), candidates.is_empty()) {
        (Some(weights), true) => return Ok((directory, weights)),
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
