//! GGUF, as llama.cpp's `convert_lora_to_gguf.py` writes it: one file, `TENSOR.lora_a` `[rank, d_in]`
//! and `TENSOR.lora_b` `[d_out, rank]` in GGUF's names of tensors, and one alpha for all of them, from
//! which s = alpha / rank of each.

use std::collections::BTreeMap;

use eigenmix_gguf::{GgufFamily, is_gguf_name};
use eigenmix_tensors::TensorFile;
use serde_json::json;

use super::Reading;
use super::gguf_file::{ALPHA, ARCHITECTURE, BASE_MODEL, TABLE};
use crate::index::{FileIndex, ModuleEntry, ModuleParts, Orientation};
use crate::key::Part;
use crate::{AdapterError, Dialect, GgufBase, PeftConfig, Style};

pub(super) fn recognises(file: &TensorFile) -> bool {
    is_gguf_name(file.path())
}

/// # Errors
/// If the family is not known, or a module is incomplete or not of two matrices that fit each other.
pub(super) fn read(file: &TensorFile) -> Result<Reading, AdapterError> {
    let metadata = file.metadata();
    let architecture = metadata.get(ARCHITECTURE).map_or("", String::as_str);
    let family =
        GgufFamily::from_name(architecture).ok_or_else(|| AdapterError::GgufArchitecture {
            path: file.path().to_owned(),
            found: architecture.to_owned(),
        })?;
    // llama.cpp takes an alpha of 0, or none, for a scaling of 1.
    // The text has as many digits as tell numbers of single precision apart, and is no other number in it.
    let alpha = metadata
        .get(ALPHA)
        .and_then(|text| text.parse::<f32>().ok());
    let alpha = alpha.map(f64::from).filter(|&alpha| alpha != 0.0);

    let mut index = FileIndex::default();
    let mut found: BTreeMap<&str, BTreeMap<Part, String>> = BTreeMap::new();
    for key in file.names() {
        let (tensor, part) = match key.rsplit_once('.') {
            Some((tensor, "lora_a")) => (tensor, Part::A),
            Some((tensor, "lora_b")) => (tensor, Part::B),
            _ if key.ends_with("_norm.weight") => {
                index.leave_out(
                    key,
                    "a norm, which llama.cpp does not take from adapters either",
                );
                continue;
            }
            _ => {
                index.leave_out(key, "neither `….lora_a` nor `….lora_b`");
                continue;
            }
        };
        // The two factors of a table have each other's names.
        let part = match (tensor == TABLE, part) {
            (true, Part::A) => Part::B,
            (true, _) => Part::A,
            (false, part) => part,
        };
        found
            .entry(tensor)
            .or_default()
            .insert(part, key.to_owned());
    }
    for (tensor, keys) in found {
        let path = match module_of(family, tensor) {
            Some(path) => path,
            None => {
                for key in keys.values() {
                    index.leave_out(key, "the models of its family have no such module");
                }
                continue;
            }
        };
        let orientation = match tensor == TABLE {
            true => Orientation::Embedding,
            false => Orientation::Usual,
        };
        if let Some(key) = keys.values().find(|key| {
            let shape = file.shape(key).unwrap_or_default();
            shape.len() != 2
        }) {
            return Err(AdapterError::GgufKind {
                path: file.path().to_owned(),
                problem: format!(
                    "`{key}` has shape {:?}, expected the two sizes of a factor",
                    file.shape(key)?
                ),
            });
        }
        let parts = ModuleParts {
            keys,
            scaling: 1.0,
            orientation,
        };
        let mut entry = ModuleEntry::check(file, tensor, parts, |part| spelling(tensor, part))?;
        if let Some(alpha) = alpha {
            entry.scaling = (alpha / entry.rank as f64) as f32;
        }
        index.modules.insert(path, entry);
    }
    index.require_modules(file)?;

    let mut style = Style::new(Dialect::Gguf);
    style.metadata = metadata.clone();
    style.gguf = Some(GgufBase {
        family,
        heads: None,
        is_tied: false,
    });
    let config = PeftConfig::of_entries(named_base(metadata).as_deref(), &index.modules)?;
    Ok(Reading {
        config: config.with("task_type", json!("CAUSAL_LM"))?,
        index,
        vera: None,
        style,
    })
}

/// The path of the linear layer or table whose weight `tensor` is.
fn module_of(family: GgufFamily, tensor: &str) -> Option<String> {
    let is_norm = tensor.ends_with("_norm.weight");
    let name = family.checkpoint_name(tensor).filter(|_| !is_norm)?;
    name.strip_suffix(".weight").map(str::to_owned)
}

fn spelling(tensor: &str, part: Part) -> &'static str {
    match (part == Part::A) == (tensor == TABLE) {
        true => "lora_b",
        false => "lora_a",
    }
}

/// The base model that the metadata name: a Hub id, or a path that was written here.
fn named_base(metadata: &BTreeMap<String, String>) -> Option<String> {
    const HUB: &str = "https://huggingface.co/";
    if let Some(name) = metadata.get(BASE_MODEL) {
        return Some(name.clone());
    }
    let value = |key: &str| metadata.get(&format!("general.base_model.0.{key}"));
    let address = value("repo_url").or_else(|| value("url"));
    if let Some(id) = address.and_then(|address| address.strip_prefix(HUB)) {
        return Some(id.trim_end_matches('/').to_owned());
    }
    // llama.cpp puts words there, such as `Llama 3.1 8B`.
    let name = value("name")?;
    (name.contains('/') && !name.contains(' ')).then(|| name.clone())
}
