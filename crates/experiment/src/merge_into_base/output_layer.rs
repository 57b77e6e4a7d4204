//! A base model's table of tokens and its output layer, and what a merge writes about them.

use eigenmix_adapter::Adapter;
use eigenmix_models::TokenTables;
use eigenmix_tensors::FileError;
use serde_json::{Map, Value, json};

use super::base_checkpoint::BaseCheckpoint;

/// The endings of the classes of transformers that write text, whose output layer may be tied.
const GENERATING: [&str; 3] = ["ForCausalLM", "LMHeadModel", "ForConditionalGeneration"];

/// The tasks for which a checkpoint has no output layer over tokens.
const OTHER_TASKS: [&str; 3] = ["SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS"];

/// The field of config.json in which a model within a model has its own configuration.
const NESTED: &str = "text_config";

/// The two tensors in a merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OutputLayer {
    pub(super) tables: TokenTables,
    /// Whether both are the table, in the base model and in the task of the result.
    pub(super) is_tied: bool,
    /// Whether the task of the result has no use for it.
    pub(super) is_unused: bool,
}

impl OutputLayer {
    /// Those of `base`, if it has a table.
    ///
    /// # Errors
    /// If a tensor of it cannot be read.
    pub(super) fn of(base: &BaseCheckpoint, adapter: &Adapter) -> Result<Option<Self>, FileError> {
        let config = Value::Object(base.config().clone());
        let names = base.tensor_names().into_iter();
        let tables = TokenTables::of(&config, names, |name| base.file_of(name))?;
        Ok(tables.map(|tables| {
            let task = adapter.config.task_type();
            let is_unused = task.is_some_and(|task| OTHER_TASKS.contains(&task));
            // Some that have an encoder scale a tied output, so that a copy would not be the same layer.
            let has_encoder = base.config().get("is_encoder_decoder") == Some(&json!(true));
            Self {
                is_tied: tables.is_tied && !is_unused && !has_encoder && writes_text(base.config()),
                is_unused,
                tables,
            }
        }))
    }

    /// The path of the output layer's module.
    pub(super) fn module(&self) -> &str {
        self.tables.output.trim_end_matches(".weight")
    }
}

/// Writes the number of tokens where the configuration has it.
pub(super) fn set_vocabulary(config: &mut Map<String, Value>, tokens: usize) {
    const FIELD: &str = "vocab_size";
    if let Some(Value::Object(inner)) = config.get_mut(NESTED)
        && inner.contains_key(FIELD)
    {
        inner.insert(FIELD.to_owned(), json!(tokens));
        if !config.contains_key(FIELD) {
            return;
        }
    }
    config.insert(FIELD.to_owned(), json!(tokens));
}

fn writes_text(config: &Map<String, Value>) -> bool {
    let class = config
        .get("architectures")
        .and_then(|classes| classes.get(0));
    let class = class.and_then(Value::as_str).unwrap_or_default();
    GENERATING.iter().any(|ending| class.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vocabulary_reaches_a_nested_configuration() {
        let mut config = json!({"text_config": {"vocab_size": 7}});
        let config = config.as_object_mut().expect("an object");
        set_vocabulary(config, 9);
        let expected = json!({"text_config": {"vocab_size": 9}});
        assert_eq!(Value::Object(config.clone()), expected);
    }
}
