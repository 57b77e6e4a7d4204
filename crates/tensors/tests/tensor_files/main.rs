//! Safetensors files as they are read.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod broken;
mod values;

use eigenmix_tensors::{FileError, TensorFile};

/// A file with the given header text and data.
fn open(header: &str, data: &[u8]) -> Result<TensorFile, FileError> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    open_bytes(&bytes)
}

fn open_bytes(bytes: &[u8]) -> Result<TensorFile, FileError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file.safetensors");
    std::fs::write(&path, bytes).unwrap();
    TensorFile::open(&path)
}
