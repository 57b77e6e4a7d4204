//! The names that PEFT and its relatives give to tensors in adapter_model.safetensors.

use crate::target::{has_component, is_saved_by};
use crate::token_rows::{key_below_rows, rows_of, table_below, table_of_rows};
use crate::token_table::is_token_table;
use crate::{BiasKind, PeftConfig};

/// What PEFT's wrapper puts in front of every path of the base model.
pub(crate) const PREFIX: &str = "base_model.model.";

/// What PEFT puts between an adapted layer and its own parameters.
const BASE_LAYER: &str = ".base_layer.";

/// Heads that PEFT trains along for a task without being asked to.
const TASK_HEADS: [(&str, &[&str]); 3] = [
    ("SEQ_CLS", &["classifier", "score"]),
    ("TOKEN_CLS", &["classifier", "score"]),
    ("QUESTION_ANS", &["qa_outputs"]),
];

/// One of the tensors that make up the update of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    A,
    B,
    /// The factors of an embedding, which have names of their own.
    EmbeddingA,
    EmbeddingB,
    /// What LoCon puts between the factors of a convolution.
    Mid,
    Mixer,
    Magnitude,
    Bias,
}

impl Part {
    /// How PEFT spells it, after the path of the module.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::A => "lora_A.weight",
            Self::B => "lora_B.weight",
            Self::EmbeddingA => "lora_embedding_A",
            Self::EmbeddingB => "lora_embedding_B",
            Self::Mid => "lora_mid.weight",
            Self::Mixer => "lora_AB.weight",
            Self::Magnitude => "lora_magnitude_vector",
            Self::Bias => "lora_B.bias",
        }
    }

    /// The full name of this part of `module` in a file.
    pub(crate) fn key(self, module: &str) -> String {
        format!("{PREFIX}{module}.{}", self.suffix())
    }
}

/// What a tensor in an adapter file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role<'key> {
    /// A part of the update of the module at this path.
    Factor(&'key str, Part),
    /// A tensor of a module that was trained whole, under its name in the base model.
    Head(String),
    /// A bias of the base model that was trained along, under its name there.
    Bias(String),
    /// An untrained copy of a saved module, which PEFT does not read either.
    Copy,
    /// Something that would be lost if nobody said so, and why.
    Unexpected(&'static str),
}

/// What the tensor named `key` is under `config`.
pub(crate) fn role_of<'key>(key: &'key str, config: &PeftConfig) -> Role<'key> {
    let path = key.strip_prefix(PREFIX).unwrap_or(key);
    if let Some((module, tail)) = path.rsplit_once(".lora_") {
        return factor_role(module, tail, config);
    }
    if let Some(module) = table_of_rows(path) {
        return match config.trained_tokens().of(module) {
            Some(_) => Role::Head(rows_of(module)),
            None => Role::Unexpected(
                "rows of a table of tokens, but trainable_token_indices does not say of which tokens",
            ),
        };
    }
    if let Some(module) = table_below(path) {
        return Role::Head(format!("{module}.weight"));
    }
    if let Some((module, tensor)) = path.split_once(".modules_to_save.") {
        let tensor = tensor.strip_prefix("default.").unwrap_or(tensor);
        return Role::Head(format!("{module}.{tensor}"));
    }
    if has_component(path, "original_module") {
        return Role::Copy;
    }
    if is_head(path, config) || is_token_table(path) {
        return Role::Head(path.to_owned());
    }
    if let Some(module) = path.strip_suffix(".base_layer.weight") {
        // PEFT saves the weight below an adapted table along with its factors, and reads it again.
        return match is_token_table(module) {
            true => Role::Head(format!("{module}.weight")),
            false => {
                Role::Unexpected("the weight below an adapted layer, which is no table of tokens")
            }
        };
    }
    if config.bias() != BiasKind::None && path.ends_with(".bias") {
        return Role::Bias(path.replacen(BASE_LAYER, ".", 1));
    }
    Role::Unexpected("neither a LoRA tensor nor part of a module in modules_to_save")
}

