//! The reference values of the tiny LLaVA, and files of some of them.

use std::path::{Path, PathBuf};

use eigenmix_tensors::{TensorFile, TensorOutput, write_tensor_file};

use crate::support::Workplace;

/// A file or directory of the reference.
pub fn golden(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/llava");
    folder.join(name).to_str().expect("UTF-8").to_owned()
}

pub fn reference() -> TensorFile {
    TensorFile::open(Path::new(&golden("reference.safetensors"))).expect("a reference")
}

/// Writes tensors of the reference under other names, as `eigenmix forward` reads them.
pub fn write_tensors(reference: &TensorFile, tensors: &[(&str, &str)], path: &Path) {
    let outputs = tensors.iter().map(|(key, name)| {
        let (shape, dtype) = reference.tensor(key).expect("a tensor");
        let bytes = reference.view(key).expect("bytes");
        TensorOutput::bytes(*name, shape.to_vec(), dtype, bytes)
    });
    write_tensor_file(path, outputs.collect()).expect("a file");
}

/// Writes the inputs of a batch of the reference.
pub fn write_inputs(place: &Workplace, reference: &TensorFile, batch: &str) -> PathBuf {
    let names = ["input_ids", "attention_mask", "pixel_values"];
    let keys = names.map(|name| (format!("{batch}.{name}"), format!("input.{name}")));
    let found = keys.iter().filter(|(key, _)| reference.contains(key));
    let tensors: Vec<(&str, &str)> = found.map(|(key, name)| (&key[..], &name[..])).collect();
    let path = place.path(&format!("{batch}.safetensors"));
    write_tensors(reference, &tensors, &path);
    path
}

/// Those of the logits `[batch, length, vocabulary]` that are no padding's.
pub fn unpadded(reference: &TensorFile, batch: &str, logits: &[f32]) -> Vec<f32> {
    let key = format!("{batch}.attention_mask");
    let mask = reference.read_i64(&key).expect("a mask");
    let vocabulary = logits.len() / mask.len();
    let rows = mask.iter().zip(logits.chunks_exact(vocabulary));
    rows.filter(|(one, _)| **one != 0)
        .flat_map(|(_, row)| row.to_vec())
        .collect()
}
