//! diffusers: one file for a pipeline, `unet.PATH.lora_A.weight` `[rank, d_in]` and
//! `unet.PATH.lora_B.weight` `[d_out, rank]` or an older spelling.
//!
//! s comes from PEFT's configuration of each part in the metadata (`lora_adapter_metadata`), else
//! from `PATH.alpha` as alpha / rank, else it is 1.

use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_tensors::TensorFile;
use serde_json::{Map, Value, json};

use super::Reading;
use super::diffusers_names::{Kind, PARTS, parse};
use crate::export::exported_config;
use crate::index::{FileIndex, ModuleEntry, ModuleParts, Orientation};
use crate::key::Part as TensorPart;
use crate::single_file::{Writing, factors_of};
use crate::style::{ModuleStyle, read_alpha};
use crate::{Adapter, AdapterError, Dialect, LoraModule, PeftConfig, Style};

/// The key of the metadata under which diffusers keeps PEFT's configurations.
const CONFIGS: &str = "lora_adapter_metadata";

/// PEFT's configuration of each part of the pipeline.
type PartConfigs = BTreeMap<String, PeftConfig>;

pub(super) fn recognises(file: &TensorFile) -> bool {
    file.names()
        .any(|name| matches!(parse(name), Some((_, Kind::Down | Kind::Up))))
}

/// # Errors
/// If another method than LoRA is in the file, a module is incomplete or named twice, or the
/// metadata do not fit the tensors.
pub(super) fn read(file: &TensorFile) -> Result<Reading, AdapterError> {
    let configs = part_configs(file.metadata(), file.path())?;
    let mut index = FileIndex::default();
    let mut found: BTreeMap<String, BTreeMap<TensorPart, String>> = BTreeMap::new();
    let mut alphas: BTreeMap<String, String> = BTreeMap::new();
    for key in file.names() {
        let Some((path, kind)) = parse(key) else {
            index.leave_out(key, "no tensor of a LoRA in any spelling of diffusers");
            continue;
        };
        let first = match kind {
            Kind::Down => found
                .entry(path.clone())
                .or_default()
                .insert(TensorPart::A, key.into()),
            Kind::Up => found
                .entry(path.clone())
                .or_default()
                .insert(TensorPart::B, key.into()),
            Kind::Alpha if config_of(&configs, &path).is_some() => {
                index.leave_out(
                    key,
                    "an alpha beside a configuration, which diffusers ignores",
                );
                None
            }
            Kind::Alpha => alphas.insert(path.clone(), key.into()),
            Kind::Other(method) => {
                return Err(AdapterError::UnsupportedTensor {
                    path: file.path().to_owned(),
                    tensor: key.to_owned(),
                    method,
                });
            }
        };
        if let Some(first) = first {
            return Err(AdapterError::SameModule {
                path: file.path().to_owned(),
                first,
                second: key.to_owned(),
                module: path,
            });
        }
    }

    let mut style = Style::new(Dialect::Diffusers);
    style.metadata = file.metadata().clone();
    for (path, keys) in found {
        let (a, b) = (
            keys.get(&TensorPart::A).cloned(),
            keys.get(&TensorPart::B).cloned(),
        );
        let parts = ModuleParts {
            keys,
            scaling: 1.0,
            orientation: Orientation::Usual,
        };
        let mut entry = ModuleEntry::check(file, &path, parts, spelling)?;
        let alpha = match alphas.remove(&path) {
            Some(key) => Some(read_alpha(file, key)?),
            None => None,
        };
        if let Some((config, inner)) = config_of(&configs, &path) {
            let expected = config.rank_of(inner);
            if expected != entry.rank {
                return Err(AdapterError::RankMismatch {
                    path: file.path().to_owned(),
                    module: path,
                    expected,
                    found: entry.rank,
                });
            }
            entry.scaling = config.scaling_of(inner);
        } else if let Some(alpha) = &alpha {
            entry.scaling = alpha.scaling(entry.rank);
        }
        let names = ModuleStyle {
            a: a.unwrap_or_default(),
            b: b.unwrap_or_default(),
            alpha,
            rank: entry.rank,
            scaling: entry.scaling,
        };
        style.modules.insert(path.clone(), names);
        index.modules.insert(path, entry);
    }
    for key in alphas.values() {
        index.leave_out(key, "an alpha of a module that is not in the file");
    }
    index.require_modules(file)?;
    Ok(Reading {
        config: PeftConfig::of_entries(base_model(&configs), &index.modules)?,
        index,
        vera: None,
        style,
    })
}

