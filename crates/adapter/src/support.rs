//! Which PEFT configurations are refused because reading them would make another model than PEFT does.

use serde_json::{Value, json};

use crate::AdapterError;
use crate::config_fields::ConfigFields;

/// Options under which B · A does not mean ΔW of the named base model.
const REFUSED_OPTIONS: [(&str, &str); 4] = [
    (
        "alora_invocation_tokens",
        "an activated LoRA acts only after certain tokens, which is not supported",
    ),
    (
        "arrow_config",
        "Arrow routes between adapters at run time, which is not supported",
    ),
    (
        "layer_replication",
        "its module paths are those of a base model with repeated layers, which is not supported",
    ),
    (
        "use_qalora",
        "QA-LoRA pools its inputs before A, which is not supported",
    ),
];

/// Initialisations that change the base model's weights, which the saved factors are relative to.
const REFUSED_INITIALISATIONS: [&str; 3] = ["pissa", "olora", "corda"];

/// Refuses other methods than LoRA and the options above.
pub(crate) fn check_support(fields: &ConfigFields<'_>) -> Result<(), AdapterError> {
    let method = fields.text("peft_type")?;
    if method.as_deref() != Some("LORA") {
        return Err(AdapterError::UnsupportedMethod {
            path: fields.path.to_owned(),
            found: method.unwrap_or_else(|| "nameless (no peft_type)".to_owned()),
        });
    }
    for (option, consequence) in REFUSED_OPTIONS {
        if let Some(found) = fields.value(option).filter(|&value| *value != json!(false)) {
            return Err(AdapterError::UnsupportedOption {
                path: fields.path.to_owned(),
                option,
                found: found.to_string(),
                consequence,
            });
        }
    }
    let initialisation = fields
        .value("init_lora_weights")
        .and_then(Value::as_str)
        .unwrap_or("");
    if REFUSED_INITIALISATIONS
        .iter()
        .any(|name| initialisation.to_lowercase().starts_with(name))
    {
        return Err(AdapterError::UnsupportedOption {
            path: fields.path.to_owned(),
            option: "init_lora_weights",
            found: initialisation.to_owned(),
            consequence: "its factors are relative to a changed base model. Convert it in PEFT to plain LoRA: save_pretrained(DIR, path_initial_model_for_weight_conversion=INITIAL_ADAPTER)",
        });
    }
    Ok(())
}
