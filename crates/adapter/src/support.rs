//! Which PEFT configurations are refused because reading them would make another model than PEFT does.
//!
//! Options that Eigenmix reads, and those that concern training alone, are listed; every other one that
//! is set is refused by name, since an option nobody knows may change what B · A means.

use serde_json::Value;

use crate::AdapterError;
use crate::config_fields::ConfigFields;

/// Options that are read elsewhere.
const READ: [&str; 23] = [
    "alpha_pattern",
    "base_model_name_or_path",
    "bias",
    "ensure_weight_tying",
    "exclude_modules",
    "fan_in_fan_out",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_bias",
    "lora_dropout",
    "lora_use_mixer",
    "modules_to_save",
    "peft_type",
    "r",
    "rank_pattern",
    "revision",
    "target_modules",
    "task_type",
    "trainable_token_indices",
    "use_dora",
    "use_rslora",
];

/// Options that are history once the factors are trained: how they began, how their gradients were
/// made, and what the file was written by.
const WITHOUT_EFFECT: [&str; 16] = [
    "auto_mapping",
    "corda_config",
    "eva_config",
    "inference_mode",
    "loftq_config",
    // Of ms-swift.
    "lora_dtype",
    "lora_ga_config",
    "lorap_emb_lr",
    "lorap_lr_ratio",
    "megatron_config",
    "megatron_core",
    // Of PEFT before 0.3.
    "merge_weights",
    "peft_version",
    // Without effect unless use_qalora is set, which is refused.
    "qalora_group_size",
    "transformers_version",
    "velora_config",
];

/// Options under which B · A does not mean ΔW of the named base model, and what they do.
const REFUSED: [(&str, &str); 9] = [
    (
        "alora_invocation_tokens",
        "an activated LoRA acts only after certain tokens, which is not supported",
    ),
    (
        "arrow_config",
        "Arrow routes between adapters at run time, which is not supported",
    ),
    (
        "enable_lora",
        "its factors adapt parts of a fused layer, which is not supported; load and save it with PEFT 0.3 or later",
    ),
    (
        "kasa_config",
        "KaSA takes the smallest singular values out of the base model and puts a diagonal between the factors, which is not supported; merge it into its base model in PEFT (merge_and_unload)",
    ),
    (
        "layer_replication",
        "its module paths are those of a base model with repeated layers, which is not supported",
    ),
    (
        "monteclora_config",
        "MonteCLoRA samples around its factors, which is not supported; merge it into its base model in PEFT (merge_and_unload)",
    ),
    (
        "target_parameters",
        "it adapts parameters such as fused experts, whose factors hold one low-rank update per expert, which is not supported; merge it into its base model in PEFT (merge_and_unload)",
    ),
    (
        "use_bdlora",
        "BD-LoRA stores block-diagonal factors in a compact form, which is not supported; merge it into its base model in PEFT (merge_and_unload)",
    ),
    (
        "use_qalora",
        "QA-LoRA pools its inputs before A, which is not supported",
    ),
];

const UNKNOWN: &str = "Eigenmix does not know this option, and an unknown one may change what the factors mean. If it concerned the training only, set it to null in this file; else merge the adapter into its base model with the program that wrote it";

/// Initialisations that change the base model's weights, which the saved factors are relative to.
const RELATIVE_INITIALISATIONS: [&str; 4] = ["pissa", "olora", "corda", "lora_ga"];
/// Initialisations of the factors alone.
const PLAIN_INITIALISATIONS: [&str; 6] = ["true", "false", "gaussian", "eva", "mica", "orthogonal"];

/// The most characters of a value that an error shows.
const SHOWN: usize = 80;

/// Refuses other methods than LoRA and every option that is not known to leave B · A what it is.
pub(crate) fn check_support(fields: &ConfigFields<'_>) -> Result<(), AdapterError> {
    let method = fields.text("peft_type")?;
    if method.as_deref() != Some("LORA") {
        return Err(AdapterError::UnsupportedMethod {
            path: fields.path.to_owned(),
            found: method.unwrap_or_else(|| "nameless (no peft_type)".to_owned()),
        });
    }
    check_initialisation(fields)?;
    for (option, value) in fields.map.iter().filter(|(_, value)| is_set(value)) {
        if READ.contains(&option.as_str()) || WITHOUT_EFFECT.contains(&option.as_str()) {
            continue;
        }
        let known = REFUSED.iter().find(|(name, _)| name == option);
        let consequence = known.map_or(UNKNOWN, |(_, consequence)| consequence);
        return Err(unsupported(fields, option, value, consequence));
    }
    Ok(())
}