/// The base model that the configurations name, if they name one.
fn base_model(configs: &PartConfigs) -> Option<&str> {
    configs.values().find_map(PeftConfig::base_model)
}

/// The configurations in the metadata, each under the part that it is for.
fn part_configs(
    metadata: &BTreeMap<String, String>,
    file: &Path,
) -> Result<PartConfigs, AdapterError> {
    let Some(text) = metadata.get(CONFIGS) else {
        return Ok(PartConfigs::new());
    };
    let fields: Map<String, Value> =
        serde_json::from_str(text).map_err(|source| AdapterError::Metadata {
            path: file.to_owned(),
            key: CONFIGS,
            source,
        })?;
    let mut parts: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for (key, value) in fields {
        let Some((part, field)) = key.split_once('.') else {
            continue;
        };
        let part = parts.entry(part.to_owned()).or_default();
        part.insert(field.to_owned(), value);
    }
    let with_type = |mut raw: Map<String, Value>| {
        // Some versions leave out what can only be this.
        raw.entry("peft_type").or_insert_with(|| json!("LORA"));
        PeftConfig::from_map(raw, file)
    };
    parts
        .into_iter()
        .map(|(part, raw)| Ok((part, with_type(raw)?)))
        .collect()
}

/// The configuration for a module, and the path that the module has in its part.
fn config_of<'a>(configs: &'a PartConfigs, path: &'a str) -> Option<(&'a PeftConfig, &'a str)> {
    let (part, inner) = path.split_once('.')?;
    Some((configs.get(part)?, inner))
}

/// The tensors of `adapter`: under the names that `style` has for its modules, the others as PEFT
/// names them.
///
/// A part that did not change is written as it was. Of any other the scaling goes into alphas where the
/// file has them, else into B; where the file has configurations, or ranks differ and nothing would
/// say so, it goes into B beside a new configuration: of several parts diffusers reads either all
/// configurations or none.
///
/// # Errors
/// If a module is not of a part of a pipeline, or has more than a low-rank update.
pub(super) fn write<'a>(adapter: &'a Adapter, style: &Style) -> Result<Writing<'a>, AdapterError> {
    let known = part_configs(&style.metadata, Path::new("the metadata that were read"))?;
    let parts = Part::all(adapter, style, &known)?;
    let needs_configs = !known.is_empty()
        || parts.iter().any(|part| {
            part.state == State::Changed && !part.is_uniform() && !part.has_alphas(style)
        });
    let mut writing = Writing::new(style.metadata.clone());
    let mut configs = BTreeMap::new();
    for part in &parts {
        let config = known.get(&part.name);
        match (part.state, config) {
            (State::Fits, Some(config)) => {
                configs.insert(&part.name, config.raw().clone());
            }
            (State::Changed, config) if needs_configs => {
                configs.insert(&part.name, new_config(config, &part.modules)?);
            }
            _ => {}
        }
        for (inner, module) in &part.modules {
            let path = format!("{}.{inner}", part.name);
            let names = style.modules.get(&path).cloned();
            let names = names.unwrap_or_else(|| new_names(&path));
            let folded = factors_of(&path, module, Dialect::Diffusers)?;
            let is_changed = part.state == State::Changed;
            if part.state == State::Fits {
                writing.push_factors(&names, folded);
            } else if names.alpha.is_some() && !(is_changed && needs_configs) {
                let alpha = names.alpha_of(folded.rank(), folded.scaling);
                writing.push_factors(&names, folded);
                writing.push_alpha(names.alpha_tensor(alpha));
            } else {
                writing.push_factors(&names, LoraModule::unscaled(folded));
            }
        }
    }
    // A configuration of which nothing changed stays in the very words.
    let is_unchanged = configs.len() == known.len()
        && known
            .iter()
            .all(|(part, config)| configs.get(part) == Some(config.raw()));
    if !is_unchanged {
        writing.metadata.remove(CONFIGS);
        if let Some(text) = metadata_text(&configs) {
            writing.metadata.insert(CONFIGS.to_owned(), text);
        }
    }
    writing
        .metadata
        .entry("format".to_owned())
        .or_insert_with(|| "pt".to_owned());
    Ok(writing)
}

