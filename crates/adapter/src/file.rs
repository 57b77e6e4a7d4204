//! An adapter on disk in any dialect, opened and checked but not yet read.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use eigenmix_tensors::{HostTensor, TensorFile};

use crate::dialect::Reading;
use crate::file_report::FileReport;
use crate::gguf_base::{HeadProblem, RowsFor, reordered};
use crate::index::{FileIndex, ModuleEntry};
use crate::module_naming::{self, current_name};
use crate::single_file::common_dtype;
use crate::style::DtypeChoice;
use crate::token_table::is_token_table;
use crate::vera::VeraProjections;
use crate::weights_file::open_weights;
use crate::{
    Adapter, AdapterError, Dialect, GgufBase, Labels, LayerKind, LoraModule, PeftConfig, Prompts,
    Source, Style,
};

/// An adapter on disk: its configuration and the names and shapes of its tensors are checked, the
/// tensors themselves are read module by module.
#[derive(Debug)]
pub struct AdapterFile {
    location: String,
    config: PeftConfig,
    tensors: TensorFile,
    index: FileIndex,
    /// Of a VeRA adapter, where its factors come from.
    vera: Option<VeraProjections>,
    style: Style,
    report: FileReport,
    labels: Option<Labels>,
    prompts: Option<Prompts>,
    sha256: OnceLock<String>,
    is_in_any_order: bool,
    /// Why its base model is not known, if somebody looked for it.
    without_base: Option<String>,
}

impl AdapterFile {
    /// Opens a directory that holds an adapter, or its .safetensors or .gguf file, in any dialect.
    ///
    /// # Errors
    /// If there is no adapter, a file of it is missing, damaged or not supported, a module is
    /// incomplete, or the ranks of the tensors are not those of the configuration.
    pub fn open(path: &Path) -> Result<Self, AdapterError> {
        let (directory, tensors) = open_weights(path)?;
        let dialect = Dialect::of(&tensors);
        let Reading {
            config,
            mut index,
            vera,
            mut style,
        } = dialect.read(&tensors, &directory)?;
        let keys = index.modules.values().map(|entry| &entry.keys);
        style.dtype = DtypeChoice::IfExact(common_dtype(&tensors, keys));
        style.file_name = tensors
            .path()
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let labels_path = directory.join(Labels::FILE_NAME);
        let has_neighbours = !dialect.is_one_file();
        let labels = (has_neighbours && labels_path.exists())
            .then(|| Labels::read(&labels_path))
            .transpose()?;
        let prompts_path = directory.join(Prompts::FILE_NAME);
        let prompts = (has_neighbours && prompts_path.exists())
            .then(|| Prompts::read(&prompts_path))
            .transpose()?;

        let modules: Vec<&str> = index.modules.keys().map(String::as_str).collect();
        let untargeted = match dialect {
            Dialect::Peft => config.untargeted(&modules),
            // Other dialects adapt the modules that they have.
            _ => Vec::new(),
        };
        let untargeted: Vec<String> = untargeted.into_iter().map(str::to_owned).collect();
        let report = FileReport {
            unexpected: std::mem::take(&mut index.unexpected),
            untargeted,
            copies: std::mem::take(&mut index.copies),
        };
        let file = Self {
            location: path.display().to_string(),
            config,
            tensors,
            index,
            vera,
            style,
            report,
            labels,
            prompts,
            sha256: OnceLock::new(),
            is_in_any_order: false,
            without_base: None,
        };
        match dialect == Dialect::Peft && file.is_of_vision_language() {
            true => file.with_current_names(),
            false => Ok(file),
        }
    }

    /// Whether transformers surely is where the names of its modules come from, and the model one of images
    /// and texts. Other programs have the names of earlier releases for good.
    fn is_of_vision_language(&self) -> bool {
        let raw = self.config.raw();
        let library = raw
            .get("auto_mapping")
            .and_then(|mapping| mapping.get("parent_library")?.as_str());
        let base = self.config.base_model().unwrap_or_default().to_lowercase();
        let names = || self.module_paths().chain(self.head_names());
        library.is_some_and(|library| library.starts_with("transformers.models."))
            || base.contains("llava")
            || names().any(module_naming::is_of_vision_language)
    }

    /// Whether modules have names that a vision-language model had before transformers 5.
    pub fn has_earlier_names(&self) -> bool {
        let mut names = self.module_paths().chain(self.head_names());
        names.any(|name| current_name(name).is_some())
    }

    /// The same file, of an adapter for a vision-language model of transformers, with every module under
    /// its name in release 5.
    ///
    /// # Errors
    /// If a module is there under two names.
    pub fn with_current_names(mut self) -> Result<Self, AdapterError> {
        let path = self.tensors.path();
        self.index.modules = renamed(path, self.index.modules)?;
        self.index.heads = renamed(path, self.index.heads)?;
        self.index.biases = renamed(path, self.index.biases)?;
        Ok(self)
    }

    /// The same file under the name by which it was asked for, such as a Hub id.
    pub fn with_location(mut self, location: impl Into<String>) -> Self {
        self.location = location.into();
        self
    }

