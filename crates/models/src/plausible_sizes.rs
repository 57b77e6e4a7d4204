//! Sizes that a model can have.
//!
//! Memory is set aside by the sizes of a `config.json` before its tensors are looked at, so that a damaged
//! file would end the process rather than be refused.

/// More than any model has, and little enough to set memory aside for.
const MOST_LAYERS: usize = 1 << 14;
const MOST_WIDE: usize = 1 << 22;
const MOST_TOKENS: usize = 1 << 28;

/// Refuses sizes that no model has.
///
/// - widths: the hidden size and the intermediate size
/// - tokens: how many the vocabulary has, if there is one
///
/// # Errors
/// A message about the first of them.
pub(crate) fn require_plausible(
    n_layers: usize,
    widths: [usize; 2],
    tokens: Option<usize>,
) -> Result<(), String> {
    let [hidden, intermediate] = widths;
    let sizes = [
        ("the number of layers", n_layers, 0, MOST_LAYERS),
        ("the hidden size", hidden, 1, MOST_WIDE),
        ("the intermediate size", intermediate, 1, MOST_WIDE),
        (
            "the size of the vocabulary",
            tokens.unwrap_or(1),
            1,
            MOST_TOKENS,
        ),
    ];
    match sizes
        .into_iter()
        .find(|&(_, found, least, most)| !(least..=most).contains(&found))
    {
        None => Ok(()),
        Some((name, found, least, most)) => Err(format!(
            "{name} is {found}, expected {least} to {most}; is the file damaged, or for something else?"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use crate::Architecture;

    fn read(changed: Value) -> Result<(), String> {
        let mut config = json!({
            "model_type": "bert", "vocab_size": 40, "hidden_size": 8, "intermediate_size": 16,
            "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 12,
            "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu", "pad_token_id": 0,
        });
        let own = config.as_object_mut().expect("an object");
        own.extend(changed.as_object().cloned().unwrap_or_default());
        let found = Architecture::from_json(&config, Path::new("config.json"));
        found.map(|_| ()).map_err(|error| error.to_string())
    }

    #[test]
    fn sizes_that_no_model_has_are_refused_before_memory_is_set_aside() {
        assert_eq!(read(json!({})), Ok(()));
        for (changed, words) in [
            (json!({"hidden_size": 0}), "the hidden size is 0"),
            (
                json!({"hidden_size": 1_000_000_000_000u64}),
                "the hidden size is 1000000000000",
            ),
            (
                json!({"intermediate_size": 0}),
                "the intermediate size is 0",
            ),
            (
                json!({"num_hidden_layers": u64::MAX}),
                "the number of layers is",
            ),
            (
                json!({"vocab_size": 1u64 << 40}),
                "the size of the vocabulary is",
            ),
        ] {
            let message = read(changed).expect_err("a refusal");
            assert!(
                message.contains(words) && message.contains("damaged"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_decoder_sets_nothing_aside_for_layers_that_no_model_has() {
        let families = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models");
        for (family, key) in [
            ("llama", "num_hidden_layers"),
            ("gemma2", "num_hidden_layers"),
            ("gpt2", "n_layer"),
        ] {
            let path = families.join(family).join("base/config.json");
            let text = std::fs::read(&path).expect("a file");
            let mut config: Value = serde_json::from_slice(&text).expect("JSON");
            config[key] = json!(u64::MAX);
            let found = Architecture::from_json(&config, &path);
            let message = found.expect_err("a refusal").to_string();
            assert!(message.contains("the number of layers is"), "{message}");
        }
    }
}
