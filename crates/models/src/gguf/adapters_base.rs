//! What adapters in GGUF files need to know of their base model.

use eigenmix_adapter::GgufBase;
use eigenmix_gguf::GgufFamily;
use serde_json::Value;

use crate::{Checkpoint, ModelError};

/// The family, head counts and tying of a base model, from its configuration.
///
/// # Errors
/// If no family of GGUF files is like it, or a count is missing.
pub fn gguf_base(checkpoint: &Checkpoint) -> Result<GgufBase, ModelError> {
    let config = checkpoint.config();
    let model_type = config.get("model_type").and_then(Value::as_str);
    let family = match model_type {
        // What transformers calls Mistral, llama.cpp calls LLaMA with a window.
        Some("mistral") => Some(GgufFamily::Llama),
        Some(name) => GgufFamily::from_name(name),
        None => None,
    };
    let refuse = |problem: String| ModelError::Config {
        path: checkpoint.path().to_owned(),
        problem,
    };
    let family = family.ok_or_else(|| {
        refuse(format!(
            "adapters in GGUF files are read and written for models of the types llama, mistral, qwen2, qwen3 and gemma2, not {}",
            model_type.unwrap_or("one without model_type")
        ))
    })?;
    let count = |key: &str| {
        let found = config.get(key).and_then(Value::as_u64);
        found.and_then(|found| usize::try_from(found).ok())
    };
    let queries = count("num_attention_heads")
        .ok_or_else(|| refuse("`num_attention_heads` is missing".to_owned()))?;
    let tying = config.get("tie_word_embeddings").and_then(Value::as_bool);
    Ok(GgufBase {
        family,
        heads: Some([queries, count("num_key_value_heads").unwrap_or(queries)]),
        // Where configurations do not say: the defaults of their families.
        is_tied: tying.unwrap_or(family == GgufFamily::Gemma2),
    })
}
