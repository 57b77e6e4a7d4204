//! One name for one module: what wrappers put into the names of tensors is taken off again.
//!
//! A program that saves the state of a wrapped model saves the wrappers' names along:
//! `torch.compile` adds `_orig_mod.`, DDP `module.`, FSDP `_fsdp_wrapped_module.`, activation
//! checkpointing `_checkpoint_wrapped_module.`, and PEFT around PEFT a second `base_model.model.`.
//! None of them is a module of the base model.

use serde_json::{Map, Value};

use crate::key::PREFIX;

/// The components of a path that belong to a wrapper, not to the base model.
const WRAPPERS: [&str; 4] = [
    "_orig_mod",
    "module",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
];

/// The fields of adapter_config.json that are lists of modules.
const LISTS: [&str; 3] = ["target_modules", "exclude_modules", "modules_to_save"];
/// Those whose keys are modules.
const PATTERNS: [&str; 2] = ["rank_pattern", "alpha_pattern"];

/// The name of a tensor, or the path of a module, without what wrappers put in front of it or into it.
///
/// Of several `base_model.model.` the last is where the base model begins, and nothing in front of it
/// is part of a path.
pub(crate) fn without_wrappers(name: &str) -> String {
    let parts: Vec<&str> = name
        .split('.')
        .filter(|part| !WRAPPERS.contains(part))
        .collect();
    let name = parts.join(".");
    let starts = name
        .match_indices(PREFIX)
        .map(|(start, _)| start)
        .filter(|&start| start == 0 || name.as_bytes()[start - 1] == b'.');
    match starts.last() {
        Some(start) => name[start..].to_owned(),
        None => name,
    }
}

/// Takes the wrappers out of the modules that a configuration names, as out of the names of its
/// tensors: else a pattern for `_orig_mod.layers.0` would apply to nothing.
pub(crate) fn unwrap_configuration(raw: &mut Map<String, Value>) {
    for field in LISTS {
        if let Some(Value::Array(names)) = raw.get_mut(field) {
            for name in names {
                if let Value::String(name) = name {
                    *name = pattern_without_wrappers(name);
                }
            }
        }
    }
    for field in PATTERNS {
        if let Some(Value::Object(patterns)) = raw.get_mut(field) {
            *patterns = std::mem::take(patterns)
                .into_iter()
                .map(|(pattern, value)| (pattern_without_wrappers(&pattern), value))
                .collect();
        }
    }
}

/// As [`without_wrappers`], of a regular expression in which dots may be escaped.
fn pattern_without_wrappers(pattern: &str) -> String {
    let mut pattern = pattern.to_owned();
    for wrapper in WRAPPERS.iter().filter(|name| name.starts_with('_')) {
        for dot in ["\\.", "."] {
            pattern = pattern.replace(&format!("{wrapper}{dot}"), "");
        }
    }
    match pattern.strip_prefix("module.") {
        Some(rest) => rest.to_owned(),
        None => pattern,
    }
}

/// Whether two paths of one base model are likely to be one layer under two names: what follows the
/// first layer index is the same, and what precedes it differs only by components that one of them
/// has in addition, such as `language_model` or the name of the model within a task.
pub(crate) fn is_other_name(first: &str, second: &str) -> bool {
    let (Some((first, first_tail)), Some((second, second_tail))) =
        (at_layer(first), at_layer(second))
    else {
        return false;
    };
    if first_tail != second_tail || first == second {
        return false;
    }
    let (first, second) = (spelling(first), spelling(second));
    let (short, long) = match first.len() <= second.len() {
        true => (first, second),
        false => (second, first),
    };
    let mut rest = short.iter().peekable();
    let added: Vec<&str> = long
        .into_iter()
        .filter(|part| rest.next_if(|next| *next == part).is_none())
        .collect();
    // Another tower is no other name: `visual.layers.0` beside `layers.0`.
    let is_tower = |part: &&str| {
        ["vis", "image", "audio", "speech"]
            .iter()
            .any(|word| part.contains(word))
    };
    rest.peek().is_none() && !added.iter().any(is_tower)
}

/// The path up to the first layer index, and from there on.
pub(crate) fn at_layer(path: &str) -> Option<(&str, &str)> {
    let mut start = 0;
    for part in path.split('.') {
        if start > 0 && !part.is_empty() && part.bytes().all(|letter| letter.is_ascii_digit()) {
            return Some((&path[..start - 1], &path[start..]));
        }
        start += part.len() + 1;
    }
    None
}

/// The components of a path without those that classes add around a language model.
fn spelling(path: &str) -> Vec<&str> {
    path.split('.')
        .filter(|part| !["model", "language_model"].contains(part))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PLAIN: &str = "base_model.model.model.layers.0.q_proj.lora_A.weight";

    #[test]
    fn what_wrappers_add_to_a_name_is_taken_off() {
        for name in [
            PLAIN,
            "_orig_mod.base_model.model.model.layers.0.q_proj.lora_A.weight",
            "base_model.model._orig_mod.model.layers.0.q_proj.lora_A.weight",
            "module.base_model.model.model.layers.0.q_proj.lora_A.weight",
            "_fsdp_wrapped_module.base_model.model.model.layers.0._fsdp_wrapped_module.q_proj.lora_A.weight",
            "base_model.model.model.layers.0._checkpoint_wrapped_module.q_proj.lora_A.weight",
            "base_model.model.base_model.model.model.layers.0.q_proj.lora_A.weight",
            "thinker.base_model.model.model.layers.0.q_proj.lora_A.weight",
        ] {
            assert_eq!(without_wrappers(name), PLAIN, "{name}");
        }
    }

    #[test]
    fn components_that_only_contain_a_wrappers_name_stay() {
        let name = "base_model.model.score.original_module.weight";
        assert_eq!(without_wrappers(name), name);
        let name = "my_base_model.model.layers.0.q_proj.lora_A.weight";
        assert_eq!(without_wrappers(name), name);
    }

    #[test]
    fn patterns_lose_the_wrappers_that_the_modules_lose() {
        let mut raw = json!({
            "target_modules": ["_orig_mod.layers.0.q_proj"],
            "alpha_pattern": {"^_orig_mod\\.layers\\.0\\.q_proj": 3},
        });
        let raw = raw.as_object_mut().unwrap();
        unwrap_configuration(raw);
        assert_eq!(raw["target_modules"], json!(["layers.0.q_proj"]));
        assert_eq!(raw["alpha_pattern"], json!({"^layers\\.0\\.q_proj": 3}));
    }

    #[test]
    fn one_layer_under_two_names_is_told_from_two_towers() {
        for (first, second) in [
            ("model.layers.0.q", "model.language_model.layers.0.q"),
            (
                "language_model.model.layers.0.q",
                "model.language_model.layers.0.q",
            ),
            ("encoder.layer.3.value", "bert.encoder.layer.3.value"),
        ] {
            assert!(is_other_name(first, second), "{first} {second}");
            assert!(is_other_name(second, first), "{second} {first}");
        }
        for (first, second) in [
            ("model.layers.0.q", "model.layers.0.q"),
            ("model.layers.0.q", "model.language_model.layers.1.q"),
            (
                "text_model.encoder.layers.0.q",
                "vision_model.encoder.layers.0.q",
            ),
            ("encoder.block.0.q", "decoder.block.0.q"),
            (
                "transformer.resblocks.0.q",
                "visual.transformer.resblocks.0.q",
            ),
            ("lm_head", "model.lm_head"),
        ] {
            assert!(!is_other_name(first, second), "{first} {second}");
        }
    }
}
