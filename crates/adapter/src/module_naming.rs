//! One module of a vision-language model under the names that releases of transformers give it.
//!
//! | release | language model | tower | projector | output layer |
//! |---|---|---|---|---|
//! | 5 (also PEFT's files) | `model.language_model.` | `model.vision_tower.` | `model.multi_modal_projector.` | `lm_head` |
//! | 4.52 to 4.57 | the same | `model.vision_tower.vision_model.` | the same | the same |
//! | before 4.52, and files of checkpoints | `language_model.model.` | `vision_tower.vision_model.` | `multi_modal_projector.` | `language_model.lm_head` |

/// What begins a name, and what it begins with in release 5. The first that fits is taken.
const RENAMED: [(&str, &str); 7] = [
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head", "lm_head"),
    ("language_model.", "model.language_model."),
    ("vision_tower.vision_model.", "model.vision_tower."),
    ("vision_tower.", "model.vision_tower."),
    ("model.vision_tower.vision_model.", "model.vision_tower."),
    ("multi_modal_projector", "model.multi_modal_projector"),
];

/// What a name in release 5 begins with, and what it begins with in earlier ones.
const EARLIER: [(&str, &[&str]); 4] = [
    ("model.language_model.", &["language_model.model."]),
    ("lm_head", &["language_model.lm_head"]),
    (
        "model.vision_tower.",
        &[
            "model.vision_tower.vision_model.",
            "vision_tower.vision_model.",
        ],
    ),
    ("model.multi_modal_projector", &["multi_modal_projector"]),
];

/// The name in transformers 5 of a module or tensor of a vision-language model, if it is another.
pub fn current_name(name: &str) -> Option<String> {
    RENAMED.iter().find_map(|(earlier, current)| {
        let rest = name.strip_prefix(earlier)?;
        Some(format!("{current}{rest}"))
    })
}

/// The names that earlier releases gave to a module or tensor, by its name in transformers 5.
pub fn earlier_names(name: &str) -> impl Iterator<Item = String> {
    let found = EARLIER.iter().find_map(|(current, earlier)| {
        let rest = name.strip_prefix(current)?;
        Some((*earlier, rest))
    });
    let (earlier, rest) = found.unwrap_or_default();
    earlier
        .iter()
        .map(move |earlier| format!("{earlier}{rest}"))
}

/// Whether a name is one that only transformers' vision-language models have, in any release.
pub(crate) fn is_of_vision_language(name: &str) -> bool {
    const PARTS: [&str; 3] = [
        "vision_tower.",
        "multi_modal_projector",
        "model.language_model.",
    ];
    PARTS.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_has_one_name_whatever_the_release() {
        for (name, expected) in [
            (
                "language_model.model.layers.1.mlp.up_proj",
                "model.language_model.layers.1.mlp.up_proj",
            ),
            ("language_model.lm_head", "lm_head"),
            (
                "vision_tower.vision_model.encoder.layers.0.mlp.fc1",
                "model.vision_tower.encoder.layers.0.mlp.fc1",
            ),
            (
                "model.vision_tower.vision_model.encoder.layers.0.mlp.fc1",
                "model.vision_tower.encoder.layers.0.mlp.fc1",
            ),
            (
                "multi_modal_projector.linear_1",
                "model.multi_modal_projector.linear_1",
            ),
        ] {
            assert_eq!(current_name(name).as_deref(), Some(expected), "{name}");
            assert_eq!(current_name(expected), None, "{expected}");
            assert!(
                earlier_names(expected).any(|earlier| earlier == name),
                "{name}"
            );
        }
        assert_eq!(current_name("model.layers.0.self_attn.q_proj"), None);
        assert_eq!(earlier_names("model.layers.0.self_attn.q_proj").count(), 0);
    }
}
