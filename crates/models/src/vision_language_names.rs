//! What the files of a vision-language model call its tensors, which are known here as transformers 5
//! names its modules.

use std::path::Path;

use eigenmix_adapter::current_name;
use serde_json::{Value, json};

use crate::ModelError;
use crate::stored::StoredTensors;
use crate::token_tables::TokenTables;
use crate::vision_language_config::VisionLanguageConfig;

/// Whether a `config.json` is that of a vision-language model.
pub(crate) fn is_vision_language(config: &Value) -> bool {
    let model_type = config.get("model_type").and_then(Value::as_str);
    model_type == Some(VisionLanguageConfig::MODEL_TYPE)
}

/// The tensors under the names of their modules, whatever release of transformers wrote them.
///
/// # Errors
/// If two of them are one.
pub(crate) fn renamed(
    tensors: StoredTensors,
    directory: &Path,
) -> Result<StoredTensors, ModelError> {
    let mut renamed = StoredTensors::new();
    for (name, tensor) in tensors {
        let current = current_name(&name).unwrap_or_else(|| name.clone());
        if renamed.insert(current.clone(), tensor).is_some() {
            return Err(ModelError::Config {
                path: directory.to_owned(),
                problem: format!("`{current}` is there under two names, one of which is `{name}`"),
            });
        }
    }
    Ok(renamed)
}

/// Notes in the configuration that the output layer is the table of tokens, where there is no other:
/// releases disagree whether the whole model's configuration or that of its decoder says so.
pub(crate) fn tie_if_alone(config: &mut Value, tables: Option<&TokenTables>) {
    if tables.is_some_and(|tables| !tables.has_output) {
        config["tie_word_embeddings"] = json!(true);
    }
}
