//! A store on disk.
//!
//! `store.json`, `basis.safetensors` with `MODULE/left` `[p, d_out]` and `MODULE/right` `[q, d_in]`,
//! `coefficients.safetensors` with `NAME/MODULE`, `whole.safetensors` with `NAME/KIND/TENSOR`, and for
//! each adapter `adapters/NAME` with its configuration, labels and what else lay beside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use eigenmix_adapter::{Companion, Labels, LayerKind, PeftConfig, Prompts, Provenance, Source};
use eigenmix_tensors::{FileError, TensorOutput, write_directory, write_file, write_tensor_file};
use serde::{Deserialize, Serialize};

use crate::checksums::checksums;
use crate::error::StoreError;
use crate::pack::PackOptions;
use crate::report::AdapterError;
use crate::store::{Store, StoredAdapter, WholeKind};

pub(crate) const DESCRIPTION: &str = "store.json";
pub(crate) const BASIS: &str = "basis.safetensors";
pub(crate) const COEFFICIENTS: &str = "coefficients.safetensors";
pub(crate) const WHOLE: &str = "whole.safetensors";
pub(crate) const ADAPTERS: &str = "adapters";
/// Files beside adapters, each once, however many adapters have it.
pub(crate) const COMPANIONS: &str = "companions";

/// The content of `store.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    pub version: String,
    pub base_model: Option<String>,
    pub options: PackOptions,
    /// The SHA-256 of every other file: a wrong bit would still be a number, a missing label no error.
    pub sha256: BTreeMap<String, String>,
    pub adapters: BTreeMap<String, AdapterDescription>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdapterDescription {
    pub source: Source,
    pub error: AdapterError,
    pub modules: BTreeMap<String, ModuleDescription>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub whole: Vec<WholeDescription>,
    /// By its name, where a file lies in `companions`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub companions: BTreeMap<String, usize>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModuleDescription {
    pub rank: usize,
    #[serde(default, skip_serializing_if = "StoredLayer::is_linear")]
    pub layer: StoredLayer,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_zero: bool,
}

/// [`LayerKind`] in the file.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StoredLayer {
    #[default]
    Linear,
    Embedding,
    Convolution(Vec<usize>),
}

impl StoredLayer {
    fn is_linear(&self) -> bool {
        matches!(self, Self::Linear)
    }

    fn of(layer: &LayerKind) -> Self {
        match layer {
            LayerKind::Linear => Self::Linear,
            LayerKind::Embedding => Self::Embedding,
            LayerKind::Convolution { kernel } => Self::Convolution(kernel.clone()),
        }
    }

