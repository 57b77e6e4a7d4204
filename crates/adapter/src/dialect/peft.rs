//! PEFT: a directory with `adapter_config.json` beside `adapter_model.safetensors`.

use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_tensors::{FileError, TensorFile};

use super::Reading;
use crate::index::{FileIndex, ModuleEntry, ModuleParts, Orientation, duplicate};
use crate::key::{Part, Role, role_of};
use crate::module_name::{unwrap_configuration, without_wrappers};
use crate::token_rows::table_of_rows;
use crate::vera::{self, VeraProjections};
use crate::{AdapterError, Dialect, PeftConfig, Style};

/// Reads the names and shapes of `file` under the configuration in `directory`.
///
/// # Errors
/// If there is no configuration, it is not supported, or the two do not fit each other.
pub(super) fn read(file: &TensorFile, directory: &Path) -> Result<Reading, AdapterError> {
    let config_path = directory.join(PeftConfig::FILE_NAME);
    if !config_path.exists() {
        if let Some((program, tensor)) = foreign_spelling(file) {
            return Err(AdapterError::ForeignSpelling {
                path: file.path().to_owned(),
                program,
                tensor: tensor.to_owned(),
            });
        }
        return Err(AdapterError::NoConfig {
            directory: directory.to_owned(),
            found: crate::weights_file::list(directory)?,
        });
    }
    let mut raw = PeftConfig::read_raw(&config_path)?;
    unwrap_configuration(&mut raw, file.names());
    let (config, index, vera) = if vera::is_vera(&raw) {
        let config = vera::lora_config(raw, &config_path)?;
        let (index, projections) = VeraProjections::index(file, &config)?;
        (config, index, Some(projections))
    } else {
        let config = PeftConfig::from_map(raw, &config_path)?;
        let index = index(file, &config)?;
        (config, index, None)
    };
    Ok(Reading {
        config,
        index,
        vera,
        style: Style::new(Dialect::Peft),
    })
}

/// The program whose spelling the names of a single file are in, if it is known and not supported, and
/// a name that shows it.
fn foreign_spelling(file: &TensorFile) -> Option<(&'static str, &str)> {
    file.names().find_map(|name| {
        let program = if name.starts_with("diffusion_model.") {
            "ComfyUI"
        } else if name.starts_with("lora_transformer_") || name.contains(".lora_down.") {
            "OneTrainer"
        } else if name.contains(".processor.") && name.contains("_lora") {
            "XLabs"
        } else {
            return None;
        };
        Some((program, name))
    })
}

/// Sorts the tensors of `file` by what they are and checks that every module is complete and of
/// the rank that `config` says.
fn index(file: &TensorFile, config: &PeftConfig) -> Result<FileIndex, AdapterError> {
    let mut index = FileIndex::default();
    let mut modules: BTreeMap<String, BTreeMap<Part, String>> = BTreeMap::new();
    for key in file.names() {
        let name = without_wrappers(key);
        match role_of(&name, config) {
            Role::Factor(module, part) => {
                let parts = modules.entry(module.to_owned()).or_default();
                if let Some(first) = parts.insert(part, key.to_owned()) {
                    return Err(duplicate(file, first, key));
                }
            }
            role => index.add_other(file, role, key)?,
        }
    }
    for (module, keys) in modules {
        let entry = entry(file, config, &module, keys)?;
        index.modules.insert(module, entry);
    }
    require_token_rows(&index, file, config)?;
    index.require_modules(file)?;
    Ok(index)
}

/// Checks that there is a row for every token that was trained.
fn require_token_rows(
    index: &FileIndex,
    file: &TensorFile,
    config: &PeftConfig,
) -> Result<(), AdapterError> {
    let mut found = Vec::new();
    for (name, key) in &index.heads {
        let Some(module) = table_of_rows(name) else {
            continue;
        };
        found.push(module);
        let tokens = config.trained_tokens().of(module).map_or(0, <[usize]>::len);
        let shape = file.shape(key)?;
        if shape.len() != 2 || shape[0] != tokens {
            return Err(FileError::TensorShape {
                path: file.path().to_owned(),
                tensor: key.clone(),
                expected: format!("[{tokens}, width], a row for each of trainable_token_indices"),
                found: shape.to_vec(),
            }
            .into());
        }
    }
    if let Some(module) = config.trained_tokens().missing_of(&found) {
        return Err(AdapterError::IncompleteModule {
            path: file.path().to_owned(),
            module: module.to_owned(),
            missing: "token_adapter.trainable_tokens_delta",
        });
    }
    Ok(())
}

fn entry(
    file: &TensorFile,
    config: &PeftConfig,
    module: &str,
    mut keys: BTreeMap<Part, String>,
) -> Result<ModuleEntry, AdapterError> {
    let is_embedding = keys.contains_key(&Part::EmbeddingA) || keys.contains_key(&Part::EmbeddingB);
    if is_embedding {
        // ΔW = (B·A)ᵀ = Aᵀ·Bᵀ, so that the two change places.
        let factors = [
            (Part::B, keys.remove(&Part::EmbeddingA)),
            (Part::A, keys.remove(&Part::EmbeddingB)),
        ];
        for (part, key) in factors {
            if let Some(key) = key
                && let Some(first) = keys.insert(part, key.clone())
            {
                return Err(AdapterError::DuplicateTensor {
                    path: file.path().to_owned(),
                    first,
                    second: key,
                });
            }
        }
    }
    let required = [
        (Part::Mixer, config.use_mixer()),
        (Part::Magnitude, config.use_dora()),
        (Part::Bias, config.lora_bias() && !is_embedding),
    ];
    for (part, is_required) in required {
        if is_required && !keys.contains_key(&part) {
            return Err(AdapterError::IncompleteModule {
                path: file.path().to_owned(),
                module: module.to_owned(),
                missing: part.suffix(),
            });
        }
    }
    let is_convolution = match keys.get(&Part::A) {
        Some(key) => file.shape(key)?.len() > 2,
        None => false,
    };
    if let Some(tensor) = keys.get(&Part::Magnitude)
        && (is_embedding || is_convolution)
    {
        return Err(AdapterError::UnsupportedTensor {
            path: file.path().to_owned(),
            tensor: tensor.clone(),
            method: "DoRA on an embedding or a convolution",
        });
    }
    let parts = ModuleParts {
        keys,
        scaling: config.scaling_of(module),
        orientation: match is_embedding {
            true => Orientation::TransposedEmbedding,
            false => Orientation::Usual,
        },
    };
    let spelling = |part: Part| match (part, is_embedding) {
        (Part::A, true) => Part::EmbeddingB.suffix(),
        (Part::B, true) => Part::EmbeddingA.suffix(),
        (part, _) => part.suffix(),
    };
    let entry = ModuleEntry::check(file, module, parts, spelling)?;
    if entry.rank != config.rank_of(module) {
        return Err(AdapterError::RankMismatch {
            path: file.path().to_owned(),
            module: module.to_owned(),
            expected: config.rank_of(module),
            found: entry.rank,
        });
    }
    Ok(entry)
}
