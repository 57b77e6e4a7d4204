//! What can happen to a configuration.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;

use crate::json_text;

/// A change of a configuration.
#[derive(Clone, Debug)]
pub enum ConfigMutation {
    Byte(Index, u8),
    Truncate(Index),
    /// A field that is there, with another value.
    Replace(Index, String),
    /// A field by its name.
    Set(Index, String),
    Remove(Index),
}

const FIELDS: [&str; 26] = [
    "peft_type",
    "r",
    "lora_alpha",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "bias",
    "task_type",
    "use_dora",
    "use_rslora",
    "lora_bias",
    "lora_use_mixer",
    "init_lora_weights",
    "base_model_name_or_path",
    "lora_parameters",
    "fine_tune_type",
    "model",
    "save_projection",
    "trainable_token_indices",
    "ensure_weight_tying",
    "metadata",
    "weight_map",
];

impl Arbitrary for ConfigMutation {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        let any_index = any::<Index>;
        prop_oneof![
            1 => (any_index(), any::<u8>()).prop_map(|(at, byte)| Self::Byte(at, byte)),
            1 => any_index().prop_map(Self::Truncate),
            4 => (any_index(), json_text()).prop_map(|(at, text)| Self::Replace(at, text)),
            4 => (any_index(), json_text()).prop_map(|(at, text)| Self::Set(at, text)),
            1 => any_index().prop_map(Self::Remove),
        ]
        .boxed()
    }
}

/// JSON of any form, with what configurations have in it.
pub fn json_text() -> impl Strategy<Value = String> {
    json_text::json_text(&FIELDS, expression())
}

/// Regular expressions, some of which are costly.
fn expression() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "a", ".", "*", "+", "?", "(", ")", "(?:", "(?=", "(?!", "[^.]", "\\d", "\\w", "\\.", "|",
        "^", "$", "{9}", "{1000}", "{1,}", "query", "(a*)*", "\\1", "\\p{L}", "layer",
    ]);
    vec(pieces, 0..8).prop_map(|pieces| pieces.concat())
}

pub fn changed_config(original: &[u8], mutations: &[ConfigMutation]) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for mutation in mutations {
        match mutation {
            ConfigMutation::Byte(at, byte) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
                continue;
            }
            ConfigMutation::Truncate(at) if !bytes.is_empty() => {
                bytes.truncate(at.index(bytes.len()));
                continue;
            }
            _ => {}
        }
        let Ok(Value::Object(mut fields)) = serde_json::from_slice(&bytes) else {
            continue;
        };
        let names: Vec<String> = fields.keys().cloned().collect();
        // Text that is no JSON is put where a value goes, and spoils the whole.
        let (name, text) = match mutation {
            ConfigMutation::Replace(at, text) if !names.is_empty() => {
                (at.get(&names).clone(), text)
            }
            ConfigMutation::Set(at, text) => (at.get(&FIELDS).to_string(), text),
            ConfigMutation::Remove(at) if !names.is_empty() => {
                fields.shift_remove(at.get(&names));
                bytes = Value::Object(fields).to_string().into_bytes();
                continue;
            }
            _ => continue,
        };
        match serde_json::from_str::<Value>(text) {
            Ok(value) => {
                fields.insert(name, value);
                bytes = Value::Object(fields).to_string().into_bytes();
            }
            Err(_) => bytes = format!("{{\"{name}\":{text}}}").into_bytes(),
        }
    }
    bytes
}
