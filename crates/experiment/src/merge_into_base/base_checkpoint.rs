//! The directory of a base model: its configuration, its weights in one file or several, and what
//! lies beside them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use eigenmix_adapter::{AdapterError, Labels, Provenance};
use eigenmix_tensors::{FileError, TensorFile, write_file};
use serde_json::{Map, Value, json};

use crate::BadInput;
use crate::ExperimentError;

const CONFIG: &str = "config.json";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Files with these endings make a checkpoint usable: tokenizers, templates, generation settings.
const COMPANION_ENDINGS: [&str; 4] = ["json", "txt", "model", "jinja"];
/// Files beginning so go wherever the weights go.
const TERMS: [&str; 2] = ["LICENSE", "NOTICE"];

/// An opened base model; tensors are read when they are asked for.
#[derive(Debug)]
pub struct BaseCheckpoint {
    directory: PathBuf,
    config: Map<String, Value>,
    shards: Vec<TensorFile>,
    /// Which of the shards has a tensor.
    shard_of: BTreeMap<String, usize>,
    is_sharded: bool,
}

impl BaseCheckpoint {
    /// Opens the model in `directory`.
    ///
    /// # Errors
    /// If its configuration or a file of its weights is missing or damaged.
    pub fn open(directory: &Path) -> Result<Self, ExperimentError> {
        if !directory.is_dir() {
            return Err(FileError::NotFound(directory.to_owned()).into());
        }
        let config = read_object(&directory.join(CONFIG))?;
        let index = directory.join(INDEX);
        let is_sharded = !directory.join(SINGLE).exists() && index.exists();
        let files = if is_sharded {
            shard_names(&index)?
        } else {
            vec![SINGLE.to_owned()]
        };
        let shards = files
            .iter()
            .map(|file| TensorFile::open(&directory.join(file)))
            .collect::<Result<Vec<_>, _>>()?;
        let mut shard_of = BTreeMap::new();
        for (index, shard) in shards.iter().enumerate() {
            shard_of.extend(shard.names().map(|name| (name.to_owned(), index)));
        }
        Ok(Self {
            directory: directory.to_owned(),
            config,
            shards,
            shard_of,
            is_sharded,
        })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// `config.json`.
    pub(super) fn config(&self) -> &Map<String, Value> {
        &self.config
    }

    pub(super) fn model_type(&self) -> Option<&str> {
        self.config.get("model_type").and_then(Value::as_str)
    }

    /// # Errors
    /// If config.json says that the weights are quantised, so that nothing can be added to them.
    pub(super) fn refuse_quantised(&self) -> Result<(), BadInput> {
        let nested = self.config.get("text_config").and_then(Value::as_object);
        let field = |config: &'_ Map<String, Value>| config.get("quantization_config").cloned();
        let Some(found) = field(&self.config).or_else(|| nested.and_then(field)) else {
            return Ok(());
        };
        if found.is_null() {
            return Ok(());
        }
        let method = found.get("quant_method").and_then(Value::as_str);
        Err(BadInput(format!(
            "base model `{}` is quantised ({}, says its config.json), and an update cannot be added to quantised weights; merge into the unquantised model that it was made from, and quantise the result",
            self.directory.display(),
            method.unwrap_or("quantization_config")
        )))
    }

    /// At least one.
    pub(super) fn shards(&self) -> &[TensorFile] {
        &self.shards
    }

    /// The names of all tensors, sorted.
    pub(super) fn tensor_names(&self) -> Vec<&str> {
        self.shard_of.keys().map(String::as_str).collect()
    }

    pub(super) fn contains(&self, tensor: &str) -> bool {
        self.shard_of.contains_key(tensor)
    }

    /// The file that has `tensor`.
    ///
    /// # Errors
    /// If none has.
    pub(super) fn file_of(&self, tensor: &str) -> Result<&TensorFile, FileError> {
        match self.shard_of.get(tensor) {
            Some(&shard) => Ok(&self.shards[shard]),
            None => Err(FileError::NoSuchTensor {
                path: self.directory.clone(),
                tensor: tensor.to_owned(),
            }),
        }
    }

    /// The name of a shard in its directory.
    pub(super) fn file_name(shard: &TensorFile) -> String {
        let name = shard.path().file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Copies what a user of the model needs beside the weights and `config.json`.
    pub(super) fn copy_companions(&self, target: &Path) -> Result<(), AdapterError> {
        let entries =
            fs::read_dir(&self.directory).map_err(FileError::io("list", &self.directory))?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_file() && is_companion(&name) {
                let bytes = fs::read(entry.path()).map_err(FileError::io("read", &entry.path()))?;
                write_file(&target.join(name), &bytes)?;
            }
        }
        Ok(())
    }

    /// Writes the index of several files; one file has none.
    ///
    /// - file_of: the file of every tensor of the result.
    pub(super) fn write_index(
        &self,
        target: &Path,
        file_of: &BTreeMap<String, String>,
        total_bytes: usize,
    ) -> Result<(), ExperimentError> {
        if !self.is_sharded {
            return Ok(());
        }
        let index = json!({"metadata": {"total_size": total_bytes}, "weight_map": file_of});
        write_file(&target.join(INDEX), format!("{index:#}\n").as_bytes())?;
        Ok(())
    }
}

/// Whether a file beside the weights belongs into a copy of the model.
fn is_companion(name: &str) -> bool {
    let is_replaced = [CONFIG, INDEX, Provenance::FILE_NAME, Labels::FILE_NAME].contains(&name);
    let describes_other_weights = name.ends_with(".index.json") || name.starts_with("adapter_");
    if is_replaced || describes_other_weights {
        return false;
    }
    let ending = Path::new(name).extension().unwrap_or_default();
    COMPANION_ENDINGS
        .iter()
        .any(|companion| ending == *companion)
        || TERMS.iter().any(|terms| name.starts_with(terms))
}

/// The files that an index names, each once.
fn shard_names(index: &Path) -> Result<Vec<String>, ExperimentError> {
    let entries = read_object(index)?;
    let malformed = |problem: String| BadInput(format!("`{}`: {problem}", index.display()));
    let files = entries
        .get("weight_map")
        .and_then(Value::as_object)
        .ok_or_else(|| malformed("it has no `weight_map`".to_owned()))?;
    let mut names = Vec::new();
    for file in files.values() {
        let name = file.as_str().unwrap_or_default();
        // A name from a file must not lead out of the directory.
        if Path::new(name).file_name() != Some(name.as_ref()) {
            return Err(malformed(format!("{file} is not the name of a file beside it")).into());
        }
        names.push(name.to_owned());
    }
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Err(malformed("it names no file".to_owned()).into());
    }
    Ok(names)
}