    /// The directory or Hub id as it was given.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Its configuration; of a dialect without one, what PEFT would need to know of its modules.
    pub fn config(&self) -> &PeftConfig {
        &self.config
    }

    /// The dialect in which it is written, with all that writing it again keeps.
    pub fn style(&self) -> &Style {
        &self.style
    }

    /// Refuses an adapter for an image generator where one for a language or vision model is needed.
    ///
    /// # Errors
    /// If its modules are those of a pipeline.
    pub fn require_one_model(&self) -> Result<(), AdapterError> {
        if !self.style.is_of_pipeline {
            return Ok(());
        }
        Err(AdapterError::NotOfOneModel {
            path: self.location.clone(),
            dialect: self.style.dialect,
            module: self.module_paths().next().unwrap_or_default().to_owned(),
        })
    }

    /// What would be left out.
    pub fn report(&self) -> &FileReport {
        &self.report
    }

    /// Refuses a file of which a part would be left out or which PEFT would use differently.
    ///
    /// # Errors
    /// [`AdapterError::Unclean`] with what [`AdapterFile::report`] lists.
    pub fn require_clean(&self) -> Result<(), AdapterError> {
        if self.report.is_clean() {
            return Ok(());
        }
        Err(AdapterError::Unclean {
            path: self.tensors.path().to_owned(),
            found: self.report.to_string(),
        })
    }

    /// The paths of the adapted modules in the base model, sorted.
    pub fn module_paths(&self) -> impl Iterator<Item = &str> {
        self.index.modules.keys().map(String::as_str)
    }

    /// (rank, d_in, d_out) of a module, without reading it.
    ///
    /// # Errors
    /// If the adapter does not have the module.
    pub fn shape(&self, module: &str) -> Result<(usize, usize, usize), AdapterError> {
        let entry = self.entry(module)?;
        Ok((entry.rank, entry.d_in, entry.d_out))
    }

    /// Reads the factors of one module, with the scaling that the configuration gives it.
    ///
    /// # Errors
    /// If the adapter does not have the module, or a tensor is not of floating-point numbers or not
    /// finite.
    pub fn module(&self, module: &str) -> Result<LoraModule, AdapterError> {
        self.in_order(module, self.stored_module(module)?)
    }

    /// Whether rows lie in llama.cpp's order, which only the base model's numbers of heads undo, and those
    /// are not known yet ([`AdapterFile::with_base`]).
    pub fn needs_base(&self) -> bool {
        let unknown = self.style.gguf.filter(|base| base.heads.is_none());
        unknown.is_some_and(|base| self.module_paths().any(|module| base.reorders(module)))
    }

    /// The same file with what its base model says of the order of rows; as it is if it needs no such
    /// thing.
    ///
    /// # Errors
    /// If the file is for models of another family, or the rows of a module are not its heads.
    pub fn with_base(mut self, base: &GgufBase) -> Result<Self, AdapterError> {
        let Some(own) = self.style.gguf else {
            return Ok(self);
        };
        let refuse = |problem: String| AdapterError::OtherBase {
            path: self.location.clone(),
            problem,
        };
        if own.family != base.family {
            let (own, other) = (own.family.name(), base.family.name());
            return Err(refuse(format!(
                "it is for models of the family {own}, the base model is of {other}"
            )));
        }
        for (path, entry) in &self.index.modules {
            if let Err(HeadProblem::Rows { rows, heads }) = base.row_order(path, entry.d_out) {
                return Err(refuse(format!(
                    "its module `{path}` has {rows} rows, which are not {heads} heads of an even size, as the base model has them"
                )));
            }
        }
        self.style.gguf = Some(*base);
        Ok(self)
    }

    /// The same file with the reason why there is no base model to ask, which goes into the error of a
    /// module that needs one.
    ///
    /// - reason: a clause, such as "the file names none"
    #[must_use]
    pub fn without_base(mut self, reason: impl Into<String>) -> Self {
        self.without_base = Some(reason.into());
        self
    }

    /// The same file for what the order of rows does not change, such as norms: a file that
    /// [needs its base model](AdapterFile::needs_base) is read as it lies there.
    #[must_use]
    pub fn in_any_order(mut self) -> Self {
        self.is_in_any_order = true;
        self
    }

    /// A module with its rows in the order of checkpoints.
    fn in_order(&self, path: &str, module: LoraModule) -> Result<LoraModule, AdapterError> {
        let Some(base) = self.style.gguf else {
            return Ok(module);
        };
        match base.row_order(path, module.d_out()) {
            Ok(None) => Ok(module),
            Ok(Some(order)) => Ok(reordered(module, &order, RowsFor::Checkpoint)),
            Err(HeadProblem::Unknown) if self.is_in_any_order => Ok(module),
            Err(_) => Err(AdapterError::RowOrder {
                path: self.location.clone(),
                module: path.to_owned(),
                reason: match &self.without_base {
                    Some(reason) => reason.clone(),
                    None => "its base model is not known".to_owned(),
                },
            }),
        }
    }

