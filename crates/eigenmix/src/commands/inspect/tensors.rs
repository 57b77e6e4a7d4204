//! A safetensors file of any kind: its tensors.

use std::collections::BTreeMap;
use std::fmt;

use eigenmix_adapter::AdapterError;
use eigenmix_tensors::TensorFile;
use serde::Serialize;

use eigenmix_experiment::ByteCount;
use eigenmix_experiment::Table;

#[derive(Serialize)]
pub(super) struct TensorListing {
    kind: &'static str,
    location: String,
    sha256: String,
    bytes: u64,
    numbers: usize,
    tensors: BTreeMap<String, TensorEntry>,
}

#[derive(Serialize)]
struct TensorEntry {
    dtype: String,
    shape: Vec<usize>,
    bytes: u64,
}

impl TensorListing {
    pub(super) fn read(file: &TensorFile) -> Result<Self, AdapterError> {
        let tensors: BTreeMap<String, TensorEntry> = file
            .names()
            .map(|name| {
                let (shape, dtype) = file.tensor(name)?;
                let entry = TensorEntry {
                    dtype: dtype.to_string(),
                    shape,
                    bytes: file.view(name)?.len() as u64,
                };
                Ok((name.to_owned(), entry))
            })
            .collect::<Result<_, AdapterError>>()?;
        Ok(Self {
            kind: "tensors",
            location: file.path().display().to_string(),
            sha256: file.sha256(),
            bytes: tensors.values().map(|tensor| tensor.bytes).sum(),
            numbers: tensors
                .values()
                .map(|tensor| tensor.shape.iter().product::<usize>())
                .sum(),
            tensors,
        })
    }
}

impl fmt::Display for TensorListing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::with_header(["tensor", "dtype", "shape", "bytes"]);
        for (name, tensor) in &self.tensors {
            table.push([
                name.clone(),
                tensor.dtype.clone(),
                format!("{:?}", tensor.shape),
                tensor.bytes.to_string(),
            ]);
        }
        write!(
            formatter,
            "{table}\n{} tensors, {} values, {}",
            self.tensors.len(),
            self.numbers,
            ByteCount(self.bytes)
        )
    }
}
