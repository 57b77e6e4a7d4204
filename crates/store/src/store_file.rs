//! A store on disk.
//!
//! `store.json`, `basis.safetensors` with `MODULE/left` `[p, d_out]` and `MODULE/right` `[q, d_in]`,
//! `coefficients.safetensors` with `NAME/MODULE`, `whole.safetensors` with `NAME/KIND/TENSOR`, and for
//! each adapter `adapters/NAME` with its configuration, labels and what else lay beside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use eigenmix_adapter::{Companion, Labels, LayerKind, PeftConfig, Prompts, Provenance, Source};
use eigenmix_tensors::{
    FileError, TensorFile, TensorOutput, write_directory, write_file, write_tensor_file,
};
use serde::{Deserialize, Serialize};

use crate::bases::StoredBases;
use crate::error::StoreError;
use crate::pack::{CoefficientKind, PackOptions};
use crate::report::AdapterError;
use crate::store::{Store, StoredAdapter, StoredModule, WholeKind, WholeTensor};
use crate::stored_tensor::StoredTensor;

const DESCRIPTION: &str = "store.json";
const BASIS: &str = "basis.safetensors";
const COEFFICIENTS: &str = "coefficients.safetensors";
const WHOLE: &str = "whole.safetensors";
const ADAPTERS: &str = "adapters";
/// Files beside adapters, each once, however many adapters have it.
const COMPANIONS: &str = "companions";

/// The content of `store.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    version: String,
    base_model: Option<String>,
    options: PackOptions,
    /// The SHA-256 of each file of tensors: a wrong bit would still be a number.
    sha256: BTreeMap<String, String>,
    adapters: BTreeMap<String, AdapterDescription>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AdapterDescription {
    source: Source,
    error: AdapterError,
    modules: BTreeMap<String, ModuleDescription>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    whole: Vec<WholeDescription>,
    /// By its name, where a file lies in `companions`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    companions: BTreeMap<String, usize>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModuleDescription {
    rank: usize,
    #[serde(default, skip_serializing_if = "StoredLayer::is_linear")]
    layer: StoredLayer,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_zero: bool,
}

