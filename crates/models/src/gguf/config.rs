//! The `config.json` that a GGUF file would have as a Hugging Face checkpoint.

use eigenmix_gguf::{GgufFamily, GgufFile, GgufValue};
use serde_json::{Map, Value, json};

use super::config_keys::{KeyUse, use_of};
use super::family::family_of;
use super::rotary;
use crate::ModelError;

/// Gemma 2's window and soft caps where older files do not say: those of every published one.
const GEMMA2_WINDOW: u64 = 4096;
const GEMMA2_ATTENTION_CAP: f64 = 50.0;
const GEMMA2_OUTPUT_CAP: f64 = 30.0;

/// How many layers the Gemma 2 has whose queries are scaled by its width a head, not by the length of
/// its keys. No file says so; llama.cpp knows it by the same number.
const GEMMA2_27B_LAYERS: u64 = 46;

const TABLE: &str = "token_embd.weight";

/// A file's configuration.
#[derive(Clone, Debug)]
pub struct GgufConfig {
    /// As a `config.json`, for [`Architecture::from_json`](crate::Architecture::from_json).
    pub json: Value,
    /// Metadata of the model that nothing is known about and that is not used, by key.
    pub unused: Vec<String>,
}

impl GgufConfig {
    /// The configuration of a language model.
    ///
    /// # Errors
    /// If the file is of a family that is not supported or no model, a size is missing, layers differ
    /// in their sizes, or its metadata says that a part of it is not as in its family (a mixture of
    /// experts, another rotary embedding, …).
    pub fn of(file: &GgufFile) -> Result<Self, ModelError> {
        if let Some(kind @ ("adapter" | "mmproj")) = file.text("general.type")? {
            let problem = format!(
                "it holds no language model: its `general.type` is `{kind}`; take the file of the base model"
            );
            return Err(refused(file, problem));
        }
        let family = family_of(file)?;
        let unused = checked_keys(file, family)?;
        let sizes = Sizes::of(file, family)?;
        let mut config = Map::new();
        let mut put = |key: &str, value: Value| {
            config.insert(key.to_owned(), value);
        };
        let window = file.unsigned(&sizes.key("attention.sliding_window"))?;
        let window = window.filter(|&width| width > 0);
        let model_type = match (family, window) {
            (GgufFamily::Llama, Some(_)) => "mistral",
            _ => family.name(),
        };
        let class = match model_type {
            "llama" => "LlamaForCausalLM",
            "mistral" => "MistralForCausalLM",
            "qwen2" => "Qwen2ForCausalLM",
            "qwen3" => "Qwen3ForCausalLM",
            _ => "Gemma2ForCausalLM",
        };
        put("architectures", json!([class]));
        put("model_type", json!(model_type));
        put("vocab_size", json!(vocabulary(file)?));
        put("hidden_size", json!(sizes.embedding));
        put("intermediate_size", json!(sizes.feed_forward));
        put("num_hidden_layers", json!(sizes.layers));
        put("num_attention_heads", json!(sizes.heads));
        put("num_key_value_heads", json!(sizes.key_heads));
        put("head_dim", json!(sizes.head));
        put("max_position_embeddings", json!(sizes.context));
        put("rms_norm_eps", json!(sizes.epsilon));
        put(
            "tie_word_embeddings",
            json!(!file.contains("output.weight")),
        );
        match family {
            GgufFamily::Gemma2 => {
                let number = |name| file.number(&sizes.key(name));
                let attention = number("attn_logit_softcapping")?;
                let output = number("final_logit_softcapping")?;
                put("hidden_activation", json!("gelu_pytorch_tanh"));
                put("sliding_window", json!(window.unwrap_or(GEMMA2_WINDOW)));
                let cap = |found: Option<f64>, usual| json!(found.unwrap_or(usual));
                put(
                    "attn_logit_softcapping",
                    cap(attention, GEMMA2_ATTENTION_CAP),
                );
                put("final_logit_softcapping", cap(output, GEMMA2_OUTPUT_CAP));
                let scalar = match sizes.layers {
                    GEMMA2_27B_LAYERS => sizes.embedding / sizes.heads,
                    _ => sizes.head,
                };
                put("query_pre_attn_scalar", json!(scalar));
            }
            _ => put("hidden_act", json!("silu")),
        }
        match (family, window) {
            (GgufFamily::Llama, Some(width)) => put("sliding_window", json!(width)),
            (GgufFamily::Qwen2 | GgufFamily::Qwen3, Some(width)) => {
                let key = sizes.key("attention.sliding_window");
                let problem = format!(
                    "`{key}` is {width}, but not which layers have such a window; that is not supported"
                );
                return Err(refused(file, problem));
            }
            _ => {}
        }
        if has_biases(
            file,
            family,
            "attention",
            &["attn_q", "attn_k", "attn_v", "attn_output"],
        )? {
            put("attention_bias", json!(true));
        }
        if has_biases(
            file,
            family,
            "feed-forward",
            &["ffn_gate", "ffn_up", "ffn_down"],
        )? {
            put("mlp_bias", json!(true));
        }
        rotary::add_to(&mut config, file, family, sizes.head)?;
        add_special_tokens(&mut config, file)?;
        Ok(Self {
            json: Value::Object(config),
            unused,
        })
    }
}

