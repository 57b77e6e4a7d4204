//! The tensors of a checkpoint, in whatever form it has them.

mod bitsandbytes;
mod gguf;
mod packed_words;
mod plain;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use eigenmix_quant::EncodedMatrix;
use eigenmix_tensors::{Dtype, TensorFile};
use serde_json::Value;

use crate::ModelError;
pub(crate) use gguf::gguf_tensors;
use plain::Plain;

/// A tensor of a checkpoint. Its values are read when they are asked for.
pub(crate) trait StoredTensor: Send + Sync {
    /// The shape of the values, whatever the shape of what is stored.
    fn shape(&self) -> &[usize];

    /// The matrix as it is stored, if there is a form in which products read it.
    fn encoded(&self) -> Result<Option<EncodedMatrix>, ModelError>;

    /// All values in f32, row-major.
    fn read(&self) -> Result<Vec<f32>, ModelError>;

    /// The type of its values, if they are stored one by one.
    fn dtype(&self) -> Option<Dtype> {
        None
    }

    /// Whether it has fewer bits than the model was trained in.
    fn is_quantised(&self) -> bool {
        self.dtype().is_none()
    }

    /// What it is stored in, and how many bytes of the files that takes.
    fn stored(&self) -> Result<StoredSize, ModelError>;

    /// How many bytes [`StoredTensor::encoded`] would take, without making it.
    fn encoded_size(&self) -> Option<usize>;

    /// The safetensors file that has it as it is.
    fn file(&self) -> Option<&TensorFile> {
        None
    }
}

/// How a tensor lies in the files.
pub(crate) struct StoredSize {
    /// What people call the form, such as `BF16`, `Q4_K` or `NF4`.
    pub form: &'static str,
    /// Everything that gives the codes meaning included.
    pub bytes: usize,
}

/// The tensors of a checkpoint by their names.
pub(crate) type StoredTensors = BTreeMap<String, Box<dyn StoredTensor>>;

/// Where the tensors of files are, by name. A form takes those that it knows how to read together.
pub(crate) type Files = BTreeMap<String, Arc<TensorFile>>;

/// A form: takes what is its own out of the files, as the configuration describes it, and puts the
/// tensors that they make into the last argument.
type Form = fn(&mut Files, &Value, &mut StoredTensors) -> Result<(), ModelError>;

/// The forms of quantised checkpoints. What none of them takes is stored as it is.
const FORMS: [Form; 3] = [
    bitsandbytes::four_bits,
    bitsandbytes::eight_bits,
    packed_words::packed_words,
];

/// Finds the tensors of safetensors files.
///
/// # Errors
/// If the parts of a quantised tensor do not fit together, or the checkpoint is quantised in a way
/// that is not read.
pub(crate) fn stored_tensors(
    mut files: Files,
    config: &Value,
    directory: &Path,
) -> Result<StoredTensors, ModelError> {
    let mut tensors = StoredTensors::new();
    for form in FORMS {
        form(&mut files, config, &mut tensors)?;
    }
    let is_read = !tensors.is_empty();
    if let Some(method) = quantisation(config)
        && !is_read
    {
        return Err(ModelError::Quantisation {
            path: directory.to_owned(),
            method,
        });
    }
    // transformers and others turn GPT-2's weights before they quantise them, and some do not say so; of
    // a square one nobody could tell.
    if is_read && config.get("model_type").and_then(Value::as_str) == Some("gpt2") {
        return Err(ModelError::Quantisation {
            path: directory.to_owned(),
            method: "a GPT-2, whose weights tools store both as W and as its transpose".to_owned(),
        });
    }
    for (name, file) in files {
        let tensor = Plain::new(file, &name)?;
        tensors.insert(name, Box::new(tensor));
    }
    Ok(tensors)
}

/// How a configuration says that the weights are quantised.
fn quantisation(config: &Value) -> Option<String> {
    const FIELD: &str = "quantization_config";
    let nested = config.get("text_config").and_then(|text| text.get(FIELD));
    let found = config
        .get(FIELD)
        .or(nested)
        .filter(|found| !found.is_null())?;
    let method = found.get("quant_method").and_then(Value::as_str);
    Some(format!("quant_method: {}", method.unwrap_or("none")))
}
