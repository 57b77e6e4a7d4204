//! One name for one module: what wrappers put into the names of tensors is taken off again.
//!
//! A program that saves the state of a wrapped model saves the wrappers' names along:
//! `torch.compile` adds `_orig_mod.`, DDP `module.`, FSDP `_fsdp_wrapped_module.`, activation
//! checkpointing `_checkpoint_wrapped_module.`, and PEFT around PEFT a second `base_model.model.`.
//! None of them is a module of the base model.

use serde_json::{Map, Value};

use crate::key::PREFIX;

/// The components of a path that belong to a wrapper wherever they stand.
const INNER_WRAPPERS: [&str; 3] = [
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
];

/// What DDP puts in front of the whole model, and only there: models such as LeViT have modules of
/// this name inside.
const PARALLEL: &str = "module";

/// A dot in a path, and in a regular expression.
const DOTS: [&str; 2] = ["\\.", "."];

/// The fields of adapter_config.json that are modules: a list, one name, or a regular expression.
const NAMES: [&str; 3] = ["target_modules", "exclude_modules", "modules_to_save"];
/// Those whose keys are modules.
const PATTERNS: [&str; 3] = ["rank_pattern", "alpha_pattern", "trainable_token_indices"];

/// The name of a tensor without what wrappers put in front of it or into it.
///
/// Of several `base_model.model.` the last is where the base model begins, and nothing in front of it
/// is part of a path.
pub(crate) fn without_wrappers(name: &str) -> String {
    let name = without_inner(name);
    let (prefix, path) = at_base_model(&name);
    let path = strip_first(path, PARALLEL).unwrap_or(path);
    format!("{prefix}{path}")
}

/// Takes the wrappers out of the modules that a configuration names, as out of the names of its
/// tensors: else a pattern for `_orig_mod.layers.0` would apply to nothing.
///
/// - tensors: the names in its file. Only where they say that DDP was around the base model is a
///   `module` in front of a pattern DDP's; else it is the end of a path.
pub(crate) fn unwrap_configuration<'a>(
    raw: &mut Map<String, Value>,
    mut tensors: impl Iterator<Item = &'a str>,
) {
    let is_parallel = tensors.any(|name| {
        let name = without_inner(name);
        let (prefix, path) = at_base_model(&name);
        !prefix.is_empty() && strip_first(path, PARALLEL).is_some()
    });
    let unwrapped = |pattern: &str| pattern_without_wrappers(pattern, is_parallel);
    for field in NAMES {
        match raw.get_mut(field) {
            Some(Value::String(name)) => *name = unwrapped(name),
            Some(Value::Array(names)) => {
                for name in names {
                    if let Value::String(name) = name {
                        *name = unwrapped(name);
                    }
                }
            }
            _ => {}
        }
    }
    for field in PATTERNS {
        if let Some(Value::Object(patterns)) = raw.get_mut(field) {
            *patterns = std::mem::take(patterns)
                .into_iter()
                .map(|(pattern, value)| (unwrapped(&pattern), value))
                .collect();
        }
    }
}

/// As [`without_wrappers`], of a path in the base model or a regular expression over such paths, in
/// which dots may be escaped.
fn pattern_without_wrappers(pattern: &str, is_parallel: bool) -> String {
    let pattern = without_inner(pattern);
    let (anchor, path) = match pattern.strip_prefix('^') {
        Some(path) => ("^", path),
        None => ("", pattern.as_str()),
    };
    match strip_first(path, PARALLEL).filter(|_| is_parallel) {
        Some(path) => format!("{anchor}{path}"),
        None => pattern,
    }
}

/// A path or a pattern without the wrappers that may stand anywhere in it.
fn without_inner(text: &str) -> String {
    let mut left = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let is_start = !left.ends_with(|before: char| before.is_alphanumeric() || before == '_');
        let after = INNER_WRAPPERS
            .iter()
            .find_map(|wrapper| strip_first(rest, wrapper))
            // A pattern that has it optional matches the path without it as it is.
            .filter(|after| is_start && ![")?", ")*"].iter().any(|end| after.starts_with(end)));
        match after {
            Some(after) => rest = after,
            None => {
                left.push(letter);
                rest = &rest[letter.len_utf8()..];
            }
        }
    }
    left
}

/// What follows `component` and a dot at the start of a path or a pattern.
fn strip_first<'a>(text: &'a str, component: &str) -> Option<&'a str> {
    let rest = text.strip_prefix(component)?;
    DOTS.iter().find_map(|dot| rest.strip_prefix(dot))
}