/// The sizes that every family has.
pub(super) struct Sizes {
    family: GgufFamily,
    pub(super) layers: u64,
    embedding: u64,
    feed_forward: u64,
    pub(super) heads: u64,
    pub(super) key_heads: u64,
    head: u64,
    context: u64,
    epsilon: f64,
}

impl Sizes {
    pub(super) fn of(file: &GgufFile, family: GgufFamily) -> Result<Self, ModelError> {
        let key = |name: &str| key_of(family, name);
        let size = |name: &str| -> Result<u64, ModelError> {
            let key = key(name);
            let found = one_for_all_layers(file, &key)?;
            match file.required(&key, found)? {
                0 => Err(refused(file, format!("`{key}` is 0"))),
                found => Ok(found),
            }
        };
        let heads = size("attention.head_count")?;
        let embedding = size("embedding_length")?;
        let key_heads = key("attention.head_count_kv");
        let key_heads = one_for_all_layers(file, &key_heads)?.unwrap_or(heads);
        let of_keys = file.unsigned(&key("attention.key_length"))?;
        let head = of_keys.unwrap_or(embedding / heads);
        for name in ["attention.value_length", "rope.dimension_count"] {
            let key = key(name);
            if let Some(found) = file.unsigned(&key)?
                && found != head
            {
                let problem = format!(
                    "`{key}` is {found}, but keys have {head} values; models where they differ are not supported"
                );
                return Err(refused(file, problem));
            }
        }
        let epsilon = key("attention.layer_norm_rms_epsilon");
        Ok(Self {
            family,
            layers: size("block_count")?,
            embedding,
            feed_forward: size("feed_forward_length")?,
            heads,
            key_heads,
            head,
            context: size("context_length")?,
            epsilon: file.required(&epsilon, file.number(&epsilon)?)?,
        })
    }

    fn key(&self, name: &str) -> String {
        key_of(self.family, name)
    }
}

fn key_of(family: GgufFamily, name: &str) -> String {
    format!("{}.{name}", family.name())
}

pub(super) fn refused(file: &GgufFile, problem: String) -> ModelError {
    ModelError::Config {
        path: file.path().to_owned(),
        problem,
    }
}

/// A number that files give once or for each layer.
fn one_for_all_layers(file: &GgufFile, key: &str) -> Result<Option<u64>, ModelError> {
    let Some(GgufValue::Array(_)) = file.value(key) else {
        return Ok(file.unsigned(key)?);
    };
    let values = file.integers(key)?.unwrap_or_default();
    let first = values
        .first()
        .copied()
        .and_then(|value| u64::try_from(value).ok());
    match (
        first,
        values.iter().all(|value| Some(value) == values.first()),
    ) {
        (Some(value), true) => Ok(Some(value)),
        _ => {
            let problem =
                format!("`{key}` is {values:?}; models whose layers differ are not supported");
            Err(refused(file, problem))
        }
    }
}

