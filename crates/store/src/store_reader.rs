//! A store read back from disk.
//!
//! Nothing in it is trusted: every file is compared with its checksum, names that become paths have to be plain,
//! and what the description says has to fit the tensors and the configurations.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use eigenmix_adapter::{Companion, Labels, PeftConfig, Prompts, Provenance};
use eigenmix_tensors::TensorFile;

use crate::bases::StoredBases;
use crate::checksums::checksums;
use crate::error::StoreError;
use crate::pack::{CoefficientKind, check_name};
use crate::store::{Store, StoredAdapter, StoredModule, WholeKind, WholeTensor};
use crate::store_file::{
    ADAPTERS, AdapterDescription, BASIS, COEFFICIENTS, COMPANIONS, DESCRIPTION, Description,
    ModuleDescription, StoredLayer, WHOLE, WholeDescription, whole_name,
};
use crate::stored_tensor::StoredTensor;

impl Store {
    /// Reads what [`Store::save`] wrote, and checks all of it.
    ///
    /// # Errors
    /// If a file is missing, truncated or not the one that was written, or a tensor is missing, of
    /// another shape or not finite.
    pub fn load(directory: &Path) -> Result<Self, StoreError> {
        let (description, _) = described(directory)?;
        let open = |name: &str| TensorFile::open(&directory.join(name));
        let (basis, coefficients) = (open(BASIS)?, open(COEFFICIENTS)?);
        let whole = match description.sha256.contains_key(WHOLE) {
            true => Some(open(WHOLE)?),
            false => None,
        };
        // Of a truncated file of tensors the file itself says more.
        check_files(directory, &description.sha256)?;
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
        require_described(&coefficients, coefficient_names(&description))?;
        if let Some(whole) = &whole {
            require_described(whole, whole_names(&description))?;
        }
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

impl Store {
    /// The names of the adapters in a store, whose files are checked; tensors are not read.
    ///
    /// # Errors
    /// If a file is missing or not the one that was written.
    pub fn names(directory: &Path) -> Result<Vec<String>, StoreError> {
        let (description, _) = checked(directory)?;
        Ok(description.adapters.into_keys().collect())
    }
}

/// The description of a store, all files of which are those that it tells of, and its bytes.
pub(crate) fn checked(directory: &Path) -> Result<(Description, Vec<u8>), StoreError> {
    let (description, json) = described(directory)?;
    check_files(directory, &description.sha256)?;
    Ok((description, json))
}

/// The description of a store and its bytes.
fn described(directory: &Path) -> Result<(Description, Vec<u8>), StoreError> {
    let path = directory.join(DESCRIPTION);
    let json = fs::read(&path).map_err(|source| StoreError::Unreadable {
        path: path.clone(),
        source,
    })?;
    let description: Description =
        serde_json::from_slice(&json).map_err(|source| StoreError::Description { path, source })?;
    for name in description.adapters.keys() {
        check_name(name)?;
    }
    Ok((description, json))
}

/// Refuses files that are not those that were written.
fn check_files(directory: &Path, written: &BTreeMap<String, String>) -> Result<(), StoreError> {
    let found = checksums(directory)?;
    for (name, sha256) in written {
        let problem = match found.get(name) {
            Some(now) if now == sha256 => continue,
            Some(_) => format!("its bytes are not those that {DESCRIPTION} tells of"),
            None => "it is missing".to_owned(),
        };
        return Err(damaged(directory.join(name), problem));
    }
    match found.keys().find(|name| !written.contains_key(*name)) {
        // A note that someone left beside the store is not part of it.
        Some(name) if name.contains('/') => Err(damaged(
            directory.join(name),
            format!("{DESCRIPTION} does not tell of it"),
        )),
        _ => Ok(()),
    }
}

/// The tensors that the modules of a description have.
fn coefficient_names(description: &Description) -> BTreeSet<String> {
    let adapters = description.adapters.iter();
    let names = adapters.flat_map(|(name, adapter)| {
        let modules = adapter.modules.iter();
        let changed = modules.filter(|(_, module)| !module.is_zero);
        changed.map(move |(path, _)| format!("{name}/{path}"))
    });
    names.collect()
}

/// The tensors that are kept whole by a description.
fn whole_names(description: &Description) -> BTreeSet<String> {
    let adapters = description.adapters.iter();
    let names = adapters.flat_map(|(adapter, described)| {
        let whole = described.whole.iter();
        whole.map(move |whole| whole_name(adapter, whole.kind, &whole.name))
    });
    names.collect()
}

/// Refuses a file with tensors that nothing asks for: the description is not the one that was written.
fn require_described(file: &TensorFile, names: BTreeSet<String>) -> Result<(), StoreError> {
    match file.names().find(|name| !names.contains(*name)) {
        None => Ok(()),
        Some(name) => Err(damaged(
            file.path().to_owned(),
            format!("tensor `{name}` is not in {DESCRIPTION}"),
        )),
    }
}

fn damaged(path: PathBuf, problem: String) -> StoreError {
    StoreError::Damaged { path, problem }
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
        let path = beside.join(PeftConfig::FILE_NAME);
        let config = PeftConfig::read(&path)?;
        for (module, described) in &described.modules {
            let (found, expected) = (described.rank, config.rank_of(module));
            if found != expected {
                return Err(damaged(
                    path,
                    format!(
                        "it gives module `{module}` the rank {expected}, {DESCRIPTION} the rank {found}"
                    ),
                ));
            }
        }
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
            check_name(&name)?;
            let directory = companions.join(index.to_string());
            let found = Companion::read_all(&directory, &[&name])?;
            let missing = || damaged(directory.join(&name), "it is missing".to_owned());
            files.push(found.into_iter().next().ok_or_else(missing)?);
        }
        let labels = beside.join(Labels::FILE_NAME);
        let prompts = beside.join(Prompts::FILE_NAME);
        Ok(StoredAdapter {
            source: described.source,
            config,
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
        if let StoredLayer::Convolution(kernel) = &described.layer {
            let window = kernel
                .iter()
                .try_fold(1_usize, |window, &size| window.checked_mul(size));
            let d_in = bases.right.shape()[1];
            if window.is_none_or(|window| window == 0 || d_in % window != 0) {
                return Err(refused(format!(
                    "module `{path}` has {d_in} inputs, which a kernel of {kernel:?} does not divide"
                )));
            }
        }
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
        let bases = self
            .bases
            .get(&name)
            .filter(|_| kind == WholeKind::UpdateBias);
        if let Some(bases) = bases {
            let d_out = bases.left.shape()[1];
            if shape != [d_out] {
                return Err(damaged(
                    self.coefficients.path().with_file_name(WHOLE),
                    format!(
                        "the bias of `{name}` has shape {shape:?}, and the module has {d_out} outputs"
                    ),
                ));
            }
        }
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