/// The modules of one part of the pipeline, by their paths in it.
struct Part<'a> {
    name: String,
    modules: BTreeMap<String, &'a LoraModule>,
    state: State,
}

/// What a part is beside the file that it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its configuration says its ranks and scalings.
    Fits,
    /// It has no configuration, and its ranks and scalings are those of the file.
    AsItWas,
    Changed,
}

impl<'a> Part<'a> {
    fn all(
        adapter: &'a Adapter,
        style: &Style,
        configs: &PartConfigs,
    ) -> Result<Vec<Self>, AdapterError> {
        let mut parts: BTreeMap<String, BTreeMap<String, &'a LoraModule>> = BTreeMap::new();
        for (path, module) in &adapter.modules {
            let path = style.path_in_pipeline(path)?;
            match path.split_once('.') {
                Some((part, inner)) if PARTS.contains(&part) => {
                    let modules = parts.entry(part.to_owned()).or_default();
                    modules.insert(inner.to_owned(), module);
                }
                _ => {
                    return Err(AdapterError::NotConvertible {
                        module: path,
                        dialect: Dialect::Diffusers,
                        problem: "where the dots of its path are cannot be told for certain"
                            .to_owned(),
                    });
                }
            }
        }
        let part = |(name, modules): (String, BTreeMap<String, &'a LoraModule>)| {
            let as_it_was = |(inner, module): (&String, &&LoraModule)| {
                let names = style.modules.get(&format!("{name}.{inner}"));
                names.is_some_and(|names| {
                    (names.rank, names.scaling) == (module.rank(), module.scaling)
                })
            };
            let state = match configs.get(&name) {
                Some(config) if fits(config, &modules) => State::Fits,
                None if modules.iter().all(as_it_was) => State::AsItWas,
                _ => State::Changed,
            };
            Self {
                name,
                modules,
                state,
            }
        };
        Ok(parts.into_iter().map(part).collect())
    }

    fn is_uniform(&self) -> bool {
        let mut ranks = self.modules.values().map(|module| module.rank());
        let first = ranks.next();
        ranks.all(|rank| Some(rank) == first)
    }

    fn has_alphas(&self, style: &Style) -> bool {
        self.modules.keys().any(|inner| {
            let names = style.modules.get(&format!("{}.{inner}", self.name));
            names.is_some_and(|names| names.alpha.is_some())
        })
    }
}

/// Whether the configuration gives every module the rank and the scaling that it has.
fn fits(config: &PeftConfig, modules: &BTreeMap<String, &LoraModule>) -> bool {
    modules.iter().all(|(path, module)| {
        config.rank_of(path) == module.rank()
            && config.scaling_of(path) == module.scaling
            && config.targets(path, false)
    })
}

/// The configuration of a part whose modules have scaling 1.
fn new_config(
    known: Option<&PeftConfig>,
    modules: &BTreeMap<String, &LoraModule>,
) -> Result<Map<String, Value>, AdapterError> {
    let owned: BTreeMap<String, LoraModule> = modules
        .iter()
        .map(|(path, module)| (path.clone(), (*module).clone()))
        .collect();
    let ranks = owned
        .iter()
        .map(|(path, module)| (path.clone(), module.rank()))
        .collect();
    let config = match known {
        Some(config) => config.clone(),
        None => PeftConfig::of_modules(None, &ranks)?,
    };
    Ok(exported_config(&Adapter::new(config, owned))?.raw().clone())
}

/// The configurations under keys that begin with their part, sorted, as diffusers writes them.
fn metadata_text(configs: &BTreeMap<&String, Map<String, Value>>) -> Option<String> {
    let fields: BTreeMap<String, &Value> = configs
        .iter()
        .flat_map(|(part, config)| {
            let fields = config.iter();
            fields.map(move |(key, value)| (format!("{part}.{key}"), value))
        })
        .collect();
    (!fields.is_empty()).then(|| format!("{:#}", json!(fields)))
}

fn new_names(path: &str) -> ModuleStyle {
    ModuleStyle {
        a: format!("{path}.{}", spelling(TensorPart::A)),
        b: format!("{path}.{}", spelling(TensorPart::B)),
        alpha: None,
        rank: 0,
        scaling: f32::NAN,
    }
}

fn spelling(part: TensorPart) -> &'static str {
    match part {
        TensorPart::B => "lora_B.weight",
        _ => "lora_A.weight",
    }
}