fn read_object(path: &Path) -> Result<Map<String, Value>, ExperimentError> {
    let text = fs::read(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => FileError::NotFound(path.to_owned()),
        _ => FileError::io("read", path)(source),
    })?;
    let parsed = serde_json::from_slice(&text).map_err(|source| FileError::Json {
        path: path.to_owned(),
        source,
    });
    Ok(parsed?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokenizers_and_licences_go_along_and_other_weights_do_not() {
        for name in [
            "tokenizer.json",
            "vocab.txt",
            "spiece.model",
            "LICENSE",
            "NOTICE.txt",
        ] {
            assert!(is_companion(name), "{name}");
        }
        for name in [
            "config.json",
            "model.safetensors",
            "pytorch_model.bin",
            "pytorch_model.bin.index.json",
            "adapter_config.json",
            "README.md",
        ] {
            assert!(!is_companion(name), "{name}");
        }
    }

    #[test]
    fn an_index_that_leads_out_of_its_directory_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let index = directory.path().join(INDEX);
        for name in ["../model.safetensors", "/etc/passwd", "..", ""] {
            let text = json!({"weight_map": {"w": name}}).to_string();
            fs::write(&index, text).expect("a file");
            let error = shard_names(&index).expect_err("an error").to_string();
            assert!(error.contains("not the name of a file"), "{error}");
        }
    }
}
