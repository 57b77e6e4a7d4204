//! mlx-lm: `PATH.lora_a` `[d_in, rank]` and `PATH.lora_b` `[rank, d_out]` in `adapters.safetensors`;
//! `adapter_config.json` has one s for all modules, `lora_parameters.scale`.
//!
//! `W + s · (lora_a · lora_b)ᵀ`, and of an embedding `W + s · lora_a · lora_b`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use eigenmix_tensors::TensorFile;
use serde_json::{Map, Value, json};

use super::Reading;
use crate::config_fields::ConfigFields;
use crate::index::{FileIndex, ModuleEntry, ModuleParts, Orientation};
use crate::key::Part;
use crate::single_file::{Writing, factors_of};
use crate::style::ModuleStyle;
use crate::{Adapter, AdapterError, Dialect, LayerKind, LoraModule, PeftConfig, Style};

/// The last components of embeddings; the file does not say what kind of layer a module is.
const EMBEDDINGS: [&str; 6] = [
    "embed_tokens",
    "wte",
    "tok_embeddings",
    "word_embeddings",
    "embedding",
    "embed_in",
];

pub(super) fn recognises(file: &TensorFile) -> bool {
    file.names()
        .any(|name| name.ends_with(".lora_a") || name.ends_with(".lora_b"))
}

/// # Errors
/// If the configuration is missing or not of LoRA, or a module is incomplete. The rank that it says
/// is only that of new modules: mlx-lm takes the factors as they are.
pub(super) fn read(file: &TensorFile, directory: &Path) -> Result<Reading, AdapterError> {
    let config_path = directory.join(PeftConfig::FILE_NAME);
    if !config_path.exists() {
        return Err(AdapterError::NoConfig {
            directory: directory.to_owned(),
            found: crate::weights_file::list(directory)?,
        });
    }
    let raw = PeftConfig::read_raw(&config_path)?;
    let settings = Settings::read(&raw, &config_path)?;
    let mut index = FileIndex::default();
    let mut found: BTreeMap<&str, BTreeMap<Part, String>> = BTreeMap::new();
    for key in file.names() {
        let unsupported = |method| AdapterError::UnsupportedTensor {
            path: file.path().to_owned(),
            tensor: key.to_owned(),
            method,
        };
        let Some((module, tail)) = key.rsplit_once('.') else {
            index.leave_out(key, "no tensor of a LoRA");
            continue;
        };
        let part = match tail {
            "lora_a" => Part::A,
            "lora_b" => Part::B,
            "m" => return Err(unsupported("DoRA")),
            _ => {
                index.leave_out(key, "no tensor of a LoRA");
                continue;
            }
        };
        if file.shape(key)?.len() == 3 {
            return Err(unsupported("LoRA on the experts of a mixture"));
        }
        let part = match (is_embedding(module), part) {
            (true, Part::A) => Part::B,
            (true, _) => Part::A,
            (false, part) => part,
        };
        let keys = found.entry(module).or_default();
        keys.insert(part, key.to_owned());
    }
    let mut style = Style::new(Dialect::Mlx);
    for (path, keys) in found {
        let is_embedding = is_embedding(path);
        let parts = ModuleParts {
            keys,
            scaling: settings.scale,
            orientation: match is_embedding {
                true => Orientation::Embedding,
                false => Orientation::Transposed,
            },
        };
        let spelling = |part: Part| match (part, is_embedding) {
            (Part::A, false) | (Part::B, true) => "lora_a",
            _ => "lora_b",
        };
        let entry = ModuleEntry::check(file, path, parts, spelling)?;
        index.modules.insert(path.to_owned(), entry);
    }
    index.require_modules(file)?;
    style.metadata = file.metadata().clone();
    style.config = raw;
    Ok(Reading {
        config: PeftConfig::of_entries(settings.model.as_deref(), &index.modules)?,
        index,
        vera: None,
        style,
    })
}

/// What `adapter_config.json` says of the update.
struct Settings {
    model: Option<String>,
    scale: f32,
}

impl Settings {
    fn read(raw: &Map<String, Value>, path: &Path) -> Result<Self, AdapterError> {
        let fields = ConfigFields { map: raw, path };
        let kind = fields.text("fine_tune_type")?;
        let is_dora = fields.flag("use_dora")?;
        match kind.as_deref() {
            Some("lora") | None if !is_dora => {}
            other => {
                return Err(AdapterError::UnsupportedMethod {
                    path: path.to_owned(),
                    found: other.unwrap_or("dora").to_owned(),
                });
            }
        }
        let parameters = match fields.value("lora_parameters") {
            Some(Value::Object(parameters)) => parameters,
            other => {
                let found = other.cloned().unwrap_or(Value::Null);
                return Err(fields.error("lora_parameters", "an object with `scale`", &found));
            }
        };
        let inner = ConfigFields {
            map: parameters,
            path,
        };
        let rank = match inner.value("rank") {
            Some(_) => Some(inner.positive("rank", 1)?),
            None => None,
        };
        if let Some(alpha) = inner.value("alpha")
            && (rank.is_none() || alpha.as_f64() != rank.map(|rank| rank as f64))
        {
            return Err(AdapterError::UnsupportedOption {
                path: path.to_owned(),
                option: "lora_parameters.alpha".to_owned(),
                found: alpha.to_string(),
                consequence: "the first releases of mlx-lm multiply the scale by alpha / rank, later ones ignore alpha. Remove it, and set scale to what multiplied the product when it was trained",
            });
        }
        let scale = inner.number("scale", f64::NAN)? as f32;
        if !scale.is_finite() {
            let found = inner.value("scale").cloned().unwrap_or(Value::Null);
            return Err(inner.error("lora_parameters.scale", "a number", &found));
        }
        Ok(Self {
            model: fields.text("model")?,
            scale,
        })
    }
}

