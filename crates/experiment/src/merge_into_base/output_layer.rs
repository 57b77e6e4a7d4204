//! The table of a language model's tokens and its output layer, which are one tensor where they are
//! tied, and what an adapter makes of the two.

use eigenmix_adapter::Adapter;
use serde_json::{Map, Value, json};

use super::base_checkpoint::BaseCheckpoint;

/// The names that models give to the table of their tokens.
const TABLES: [&str; 5] = [
    "embed_tokens.weight",
    "wte.weight",
    "word_embeddings.weight",
    "embed_in.weight",
    "shared.weight",
];
const OUTPUT: &str = "lm_head";

/// The endings of the classes of transformers that write text, whose output layer may be tied.
const GENERATING: [&str; 3] = ["ForCausalLM", "LMHeadModel", "ForConditionalGeneration"];

/// The tasks for which a checkpoint has no output layer over tokens.
const OTHER_TASKS: [&str; 3] = ["SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS"];

/// The fields of config.json in which a model within a model has its own configuration.
const NESTED: &str = "text_config";

/// The two tensors by their names in a base model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OutputLayer {
    /// The table's, `[tokens, width]`.
    pub(super) table: String,
    /// The output layer's, `[tokens, width]`, whether or not the base model has it.
    pub(super) weight: String,
    /// Whether both are the table.
    pub(super) is_tied: bool,
}

impl OutputLayer {
    /// Those of `base`, if it has a table.
    pub(super) fn of(base: &BaseCheckpoint, adapter: &Adapter) -> Option<Self> {
        let names = base.tensor_names();
        let table = TABLES.iter().find_map(|ending| {
            let is_table = |name: &&&str| {
                let prefix = name.strip_suffix(ending);
                prefix.is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('.'))
            };
            names.iter().find(is_table)
        })?;
        let inner = match table.strip_prefix("language_model.model.") {
            Some(_) => "language_model.",
            None => "",
        };
        let weight = format!("{inner}{OUTPUT}.weight");
        let of_other_task = adapter
            .config
            .task_type()
            .is_some_and(|task| OTHER_TASKS.contains(&task));
        // Some that have an encoder scale a tied output, so that a copy would not be the same layer.
        let has_encoder = base.config().get("is_encoder_decoder") == Some(&json!(true));
        let is_tied = !of_other_task
            && !has_encoder
            && writes_text(base.config())
            && (says_tied(base.config()) == Some(true)
                || (says_tied(base.config()).is_none() && !base.contains(&weight)));
        Some(Self {
            table: (*table).to_owned(),
            weight,
            is_tied,
        })
    }

    /// The path of the output layer's module.
    pub(super) fn module(&self) -> &str {
        self.weight.trim_end_matches(".weight")
    }

    /// Whether an adapter's module or tensor of this path is the output layer.
    pub(super) fn is_output(path: &str) -> bool {
        let path = path.trim_end_matches(".weight");
        path == OUTPUT || path.ends_with(&format!(".{OUTPUT}"))
    }
}

/// Whether `modules_to_save` of `adapter` names the table, so that it was trained apart from a tied
/// output layer. A table that PEFT saved unasked is the tied tensor itself.
pub(super) fn is_trained_apart(adapter: &Adapter, table: &str) -> bool {
    let module = table.trim_end_matches(".weight");
    let last = module.rsplit('.').next().unwrap_or(module);
    let ties = adapter.config.raw().get("ensure_weight_tying") == Some(&json!(true));
    let mut saved = adapter.config.modules_to_save().iter();
    !ties && saved.any(|saved| saved.rsplit('.').next() == Some(last))
}

/// Writes that the two are tensors of their own.
pub(super) fn untie(config: &mut Map<String, Value>) {
    const FIELD: &str = "tie_word_embeddings";
    config.insert(FIELD.to_owned(), json!(false));
    if let Some(Value::Object(inner)) = config.get_mut(NESTED) {
        inner.insert(FIELD.to_owned(), json!(false));
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

fn says_tied(config: &Map<String, Value>) -> Option<bool> {
    let field = |config: &Map<String, Value>| config.get("tie_word_embeddings")?.as_bool();
    let inner = config.get(NESTED).and_then(Value::as_object);
    field(config).or_else(|| inner.and_then(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_layer_is_known_by_its_last_name() {
        assert!(OutputLayer::is_output("lm_head"));
        assert!(OutputLayer::is_output("language_model.lm_head.weight"));
        assert!(!OutputLayer::is_output("my_lm_head"));
    }

    #[test]
    fn untying_and_the_vocabulary_reach_a_nested_configuration() {
        let mut config = json!({
            "tie_word_embeddings": true,
            "text_config": {"vocab_size": 7, "tie_word_embeddings": true},
        });
        let config = config.as_object_mut().expect("an object");
        untie(config);
        set_vocabulary(config, 9);
        let expected = json!({
            "tie_word_embeddings": false,
            "text_config": {"vocab_size": 9, "tie_word_embeddings": false},
        });
        assert_eq!(Value::Object(config.clone()), expected);
    }
}