/// The last `base_model.model.`, empty if there is none, and the path that follows it.
fn at_base_model(name: &str) -> (&str, &str) {
    let starts = name
        .match_indices(PREFIX)
        .map(|(start, _)| start)
        .filter(|&start| start == 0 || name.as_bytes()[start - 1] == b'.');
    match starts.last() {
        Some(start) => name[start..].split_at(PREFIX.len()),
        None => ("", name),
    }
}

/// The path among `known`, those of one base model, that `path` is likely to be another name of: a
/// layer as in `known`, below something that none of them is below.
pub fn known_under_other_name<'a>(
    path: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> Option<&'a str> {
    let (prefix, _) = at_layer(path)?;
    let is_beside = |known: &str| at_layer(known).is_some_and(|(found, _)| found == prefix);
    if known.clone().into_iter().any(is_beside) {
        return None;
    }
    known.into_iter().find(|known| is_other_name(known, path))
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
    // Another tower is no other name, such as `visual.layers.0` beside `layers.0`; one that both name
    // is the same.
    let is_tower = |part: &&str| {
        ["vis", "image", "audio", "speech"]
            .iter()
            .any(|word| part.contains(word))
    };
    let is_in_tower = short.iter().any(is_tower);
    let mut rest = short.iter().peekable();
    let added: Vec<&str> = long
        .into_iter()
        .filter(|part| rest.next_if(|next| *next == part).is_none())
        .collect();
    rest.peek().is_none() && (is_in_tower || !added.iter().any(is_tower))
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
        let name = "base_model.model.my_orig_mod.q_proj.lora_A.weight";
        assert_eq!(without_wrappers(name), name);
    }

    #[test]
    fn a_module_of_the_model_that_is_called_module_stays() {
        let name =
            "base_model.model.stages.0.layers.0.module.queries_keys_values.linear.lora_A.weight";
        let parallel = name.replace("model.stages", "model.module.stages");
        for wrapped in [name, &parallel, &format!("module.{name}")] {
            assert_eq!(without_wrappers(wrapped), name, "{wrapped}");
        }
    }

    fn unwrapped(mut raw: Value, tensor: &str) -> Value {
        let fields = raw.as_object_mut().expect("an object");
        unwrap_configuration(fields, [tensor].into_iter());
        raw
    }

    #[test]
    fn patterns_lose_the_wrappers_that_the_modules_lose() {
        let raw = json!({
            "target_modules": ["_orig_mod.layers.0.q_proj"],
            "exclude_modules": "_orig_mod\\.layers\\.1\\..*",
            "alpha_pattern": {"^_orig_mod\\.layers\\.0\\.q_proj": 3},
            "rank_pattern": {"layers.0._fsdp_wrapped_module.q_proj": 4},
        });
        let expected = json!({
            "target_modules": ["layers.0.q_proj"],
            "exclude_modules": "layers\\.1\\..*",
            "alpha_pattern": {"^layers\\.0\\.q_proj": 3},
            "rank_pattern": {"layers.0.q_proj": 4},
        });
        assert_eq!(unwrapped(raw, PLAIN), expected);
        let optional = json!({"target_modules": "(?:_orig_mod\\.)?layers.*q_proj"});
        assert_eq!(unwrapped(optional.clone(), PLAIN), optional);
    }

    #[test]
    fn a_module_in_front_of_a_pattern_is_a_wrapper_where_it_is_one_in_front_of_the_tensors() {
        let raw = json!({
            "target_modules": "module\\.layers\\.0\\..*",
            "modules_to_save": ["module.score"],
            "alpha_pattern": {"^module\\.layers\\.0": 3, "layers.0.module.q_proj": 5},
        });
        let expected = json!({
            "target_modules": "layers\\.0\\..*",
            "modules_to_save": ["score"],
            "alpha_pattern": {"^layers\\.0": 3, "layers.0.module.q_proj": 5},
        });
        let parallel = "base_model.model._orig_mod.module.layers.0.q_proj.lora_A.weight";
        assert_eq!(unwrapped(raw.clone(), parallel), expected);
        let inner = "base_model.model.layers.0.module.q_proj.lora_A.weight";
        assert_eq!(unwrapped(raw.clone(), inner), raw);
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
            (
                "vision_model.encoder.layers.0.q",
                "vision_tower.vision_model.encoder.layers.0.q",
            ),
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
