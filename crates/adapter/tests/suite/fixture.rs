//! Small adapter directories made for a test.

use std::path::{Path, PathBuf};

use eigenmix_tensors::{TensorOutput, write_tensor_file};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A directory under construction, removed with its value.
pub struct Fixture {
    root: TempDir,
}

impl Fixture {
    pub fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self) -> PathBuf {
        self.root.path().join("some-adapter")
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        std::fs::create_dir_all(self.path()).unwrap();
        std::fs::write(self.path().join(name), content).unwrap();
        self
    }

    /// A LoRA configuration of rank 2, alpha 6 for `query`, with `fields` on top.
    pub fn config(&self, fields: Value) -> &Self {
        let mut config = json!({
            "peft_type": "LORA",
            "base_model_name_or_path": "org/base",
            "r": 2,
            "lora_alpha": 6,
            "target_modules": ["query"],
        });
        for (key, value) in fields.as_object().unwrap() {
            config[key] = value.clone();
        }
        self.file("adapter_config.json", config.to_string())
    }

    /// adapter_model.safetensors with tensors counted up from a different number each.
    pub fn tensors(&self, tensors: &[(&str, &[usize])]) -> &Self {
        std::fs::create_dir_all(self.path()).unwrap();
        let values: Vec<Vec<f32>> = tensors
            .iter()
            .enumerate()
            .map(|(index, (_, shape))| counted(index as f32 + 1.0, shape.iter().product()))
            .collect();
        let outputs = tensors
            .iter()
            .zip(&values)
            .map(|((name, shape), values)| TensorOutput::f32(*name, *shape, values))
            .collect();
        write_tensor_file(&self.path().join("adapter_model.safetensors"), outputs).unwrap();
        self
    }
}

/// `count` numbers from `first` in steps of a quarter.
pub fn counted(first: f32, count: usize) -> Vec<f32> {
    (0..count)
        .map(|index| first + 0.25 * index as f32)
        .collect()
}

pub const QUERY_A: &str = "base_model.model.layer.0.query.lora_A.weight";
pub const QUERY_B: &str = "base_model.model.layer.0.query.lora_B.weight";

/// A [2, 3] and B [4, 2]: no size equals another.
pub const QUERY: [(&str, &[usize]); 2] = [(QUERY_A, &[2, 3]), (QUERY_B, &[4, 2])];

/// [`QUERY`] and more.
pub fn query_and<'a>(more: &[(&'a str, &'a [usize])]) -> Vec<(&'a str, &'a [usize])> {
    QUERY.iter().copied().chain(more.iter().copied()).collect()
}