/// [`LayerKind`] in the file.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredLayer {
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

    fn kind(self) -> LayerKind {
        match self {
            Self::Linear => LayerKind::Linear,
            Self::Embedding => LayerKind::Embedding,
            Self::Convolution(kernel) => LayerKind::Convolution { kernel },
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WholeDescription {
    kind: WholeKind,
    name: String,
    shape: Vec<usize>,
}

fn whole_name(adapter: &str, kind: WholeKind, name: &str) -> String {
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
            let mut sha256 = BTreeMap::new();
            for (name, tensors) in [
                (BASIS, self.basis_tensors()),
                (COEFFICIENTS, self.coefficient_tensors()),
                (WHOLE, self.whole_tensors()),
            ] {
                if name == WHOLE && tensors.is_empty() {
                    continue;
                }
                let path = staging.join(name);
                write_tensor_file(&path, tensors)?;
                sha256.insert(name.to_owned(), TensorFile::open(&path)?.sha256());
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
                sha256,
                adapters,
            };
            let path = staging.join(DESCRIPTION);
            let described = |source| StoreError::Description {
                path: path.clone(),
                source,
            };
            let json = serde_json::to_vec(&description).map_err(described)?;
            Ok(write_file(&path, &json)?)
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

    /// Reads what [`Store::save`] wrote, and checks all of it.
    ///
    /// # Errors
    /// If a file is missing, truncated or not the one that was written, or a tensor is missing, of
    /// another shape or not finite.
    pub fn load(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(DESCRIPTION);
        let json = fs::read(&path).map_err(|source| StoreError::Unreadable {
            path: path.clone(),
            source,
        })?;
        let description: Description = serde_json::from_slice(&json)
            .map_err(|source| StoreError::Description { path, source })?;
        let open = |name: &str| opened(directory, name, &description.sha256);
        let (basis, coefficients) = (open(BASIS)?, open(COEFFICIENTS)?);
        let whole = match description.sha256.contains_key(WHOLE) {
            true => Some(open(WHOLE)?),
            false => None,
        };
        let mut bases = BTreeMap::new();
        let paths = basis.names().filter_map(|name| name.strip_suffix("/left"));
        for path in paths {
            let side = |side: &str| {
                let name = format!("{path}/{side}");
                let shape = StoredTensor::columns_of(&basis, &name)?;
                StoredTensor::read(&basis, &name, &shape)
            };
            let sides = StoredBases {
                left: side("left")?,
                right: side("right")?,
            };
            bases.insert(path.to_owned(), sides);
        }
        let kind = description.options.coefficients;
        let mut adapters = BTreeMap::new();
        for (name, described) in description.adapters {
            let beside = directory.join(ADAPTERS).join(&name);
            let reader = Reader {
                name: &name,
                kind,
                bases: &bases,
                coefficients: &coefficients,
                whole: whole.as_ref(),
            };
            let stored = reader.read(described, &beside, &directory.join(COMPANIONS))?;
            adapters.insert(name, stored);
        }
        Ok(Self {
            version: description.version,
            base_model: description.base_model,
            options: description.options,
            bases,
            adapters,
        })
    }
}

/// A file of tensors, if it is the one that was written.
fn opened(
    directory: &Path,
    name: &str,
    sha256: &BTreeMap<String, String>,
) -> Result<TensorFile, StoreError> {
    let file = TensorFile::open(&directory.join(name))?;
    match sha256.get(name) {
        Some(expected) if *expected == file.sha256() => Ok(file),
        _ => Err(damaged(
            file.path().to_owned(),
            format!("its bytes are not those that {DESCRIPTION} tells of"),
        )),
    }
}

fn damaged(path: PathBuf, problem: String) -> StoreError {
    StoreError::Damaged { path, problem }
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
        let json = serde_json::to_vec_pretty(made).map_err(|source| StoreError::Description {
            path: path.clone(),
            source,
        })?;
        write_file(&path, &json)?;
    }
    Ok(())
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

/// Reads one adapter.
struct Reader<'a> {
    name: &'a str,
    kind: CoefficientKind,
    bases: &'a BTreeMap<String, StoredBases>,
    coefficients: &'a TensorFile,
    whole: Option<&'a TensorFile>,
}

impl Reader<'_> {
    fn read(
        &self,
        described: AdapterDescription,
        beside: &Path,
        companions: &Path,
    ) -> Result<StoredAdapter, StoreError> {
        let modules = described
            .modules
            .into_iter()
            .map(|(path, module)| Ok((path.clone(), self.module(&path, module)?)))
            .collect::<Result<_, StoreError>>()?;
        let whole = described
            .whole
            .into_iter()
            .map(|whole| self.whole(whole))
            .collect::<Result<_, StoreError>>()?;
        let mut files = Vec::new();
        for (name, index) in described.companions {
            let directory = companions.join(index.to_string());
            let found = Companion::read_all(&directory, &[&name])?;
            let missing = || damaged(directory.join(&name), "it is missing".to_owned());
            files.push(found.into_iter().next().ok_or_else(missing)?);
        }
        let labels = beside.join(Labels::FILE_NAME);
        let prompts = beside.join(Prompts::FILE_NAME);
        Ok(StoredAdapter {
            source: described.source,
            config: PeftConfig::read(&beside.join(PeftConfig::FILE_NAME))?,
            labels: match labels.exists() {
                true => Some(Labels::read(&labels)?),
                false => None,
            },
            prompts: match prompts.exists() {
                true => Some(Prompts::read(&prompts)?),
                false => None,
            },
            made: Provenance::read_json(beside)?,
            companions: files,
            whole,
            modules,
            error: described.error,
        })
    }

    fn module(&self, path: &str, described: ModuleDescription) -> Result<StoredModule, StoreError> {
        let refused = |problem: String| damaged(self.coefficients.path().to_owned(), problem);
        let Some(bases) = self.bases.get(path) else {
            return Err(refused(format!("module `{path}` has no basis")));
        };
        let coefficients = match described.is_zero {
            true => None,
            false => {
                let name = format!("{}/{path}", self.name);
                let [rows, columns] = StoredTensor::columns_of(self.coefficients, &name)?;
                let [p, q] = bases.columns();
                let fits = match self.kind {
                    CoefficientKind::Diagonal => [rows, columns] == [1, p] && p == q,
                    CoefficientKind::Full => {
                        [rows, columns] == [p, q] || columns == p + q && rows <= described.rank
                    }
                };
                if !fits {
                    return Err(refused(format!(
                        "`{name}` is [{rows}, {columns}], which does not fit bases of {p} and {q} directions"
                    )));
                }
                Some(StoredTensor::read(
                    self.coefficients,
                    &name,
                    &[rows, columns],
                )?)
            }
        };
        Ok(StoredModule {
            rank: described.rank,
            layer: described.layer.kind(),
            coefficients,
        })
    }

    fn whole(&self, described: WholeDescription) -> Result<WholeTensor, StoreError> {
        let WholeDescription { kind, name, shape } = described;
        let stored = whole_name(self.name, kind, &name);
        let Some(file) = self.whole else {
            return Err(damaged(
                self.coefficients.path().with_file_name(WHOLE),
                format!("it is missing, and with it `{stored}`"),
            ));
        };
        Ok(WholeTensor {
            kind,
            tensor: StoredTensor::read(file, &stored, &shape)?,
            name,
        })
    }
}
