//! Where an adapter came from, and how a new one was made from others.

use std::io::ErrorKind;
use std::path::Path;

use eigenmix_tensors::FileError;
use serde::{Deserialize, Serialize};

/// One file that went into a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The directory or Hub id as it was given.
    pub location: String,
    /// The SHA-256 of its adapter_model.safetensors, in hexadecimal.
    pub sha256: String,
}

/// How an adapter was made: what goes into `eigenmix.json` beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The version of Eigenmix that made it.
    pub version: String,
    /// The command and method, such as `merge core ties`.
    pub method: String,
    /// The adapters that it was made from, in the order in which they were given.
    pub sources: Vec<Source>,
    /// The options that shaped the result.
    pub options: serde_json::Value,
    /// How rows became inputs of the model in the training, in the words of its configuration; nothing
    /// where nobody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<serde_json::Value>,
}

/// A file that goes with an adapter and is no part of it: the tokenizer and the chat template that it
/// was trained with, under the names that other tools look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Companion {
    pub name: String,
    pub content: Vec<u8>,
}

impl Companion {
    /// Those of the files `names` that `directory` has.
    ///
    /// # Errors
    /// If one is there and cannot be read.
    pub fn read_all(directory: &Path, names: &[&str]) -> Result<Vec<Self>, FileError> {
        let mut found = Vec::new();
        for name in names {
            let path = directory.join(name);
            if path.is_file() {
                found.push(Self {
                    name: (*name).to_owned(),
                    content: std::fs::read(&path).map_err(FileError::io("read", &path))?,
                });
            }
        }
        Ok(found)
    }
}

impl Provenance {
    /// The name of the file that carries it.
    pub const FILE_NAME: &str = "eigenmix.json";

    /// What the file in `directory` says, as it is written; nothing where there is none, as beside a
    /// model that is a file itself.
    ///
    /// # Errors
    /// If it cannot be read or is not a JSON object.
    pub fn read_json(
        directory: &Path,
    ) -> Result<Option<serde_json::Map<String, serde_json::Value>>, FileError> {
        let path = directory.join(Self::FILE_NAME);
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|source| FileError::Json { path, source }),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(FileError::io("read", &path)(error)),
        }
    }
}