/// The name in a file of the tensor `name` of the base model, which PEFT looks for inside the layer if
/// that is adapted.
///
/// - has_rows: whether single rows of a module were trained
pub(crate) fn whole_key(
    name: &str,
    is_adapted: impl Fn(&str) -> bool,
    has_rows: impl Fn(&str) -> bool,
) -> String {
    match name.rsplit_once('.') {
        Some((module, "weight")) if has_rows(module) => key_below_rows(module),
        Some((module, tensor)) if is_adapted(module) => {
            format!("{PREFIX}{module}{BASE_LAYER}{tensor}")
        }
        _ => format!("{PREFIX}{name}"),
    }
}

/// - tail: what follows `lora_`, such as `A.weight` or `A.default.weight`
fn factor_role<'key>(module: &'key str, tail: &str, config: &PeftConfig) -> Role<'key> {
    let words: Vec<&str> = tail.split('.').collect();
    // The second of three words is the name of the adapter, which PEFT leaves out when it saves.
    let part = match words.as_slice() {
        ["A", "weight"] | ["A", _, "weight"] => Part::A,
        ["B", "weight"] | ["B", _, "weight"] => Part::B,
        ["AB", "weight"] | ["AB", _, "weight"] => Part::Mixer,
        ["B", "bias"] | ["B", _, "bias"] => Part::Bias,
        ["magnitude_vector"] | ["magnitude_vector", _] | ["magnitude_vector", _, "weight"] => {
            Part::Magnitude
        }
        ["embedding_A"] | ["embedding_A", _] => Part::EmbeddingA,
        ["embedding_B"] | ["embedding_B", _] => Part::EmbeddingB,
        _ => return Role::Unexpected("a LoRA tensor of an unknown kind"),
    };
    // PEFT would ignore both, so applying them would make another model than PEFT makes.
    match part {
        Part::Magnitude if !config.use_dora() => {
            Role::Unexpected("a DoRA magnitude, but the configuration says use_dora = false")
        }
        Part::Bias if !config.lora_bias() => {
            Role::Unexpected("a bias of B, but the configuration says lora_bias = false")
        }
        _ => Role::Factor(module, part),
    }
}

/// The modules that PEFT saves whole for a task, whether or not the configuration names them.
pub(crate) fn heads_of_task(task: Option<&str>) -> &'static [&'static str] {
    let found = TASK_HEADS.iter().find(|(of, _)| task == Some(of));
    found.map_or(&[], |(_, heads)| heads)
}

/// Whether the tensor `name` of the base model is in an adapter although its configuration asks for no
/// such module.
pub(crate) fn is_unasked(name: &str, config: &PeftConfig) -> bool {
    let is_table = is_token_table(name) || table_of_rows(name).is_some();
    is_table && !is_head(name, config)
}

