//! Where an adapter came from, and how a new one was made from others.

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
}

impl Provenance {
    /// The name of the file that carries it.
    pub const FILE_NAME: &str = "eigenmix.json";
}
