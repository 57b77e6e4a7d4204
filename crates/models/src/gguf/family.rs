//! The model family of a GGUF file.

use eigenmix_gguf::{GgufFamily, GgufFile};

use crate::ModelError;

const SUPPORTED: &str = "llama (LLaMA, Mistral and what is built like them), qwen2, qwen3 and \
                         gemma2 in GGUF files";

/// The family of a file.
///
/// # Errors
/// If the file does not name one, or one that is not supported.
pub(super) fn family_of(file: &GgufFile) -> Result<GgufFamily, ModelError> {
    let key = "general.architecture";
    let found = file.required(key, file.text(key)?)?;
    GgufFamily::from_name(found).ok_or_else(|| ModelError::Architecture {
        path: file.path().to_owned(),
        found: found.to_owned(),
        supported: SUPPORTED,
    })
}