    pub fn kind(self) -> LayerKind {
        match self {
            Self::Linear => LayerKind::Linear,
            Self::Embedding => LayerKind::Embedding,
            Self::Convolution(kernel) => LayerKind::Convolution { kernel },
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WholeDescription {
    pub kind: WholeKind,
    pub name: String,
    pub shape: Vec<usize>,
}

pub(crate) fn whole_name(adapter: &str, kind: WholeKind, name: &str) -> String {
    let kind = match kind {
        WholeKind::Head => "head",
        WholeKind::Bias => "bias",
        WholeKind::UpdateBias => "update_bias",
    };
    format!("{adapter}/{kind}/{name}")
}

impl Store {
    /// The file by which a store is known.
    pub const FILE_NAME: &str = DESCRIPTION;

    /// Writes the directory `directory`, complete or not at all; `force` replaces an existing one.
    ///
    /// # Errors
    /// If the directory exists and `force` isn't set, or something can't be written.
    pub fn save(&self, directory: &Path, force: bool) -> Result<(), StoreError> {
        write_directory(directory, force, |staging| {
            for (name, tensors) in [
                (BASIS, self.basis_tensors()),
                (COEFFICIENTS, self.coefficient_tensors()),
                (WHOLE, self.whole_tensors()),
            ] {
                if name != WHOLE || !tensors.is_empty() {
                    write_tensor_file(&staging.join(name), tensors)?;
                }
            }
            let mut files: Vec<&Companion> = Vec::new();
            let mut adapters = BTreeMap::new();
            for (name, stored) in &self.adapters {
                write_beside(&staging.join(ADAPTERS).join(name), stored)?;
                adapters.insert(name.clone(), described(stored, &mut files));
            }
            for (index, companion) in files.into_iter().enumerate() {
                let directory = staging.join(COMPANIONS).join(index.to_string());
                fs::create_dir_all(&directory).map_err(FileError::io("create", &directory))?;
                write_file(&directory.join(&companion.name), &companion.content)?;
            }
            let description = Description {
                version: self.version.clone(),
                base_model: self.base_model.clone(),
                options: self.options,
                sha256: checksums(staging)?,
                adapters,
            };
            let path = staging.join(DESCRIPTION);
            write_json(&path, serde_json::to_vec(&description))
        })
    }

    fn basis_tensors(&self) -> Vec<TensorOutput<'_>> {
        let modules = self.bases.iter();
        modules
            .flat_map(|(path, bases)| {
                [
                    bases.left.output(&format!("{path}/left")),
                    bases.right.output(&format!("{path}/right")),
                ]
            })
            .collect()
    }

    fn coefficient_tensors(&self) -> Vec<TensorOutput<'_>> {
        let pieces = self.adapters.iter().flat_map(|(name, stored)| {
            let modules = stored.modules.iter();
            modules.filter_map(move |(path, module)| {
                let coefficients = module.coefficients.as_ref()?;
                Some(coefficients.output(&format!("{name}/{path}")))
            })
        });
        pieces.collect()
    }

    fn whole_tensors(&self) -> Vec<TensorOutput<'_>> {
        let pieces = self.adapters.iter().flat_map(|(adapter, stored)| {
            stored.whole.iter().map(move |whole| {
                whole
                    .tensor
                    .output(&whole_name(adapter, whole.kind, &whole.name))
            })
        });
        pieces.collect()
    }
}

/// What lies beside an adapter, except companions.
fn write_beside(directory: &Path, stored: &StoredAdapter) -> Result<(), StoreError> {
    fs::create_dir_all(directory).map_err(FileError::io("create", directory))?;
    let config = stored.config.to_json();
    write_file(&directory.join(PeftConfig::FILE_NAME), config.as_bytes())?;
    if let Some(labels) = &stored.labels {
        labels.write(&directory.join(Labels::FILE_NAME))?;
    }
    if let Some(prompts) = &stored.prompts {
        prompts.write(&directory.join(Prompts::FILE_NAME))?;
    }
    if let Some(made) = &stored.made {
        let path = directory.join(Provenance::FILE_NAME);
        write_json(&path, serde_json::to_vec_pretty(made))?;
    }
    Ok(())
}

pub(crate) fn write_json(path: &Path, json: serde_json::Result<Vec<u8>>) -> Result<(), StoreError> {
    let json = json.map_err(|source| FileError::Json {
        path: path.to_owned(),
        source,
    })?;
    Ok(write_file(path, &json)?)
}

/// - files: of all adapters so far, those that differ
fn described<'a>(stored: &'a StoredAdapter, files: &mut Vec<&'a Companion>) -> AdapterDescription {
    let companions = stored.companions.iter().map(|companion| {
        let known = files.iter().position(|file| *file == companion);
        let index = known.unwrap_or_else(|| {
            files.push(companion);
            files.len() - 1
        });
        (companion.name.clone(), index)
    });
    AdapterDescription {
        source: stored.source.clone(),
        error: stored.error.clone(),
        companions: companions.collect(),
        modules: stored
            .modules
            .iter()
            .map(|(path, module)| {
                let module = ModuleDescription {
                    rank: module.rank,
                    layer: StoredLayer::of(&module.layer),
                    is_zero: module.coefficients.is_none(),
                };
                (path.clone(), module)
            })
            .collect(),
        whole: stored
            .whole
            .iter()
            .map(|whole| WholeDescription {
                kind: whole.kind,
                name: whole.name.clone(),
                shape: whole.tensor.shape().to_vec(),
            })
            .collect(),
    }
}
