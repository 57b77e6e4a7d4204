//! The bytes of a header, put together without checks.

use std::path::{Path, PathBuf};

use eigenmix_gguf::{GgufError, GgufFile};

pub const F32: u32 = 0;
pub const Q8_0: u32 = 8;

/// A file of version 3 with values and tensors as they are given.
#[derive(Default)]
pub struct Header {
    pub values: Vec<Vec<u8>>,
    pub tensors: Vec<Vec<u8>>,
    pub data: Vec<u8>,
}

impl Header {
    pub fn with_value(mut self, key: &str, number: u32, content: &[u8]) -> Self {
        let value = [&text(key), &number.to_le_bytes()[..], content].concat();
        self.values.push(value);
        self
    }

    pub fn with_tensor(mut self, name: &str, dimensions: &[u64], format: u32, offset: u64) -> Self {
        let mut tensor = text(name);
        tensor.extend((dimensions.len() as u32).to_le_bytes());
        tensor.extend(dimensions.iter().flat_map(|size| size.to_le_bytes()));
        tensor.extend(format.to_le_bytes());
        tensor.extend(offset.to_le_bytes());
        self.tensors.push(tensor);
        self
    }

    pub fn with_data(mut self, bytes: usize) -> Self {
        self.data = vec![0; bytes];
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.values.len() as u64).to_le_bytes());
        bytes.extend(self.values.concat());
        bytes.extend(self.tensors.concat());
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }

    pub fn error(&self) -> GgufError {
        error_of(&self.bytes())
    }
}

pub fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// Why these bytes are refused.
pub fn error_of(bytes: &[u8]) -> GgufError {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("file.gguf");
    std::fs::write(&path, bytes).expect("a file");
    match GgufFile::open(&path) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/gguf")
        .join(name)
}