    /// A module with its rows as they lie in the file.
    fn stored_module(&self, module: &str) -> Result<LoraModule, AdapterError> {
        let entry = self.entry(module)?;
        match &self.vera {
            Some(vera) => vera.module(&self.tensors, module, entry),
            None => entry.read(&self.tensors),
        }
    }

    /// What kind of layer a module adapts.
    ///
    /// # Errors
    /// If the adapter does not have the module.
    pub fn layer(&self, module: &str) -> Result<&LayerKind, AdapterError> {
        Ok(&self.entry(module)?.layer)
    }

    /// The names in the base model of the tensors that were trained whole, sorted.
    pub fn head_names(&self) -> impl Iterator<Item = &str> {
        self.index.heads.keys().map(String::as_str)
    }

    /// The number of tokens of the model's table, if the adapter brings one that was trained whole, or
    /// that is of a vocabulary of another size.
    pub fn vocabulary(&self) -> Option<usize> {
        let mut heads = self.index.heads.iter();
        let is_table = |name: &str| name.ends_with(".weight") && is_token_table(name);
        let (_, key) = heads.find(|(name, _)| is_table(name))?;
        self.tensors.shape(key).ok()?.first().copied()
    }

    /// The names of the biases of the base model that were trained along, sorted.
    pub fn bias_names(&self) -> impl Iterator<Item = &str> {
        self.index.biases.keys().map(String::as_str)
    }

    /// Reads the tensors of the modules that were trained whole, such as `classifier.weight`.
    ///
    /// # Errors
    /// If one is not of floating-point numbers or not finite.
    pub fn heads(&self) -> Result<BTreeMap<String, HostTensor>, AdapterError> {
        self.read_all(&self.index.heads)
    }

    /// Reads the biases of the base model that were trained along, such as `h.0.attn.bias`.
    ///
    /// # Errors
    /// If one is not of floating-point numbers or not finite.
    pub fn biases(&self) -> Result<BTreeMap<String, HostTensor>, AdapterError> {
        self.read_all(&self.index.biases)
    }

    /// What the outputs of its head stand for, if it says so.
    pub fn labels(&self) -> Option<&Labels> {
        self.labels.as_ref()
    }

    /// What is said of each label, if it was trained below a zero-shot head.
    pub fn prompts(&self) -> Option<&Prompts> {
        self.prompts.as_ref()
    }

    /// Where the adapter came from and its fingerprint, for provenance. The first call hashes the
    /// whole file.
    pub fn source(&self) -> Source {
        Source {
            location: self.location.clone(),
            sha256: self.sha256.get_or_init(|| self.tensors.sha256()).clone(),
        }
    }

    /// The modules whose update is zero whatever the input. Reads all of them.
    ///
    /// # Errors
    /// As [`AdapterFile::module`].
    pub fn zero_effect(&self) -> Result<Vec<String>, AdapterError> {
        let mut without_effect = Vec::new();
        for path in self.module_paths() {
            if self.stored_module(path)?.has_no_effect() {
                without_effect.push(path.to_owned());
            }
        }
        Ok(without_effect)
    }

    /// Reads everything into memory.
    ///
    /// # Errors
    /// As [`AdapterFile::module`] and [`AdapterFile::heads`].
    pub fn load(&self) -> Result<Adapter, AdapterError> {
        let modules = self
            .module_paths()
            .map(|path| Ok((path.to_owned(), self.module(path)?)))
            .collect::<Result<_, AdapterError>>()?;
        Ok(Adapter {
            config: self.config.clone(),
            modules,
            heads: self.heads()?,
            biases: self.biases()?,
            labels: self.labels.clone(),
            prompts: self.prompts.clone(),
        })
    }

    fn entry(&self, module: &str) -> Result<&ModuleEntry, AdapterError> {
        self.index
            .modules
            .get(module)
            .ok_or_else(|| AdapterError::NoSuchModule {
                path: self.tensors.path().to_owned(),
                module: module.to_owned(),
                first: self.module_paths().next().unwrap_or_default().to_owned(),
            })
    }

    fn read_all(
        &self,
        keys: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, HostTensor>, AdapterError> {
        keys.iter()
            .map(|(name, key)| {
                let shape = self.tensors.shape(key)?.to_owned();
                let values = self.tensors.read_finite_f32(key)?;
                Ok((name.clone(), HostTensor { shape, values }))
            })
            .collect()
    }
}

/// The same entries by the names of transformers 5.
fn renamed<T>(
    path: &Path,
    entries: BTreeMap<String, T>,
) -> Result<BTreeMap<String, T>, AdapterError> {
    let mut renamed = BTreeMap::new();
    for (name, entry) in entries {
        let current = current_name(&name).unwrap_or_else(|| name.clone());
        if renamed.insert(current.clone(), entry).is_some() {
            return Err(AdapterError::DuplicateTensor {
                path: path.to_owned(),
                first: current,
                second: name,
            });
        }
    }
    Ok(renamed)
}