fn vocabulary(file: &GgufFile) -> Result<usize, ModelError> {
    match *file.shape(TABLE)? {
        [tokens, _] => Ok(tokens),
        ref other => {
            let problem = format!("tensor `{TABLE}` has shape {other:?}, expected two dimensions");
            Err(refused(file, problem))
        }
    }
}

/// Looks at every key of the family; gives those of which nothing is known.
fn checked_keys(file: &GgufFile, family: GgufFamily) -> Result<Vec<String>, ModelError> {
    let prefix = key_of(family, "");
    let mut unused = Vec::new();
    for (key, value) in file.metadata() {
        let Some(name) = key.strip_prefix(&prefix) else {
            continue;
        };
        match use_of(name) {
            KeyUse::Used | KeyUse::Harmless => {}
            KeyUse::Changes if is_neutral(name, value) => {}
            KeyUse::Changes => {
                let problem = format!(
                    "`{key}` is {}: a part of the model that is not supported",
                    value.describe()
                );
                return Err(refused(file, problem));
            }
            KeyUse::Unknown => unused.push(key.to_owned()),
        }
    }
    Ok(unused)
}

/// Whether a value says that the model has no such part.
fn is_neutral(name: &str, value: &GgufValue) -> bool {
    match (name, value) {
        ("attention.causal", value) => *value == GgufValue::Bool(true),
        ("embedding_scale" | "residual_scale" | "logit_scale", GgufValue::F32(scale)) => {
            *scale == 0.0 || *scale == 1.0
        }
        // Two layers, of which the first has a window: Gemma 2's own.
        ("attention.sliding_window_pattern", value) => value.as_integer() == Some(2),
        (_, GgufValue::Bool(value)) => !value,
        (_, GgufValue::F32(value)) => *value == 0.0,
        (_, value) => value.as_integer() == Some(0),
    }
}

/// Whether these modules have biases: all of them in all layers, or none. Qwen 2's three, which every
/// one of its models has, need no word.
fn has_biases(
    file: &GgufFile,
    family: GgufFamily,
    part: &str,
    modules: &[&str],
) -> Result<bool, ModelError> {
    let found: Vec<&str> = modules
        .iter()
        .copied()
        .filter(|module| {
            let end = format!(".{module}.bias");
            file.names().any(|name| name.ends_with(&end))
        })
        .collect();
    if found.is_empty() {
        return Ok(false);
    }
    if found.len() == modules.len() {
        return Ok(true);
    }
    if family == GgufFamily::Qwen2 && found == ["attn_q", "attn_k", "attn_v"] {
        return Ok(false);
    }
    let problem = format!(
        "of its {part} layers only {} have biases; that is not supported in a {} model",
        found.join(", "),
        family.name()
    );
    Err(refused(file, problem))
}

fn add_special_tokens(config: &mut Map<String, Value>, file: &GgufFile) -> Result<(), ModelError> {
    let id = |name: &str| file.unsigned(&format!("tokenizer.ggml.{name}_token_id"));
    for (name, key) in [("bos", "bos_token_id"), ("padding", "pad_token_id")] {
        if let Some(id) = id(name)? {
            config.insert(key.to_owned(), json!(id));
        }
    }
    // The end of a text, of a turn and of a message: each ends what a model writes.
    let mut ends = Vec::new();
    for name in ["eos", "eot", "eom"] {
        if let Some(id) = id(name)?
            && !ends.contains(&id)
        {
            ends.push(id);
        }
    }
    match ends[..] {
        [] => {}
        [only] => {
            config.insert("eos_token_id".to_owned(), json!(only));
        }
        _ => {
            config.insert("eos_token_id".to_owned(), json!(ends));
        }
    }
    Ok(())
}