fn is_embedding(path: &str) -> bool {
    let last = path.rsplit('.').next().unwrap_or(path);
    EMBEDDINGS.contains(&last)
}

/// The tensors and the configuration of `adapter`: with its scaling if all modules share one, else
/// with scale 1 and the scalings multiplied into B.
///
/// # Errors
/// If a module is no linear layer or embedding, or has more than a low-rank update.
pub(super) fn write<'a>(adapter: &'a Adapter, style: &Style) -> Result<Writing<'a>, AdapterError> {
    let part = style.common_part(adapter.modules.keys())?;
    let refuse = |module: &str, problem: String| AdapterError::NotConvertible {
        module: module.to_owned(),
        dialect: Dialect::Mlx,
        problem,
    };
    if let Some(part) = part {
        let first = adapter.modules.keys().next().map_or("", String::as_str);
        let problem =
            format!("it is of the {part} of an image generator, mlx-lm is for language models");
        return Err(refuse(first, problem));
    }
    if adapter.config.fan_in_fan_out() {
        let first = adapter.modules.keys().next().map_or("", String::as_str);
        let problem = "mlx-lm names the modules of this base model otherwise (fan_in_fan_out)";
        return Err(refuse(first, problem.to_owned()));
    }
    let mut writing = Writing::new(style.metadata.clone());
    let mut scalings = adapter.modules.values().map(|module| module.scaling);
    let scale = scalings.next().unwrap_or(1.0);
    let is_shared = scalings.all(|other| other == scale);
    for (path, module) in &adapter.modules {
        match (&module.layer, is_embedding(path)) {
            (LayerKind::Linear, false) | (LayerKind::Embedding, true) => {}
            (kind, _) => {
                let problem = format!("it is {kind}, which its name does not show there");
                return Err(refuse(path, problem));
            }
        }
        let mut folded = factors_of(path, module, Dialect::Mlx)?;
        if !is_shared {
            folded = LoraModule::unscaled(folded);
        }
        let (first, second) = (format!("{path}.lora_a"), format!("{path}.lora_b"));
        let names = |a: String, b: String| ModuleStyle {
            a,
            b,
            alpha: None,
            rank: 0,
            scaling: f32::NAN,
        };
        if is_embedding(path) {
            writing.push_factors(&names(second, first), folded);
        } else {
            writing.push_transposed(&names(first, second), &folded);
        }
    }
    writing.config = Some(config(adapter, style, if is_shared { scale } else { 1.0 }));
    Ok(writing)
}

/// The configuration that was read, where it says the same still; or one with what mlx-lm needs.
fn config(adapter: &Adapter, style: &Style, scale: f32) -> Map<String, Value> {
    let mut config = style.config.clone();
    let mut set = |key: &str, value: Value| {
        config.entry(key).or_insert(value);
    };
    set("fine_tune_type", json!("lora"));
    set("model", json!(adapter.config.base_model()));
    // All layers.
    set("num_layers", json!(-1));
    let mut ranks: BTreeMap<usize, usize> = BTreeMap::new();
    for module in adapter.modules.values() {
        *ranks.entry(module.rank()).or_default() += 1;
    }
    let rank = ranks.iter().max_by_key(|(_, count)| **count);
    let mut parameters = match config.get("lora_parameters") {
        Some(Value::Object(known)) => known.clone(),
        _ => Map::new(),
    };
    let is_known = !parameters.is_empty();
    parameters.insert("rank".into(), json!(rank.map_or(1, |(&rank, _)| rank)));
    let says_scale = parameters.get("scale").and_then(Value::as_f64);
    if says_scale.map(|known| known as f32) != Some(scale) {
        parameters.insert("scale".into(), json!(scale));
    }
    parameters.shift_remove("alpha");
    if !is_known {
        parameters.insert("dropout".into(), json!(0.0));
        let keys: BTreeSet<&str> = adapter
            .modules
            .keys()
            .map(|path| inside_layer(path))
            .collect();
        parameters.insert("keys".into(), json!(keys));
    }
    config.insert("lora_parameters".into(), Value::Object(parameters));
    config
}

/// The path of a module inside its layer: what follows `layers.N.`, or all of it.
fn inside_layer(path: &str) -> &str {
    for (start, word) in [("layers.", 7), (".h.", 3)] {
        let Some(at) = path.find(start) else { continue };
        let rest = &path[at + word..];
        if let Some((number, inner)) = rest.split_once('.')
            && number.bytes().all(|letter| letter.is_ascii_digit())
        {
            return inner;
        }
    }
    path
}
