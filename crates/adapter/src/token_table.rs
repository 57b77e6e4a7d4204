//! The tables of a language model's tokens, and the output layers over them, by name.
//!
//! PEFT saves them unasked where the vocabulary was resized, and models tie one to the other.

/// What models call the table of their tokens.
const TABLES: [&str; 5] = [
    "embed_tokens",
    "wte",
    "word_embeddings",
    "embed_in",
    "shared",
];

/// What models call the output layer over their tokens.
const OUTPUT_LAYERS: [&str; 2] = ["lm_head", "embed_out"];

/// Whether a module, or the weight of one, is the table of a model's tokens: `embed_tokens` and the
/// names that other models have for it.
pub fn is_input_table(path: &str) -> bool {
    TABLES.contains(&last_name(path))
}

/// Whether a module, or a tensor of one, is the output layer over a model's tokens: `lm_head` and the
/// names that other models have for it.
pub fn is_output_layer(path: &str) -> bool {
    OUTPUT_LAYERS.contains(&last_name(path))
}

/// Whether a module, or a tensor of one, is either.
pub fn is_token_table(path: &str) -> bool {
    is_input_table(path) || is_output_layer(path)
}

/// The last name of a module, of which `path` may be a tensor.
fn last_name(path: &str) -> &str {
    let module = [".weight", ".bias"]
        .iter()
        .find_map(|tensor| path.strip_suffix(tensor))
        .unwrap_or(path);
    module.rsplit('.').next().unwrap_or(module)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_output_layers_are_known_by_their_last_names() {
        for path in ["wte", "model.embed_tokens", "shared.weight"] {
            assert!(is_input_table(path) && !is_output_layer(path), "{path}");
        }
        for path in ["lm_head", "language_model.lm_head.weight", "embed_out.bias"] {
            assert!(is_output_layer(path) && !is_input_table(path), "{path}");
        }
        for path in [
            "my_lm_head",
            "lm_head.dense.weight",
            "shared.layer",
            "weight",
        ] {
            assert!(!is_token_table(path), "{path}");
        }
    }
}