fn check_initialisation(fields: &ConfigFields<'_>) -> Result<(), AdapterError> {
    const OPTION: &str = "init_lora_weights";
    let Some(value) = fields.value(OPTION) else {
        return Ok(());
    };
    let name = match value {
        Value::String(name) => name.to_lowercase(),
        other => other.to_string(),
    };
    if name.is_empty() || PLAIN_INITIALISATIONS.contains(&name.as_str()) {
        return Ok(());
    }
    let is_relative = RELATIVE_INITIALISATIONS
        .iter()
        .any(|relative| name.replace('-', "_").starts_with(relative));
    let consequence = if is_relative {
        "its factors are relative to a changed base model. Convert it in PEFT to plain LoRA: save_pretrained(DIR, path_initial_model_for_weight_conversion=INITIAL_ADAPTER)"
    } else if name == "loftq" {
        "its factors are relative to a base model that LoftQ quantised. Merge it in PEFT (merge_and_unload), or name the quantised base model and set this to true"
    } else {
        "Eigenmix does not know this initialisation, and some change the base model that the factors are relative to. If this one only sets the factors, set it to true in this file"
    };
    Err(unsupported(fields, OPTION, value, consequence))
}

/// Whether a value says more than that an option is not used.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

fn unsupported(
    fields: &ConfigFields<'_>,
    option: &str,
    value: &Value,
    consequence: &'static str,
) -> AdapterError {
    let mut found = value.to_string();
    if let Some((end, _)) = found.char_indices().nth(SHOWN) {
        found.truncate(end);
        found.push('…');
    }
    AdapterError::UnsupportedOption {
        path: fields.path.to_owned(),
        option: option.to_owned(),
        found,
        consequence,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Map, json};

    use super::*;

    fn checked(option: &str, value: Value) -> Result<(), String> {
        let mut map = Map::new();
        map.insert("peft_type".to_owned(), json!("LORA"));
        map.insert(option.to_owned(), value);
        let fields = ConfigFields {
            map: &map,
            path: Path::new("adapter_config.json"),
        };
        check_support(&fields).map_err(|error| error.to_string())
    }

    #[test]
    fn an_option_that_nobody_knows_is_refused_by_name_unless_it_is_unset() {
        for value in [
            json!(true),
            json!(1),
            json!("on"),
            json!([0]),
            json!({"a": 1}),
        ] {
            let error = checked("use_newest_lora", value).unwrap_err();
            assert!(error.contains("`use_newest_lora`"), "{error}");
            assert!(error.contains("set it to null"), "{error}");
        }
        for value in [json!(null), json!(false), json!(""), json!([]), json!({})] {
            assert_eq!(checked("use_newest_lora", value), Ok(()));
        }
    }

    #[test]
    fn options_that_change_what_the_factors_mean_say_how() {
        for (option, value, word) in [
            ("kasa_config", json!({"beta": 0.1}), "KaSA"),
            ("target_parameters", json!(["experts.down_proj"]), "experts"),
            ("use_bdlora", json!({"nblocks": 2}), "block-diagonal"),
            ("monteclora_config", json!({"n": 2}), "MonteCLoRA"),
            ("alora_invocation_tokens", json!([1]), "certain tokens"),
            (
                "init_lora_weights",
                json!("lora_ga"),
                "path_initial_model_for_weight_conversion",
            ),
            (
                "init_lora_weights",
                json!("pissa_niter_4"),
                "path_initial_model_for_weight_conversion",
            ),
            ("init_lora_weights", json!("loftq"), "LoftQ"),
            ("init_lora_weights", json!("newest"), "does not know"),
        ] {
            let error = checked(option, value).unwrap_err();
            assert!(error.contains(option) && error.contains(word), "{error}");
        }
    }

    #[test]
    fn what_the_training_alone_was_told_passes() {
        for (option, value) in [
            ("init_lora_weights", json!(true)),
            ("init_lora_weights", json!("gaussian")),
            ("init_lora_weights", json!("eva")),
            ("init_lora_weights", json!("mica")),
            ("eva_config", json!({"rho": 2.0})),
            ("velora_config", json!({"rank": 2})),
            ("megatron_core", json!("megatron.core")),
            ("qalora_group_size", json!(16)),
            ("ensure_weight_tying", json!(true)),
            ("trainable_token_indices", json!([1, 2])),
            (
                "auto_mapping",
                json!({"base_model_class": "LlamaForCausalLM"}),
            ),
        ] {
            assert_eq!(checked(option, value), Ok(()), "{option}");
        }
    }

    #[test]
    fn a_long_value_is_shown_in_part() {
        let error = checked("tokens", json!(vec![7; 500])).unwrap_err();
        assert!(error.contains('…') && error.len() < 500, "{error}");
    }
}