fn is_head(path: &str, config: &PeftConfig) -> bool {
    let of_task = heads_of_task(config.task_type());
    let mut saved = config.modules_to_save().iter();
    saved.any(|module| is_saved_by(path, module))
        || of_task.iter().any(|module| has_component(path, module))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(fields: serde_json::Value) -> PeftConfig {
        let serde_json::Value::Object(mut raw) = fields else {
            panic!("not an object")
        };
        raw.insert("peft_type".into(), json!("LORA"));
        PeftConfig::from_map(raw, std::path::Path::new("test")).unwrap()
    }

    #[test]
    fn factors_are_found_with_and_without_an_adapter_name() {
        let config = config(json!({"use_dora": true, "lora_bias": true}));
        for (key, part) in [
            ("base_model.model.h.0.attn.lora_A.weight", Part::A),
            ("base_model.model.h.0.attn.lora_A.default.weight", Part::A),
            ("h.0.attn.lora_B.travel.weight", Part::B),
            ("base_model.model.h.0.attn.lora_AB.weight", Part::Mixer),
            ("base_model.model.h.0.attn.lora_B.bias", Part::Bias),
            (
                "base_model.model.h.0.attn.lora_magnitude_vector",
                Part::Magnitude,
            ),
            (
                "base_model.model.h.0.attn.lora_magnitude_vector.weight",
                Part::Magnitude,
            ),
            (
                "base_model.model.h.0.attn.lora_magnitude_vector.default.weight",
                Part::Magnitude,
            ),
        ] {
            assert_eq!(
                role_of(key, &config),
                Role::Factor("h.0.attn", part),
                "{key}"
            );
        }
    }

    #[test]
    fn heads_lose_what_peft_wraps_around_them() {
        let config = config(json!({"modules_to_save": ["classifier"]}));
        for (key, name) in [
            ("base_model.model.classifier.weight", "classifier.weight"),
            (
                "base_model.model.classifier.modules_to_save.weight",
                "classifier.weight",
            ),
            (
                "base_model.model.classifier.modules_to_save.default.out.bias",
                "classifier.out.bias",
            ),
        ] {
            assert_eq!(role_of(key, &config), Role::Head(name.into()), "{key}");
        }
        let copy = role_of(
            "base_model.model.classifier.original_module.weight",
            &config,
        );
        assert_eq!(copy, Role::Copy);
    }

    #[test]
    fn tables_that_peft_saves_unasked_are_read_as_peft_reads_them() {
        let plain = config(json!({}));
        for name in ["model.embed_tokens.weight", "lm_head.weight"] {
            let key = format!("{PREFIX}{name}");
            assert_eq!(role_of(&key, &plain), Role::Head(name.into()));
            assert!(is_unasked(name, &plain));
            let asked = config(json!({"modules_to_save": ["lm_head", "embed_tokens"]}));
            assert!(!is_unasked(name, &asked));
        }
        let other = "base_model.model.model.norm.weight";
        assert!(matches!(role_of(other, &plain), Role::Unexpected(_)));
    }

    #[test]
    fn a_task_brings_its_head_unasked() {
        let key = "base_model.model.score.weight";
        let classifier = config(json!({"task_type": "SEQ_CLS"}));
        assert_eq!(role_of(key, &classifier), Role::Head("score.weight".into()));
        let language_model = config(json!({"task_type": "CAUSAL_LM"}));
        assert!(matches!(role_of(key, &language_model), Role::Unexpected(_)));
    }

    #[test]
    fn trained_biases_are_named_as_in_the_base_model() {
        let all = config(json!({"bias": "all"}));
        let key = "base_model.model.h.0.attn.base_layer.bias";
        assert_eq!(role_of(key, &all), Role::Bias("h.0.attn.bias".into()));
        assert!(matches!(
            role_of(key, &config(json!({}))),
            Role::Unexpected(_)
        ));
        assert_eq!(
            whole_key("h.0.attn.bias", |module| module == "h.0.attn", |_| false),
            key
        );
        assert_eq!(
            whole_key("h.0.ln.bias", |module| module == "h.0.attn", |_| false),
            "base_model.model.h.0.ln.bias"
        );
    }

    #[test]
    fn what_the_configuration_denies_is_not_applied() {
        let plain = config(json!({}));
        let key = "base_model.model.h.0.attn.lora_magnitude_vector";
        assert!(matches!(role_of(key, &plain), Role::Unexpected(_)));
        let below = "base_model.model.wpe.base_layer.weight";
        assert!(matches!(role_of(below, &plain), Role::Unexpected(_)));
    }

    #[test]
    fn the_weight_below_an_adapted_table_is_the_table() {
        let plain = config(json!({"target_modules": ["wte", "lm_head"]}));
        for name in ["wte.weight", "lm_head.weight"] {
            let key = whole_key(name, |_| true, |_| false);
            assert!(key.ends_with(".base_layer.weight"), "{key}");
            assert_eq!(role_of(&key, &plain), Role::Head(name.into()));
        }
    }

    #[test]
    fn the_factors_of_an_embedding_are_found_by_their_own_names() {
        let plain = config(json!({}));
        for (key, part) in [
            ("base_model.model.wte.lora_embedding_A", Part::EmbeddingA),
            ("wte.lora_embedding_B.default", Part::EmbeddingB),
        ] {
            assert_eq!(role_of(key, &plain), Role::Factor("wte", part), "{key}");
        }
    }
}
