//! How an adapter is written: its dialect, and everything of a file that writing it again keeps.

use std::collections::{BTreeMap, BTreeSet};

use eigenmix_tensors::{Dtype, FileError, TensorFile};

use serde_json::{Map, Value};

use crate::{AdapterError, Dialect, GgufBase};

/// What the metadata say about the bytes of the tensors, which is false of any others.
const HASHES: [&str; 3] = [
    "sshs_model_hash",
    "sshs_legacy_hash",
    "modelspec.hash_sha256",
];

/// The first components of paths in a UNet of diffusers.
const UNET_ROOTS: [&str; 7] = [
    "down_blocks",
    "up_blocks",
    "mid_block",
    "conv_in",
    "conv_out",
    "time_embedding",
    "add_embedding",
];

/// The parts of a pipeline that a path in a directory of PEFT's may begin with. Other parts' names are those
/// of modules in language models.
const PIPELINE_ROOTS: [&str; 4] = ["unet", "text_encoder", "text_encoder_2", "text_encoder_3"];

/// The form of an adapter on disk: the dialect, and of an adapter that was read, the names of its
/// tensors, their dtype and what its metadata and configuration say.
#[derive(Clone, Debug, PartialEq)]
pub struct Style {
    pub(crate) dialect: Dialect,
    /// `__metadata__` of the file.
    pub(crate) metadata: BTreeMap<String, String>,
    /// The names in the file, by the path of the module.
    pub(crate) modules: BTreeMap<String, ModuleStyle>,
    /// `adapter_config.json` of a dialect other than PEFT's that has one.
    pub(crate) config: Map<String, Value>,
    /// The dtype that all factors have, or that is asked for.
    pub(crate) dtype: DtypeChoice,
    pub(crate) file_name: Option<String>,
    /// Whether paths begin with a part of a pipeline, in the adapters that this style is for.
    pub(crate) is_of_pipeline: bool,
    /// Of GGUF, the base model.
    pub(crate) gguf: Option<GgufBase>,
}

/// In which dtype factors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DtypeChoice {
    /// In this one if no value changes by it, else in f32.
    IfExact(Dtype),
    /// In this one, rounded.
    Asked(Dtype),
}

/// How a file names the tensors of a module, and what it says of its scaling.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ModuleStyle {
    pub(crate) a: String,
    pub(crate) b: String,
    pub(crate) alpha: Option<AlphaTensor>,
    pub(crate) rank: usize,
    pub(crate) scaling: f32,
}

/// A tensor of one number: alpha.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AlphaTensor {
    pub(crate) key: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: Dtype,
    pub(crate) value: f32,
}

impl Style {
    /// A style in which nothing is known of the names.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            metadata: BTreeMap::new(),
            modules: BTreeMap::new(),
            config: Map::new(),
            dtype: DtypeChoice::IfExact(Dtype::F32),
            file_name: None,
            is_of_pipeline: dialect.is_of_pipeline(),
            gguf: None,
        }
    }

    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// What the file says besides its tensors.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The style in which what was made of adapters of these styles is written: in `dialect`, or in
    /// the one that they share. Names come from the first that has them; metadata stay where all
    /// agree, and hashes of the old tensors go.
    ///
    /// # Errors
    /// The first two dialects that differ, if none was chosen.
    pub fn of_result(styles: &[&Self], dialect: Option<Dialect>) -> Result<Self, [Dialect; 2]> {
        let Some(first) = styles.first() else {
            return Ok(Self::new(dialect.unwrap_or(Dialect::Peft)));
        };
        let other = styles.iter().find(|style| style.dialect != first.dialect);
        let target = match (dialect, other) {
            (Some(dialect), _) => dialect,
            (None, None) => first.dialect,
            (None, Some(other)) => return Err([first.dialect, other.dialect]),
        };
        let mut result = Self::new(target);
        result.gguf = styles.iter().find_map(|style| style.gguf);
        result.is_of_pipeline = styles.iter().any(|style| style.is_of_pipeline);
        if styles.iter().all(|style| style.dtype == first.dtype) {
            result.dtype = first.dtype;
        }
        let same: Vec<&&Self> = styles
            .iter()
            .filter(|style| style.dialect == target)
            .collect();
        if let Some((first, others)) = same.split_first() {
            result.metadata.clone_from(&first.metadata);
            result.metadata.retain(|key, text| {
                !HASHES.contains(&key.as_str())
                    && others
                        .iter()
                        .all(|other| other.metadata.get(key) == Some(text))
            });
            result.config.clone_from(&first.config);
            if others.is_empty() {
                result.file_name.clone_from(&first.file_name);
            }
        }
        for style in same {
            for (path, names) in &style.modules {
                result
                    .modules
                    .entry(path.clone())
                    .or_insert_with(|| names.clone());
            }
        }
        Ok(result)
    }

    /// The same adapter in the same dialect is written with its metadata as they are; in another
    /// one as [`Style::of_result`] says.
    pub fn of_copy(&self, dialect: Option<Dialect>) -> Self {
        match dialect {
            Some(dialect) if dialect != self.dialect => {
                let mut style = Self::new(dialect);
                style.is_of_pipeline = self.is_of_pipeline;
                style.dtype = self.dtype;
                style.gguf = self.gguf;
                style
            }
            _ => self.clone(),
        }
    }

    /// The same style in which factors are rounded to `dtype`.
    ///
    /// Only f32, f16 and bf16 can be written.
    #[must_use]
    pub fn with_dtype(mut self, dtype: Dtype) -> Self {
        self.dtype = DtypeChoice::Asked(dtype);
        self
    }

    /// The same style for adapters of this base model, which GGUF needs.
    #[must_use]
    pub fn for_base(mut self, base: GgufBase) -> Self {
        self.gguf = Some(base);
        self
    }

    /// The base model that adapters in GGUF are written for, as far as it is known.
    pub fn gguf_base(&self) -> Option<&GgufBase> {
        self.gguf.as_ref()
    }

    /// The path of a module with the part of the pipeline in front.
    ///
    /// # Errors
    /// If it is the path in a model of which nobody said which part it is.
    pub(crate) fn path_in_pipeline(&self, path: &str) -> Result<String, AdapterError> {
        if self.is_of_pipeline {
            return Ok(path.to_owned());
        }
        let root = path.split('.').next().unwrap_or_default();
        if PIPELINE_ROOTS.contains(&root) {
            return Ok(path.to_owned());
        }
        if UNET_ROOTS.contains(&root) {
            return Ok(format!("unet.{path}"));
        }
        Err(AdapterError::NotConvertible {
            module: path.to_owned(),
            dialect: self.dialect,
            problem: "nothing says which part of an image generator it belongs to; only the modules of a UNet are known by their paths".to_owned(),
        })
    }

    /// What goes in front of all `paths` and is left out where a directory is for one model.
    ///
    /// # Errors
    /// If they belong to several parts of a pipeline, or are names without dots.
    pub(crate) fn common_part<'a>(
        &self,
        paths: impl Iterator<Item = &'a String>,
    ) -> Result<Option<String>, AdapterError> {
        if !self.is_of_pipeline {
            return Ok(None);
        }
        let refuse = |module: &str, problem: String| AdapterError::NotConvertible {
            module: module.to_owned(),
            dialect: self.dialect,
            problem,
        };
        let mut parts = BTreeSet::new();
        for path in paths {
            let Some((part, _)) = path.split_once('.') else {
                let problem = "where the dots of its path are cannot be told for certain";
                return Err(refuse(path, problem.to_owned()));
            };
            parts.insert(part.to_owned());
            if parts.len() > 1 {
                let all: Vec<String> = parts.into_iter().collect();
                let problem = format!(
                    "a directory is for one model, the adapter is for {}",
                    all.join(" and ")
                );
                return Err(refuse(path, problem));
            }
        }
        Ok(parts.into_iter().next())
    }
}

impl ModuleStyle {
    /// Alpha for this rank and scaling: the very number of the file, if it gives the same scaling.
    pub(crate) fn alpha_of(&self, rank: usize, scaling: f32) -> f32 {
        match &self.alpha {
            Some(alpha) if self.rank == rank && self.scaling == scaling => alpha.value,
            _ => (f64::from(scaling) * rank as f64) as f32,
        }
    }

    /// The tensor of alpha with another value: in f32 where its dtype would round it.
    pub(crate) fn alpha_tensor(&self, value: f32) -> AlphaTensor {
        let mut tensor = match &self.alpha {
            Some(known) => known.clone(),
            None => {
                let name = self.a.split('.').next().unwrap_or_default();
                AlphaTensor::new(format!("{name}.alpha"))
            }
        };
        if tensor.value != value {
            tensor.value = value;
            tensor.dtype = Dtype::F32;
        }
        tensor
    }
}

impl AlphaTensor {
    pub(crate) fn new(key: String) -> Self {
        Self {
            key,
            shape: Vec::new(),
            dtype: Dtype::F32,
            value: f32::NAN,
        }
    }

    /// s = alpha / rank.
    pub(crate) fn scaling(&self, rank: usize) -> f32 {
        (f64::from(self.value) / rank as f64) as f32
    }
}

/// Reads the one number of alpha.
///
/// # Errors
/// If it is not one number, not finite, or 0, which kohya's programs take for "as the rank" and
/// diffusers for "no effect".
pub(crate) fn read_alpha(file: &TensorFile, key: String) -> Result<AlphaTensor, AdapterError> {
    let (shape, dtype) = file.tensor(&key)?;
    if shape.iter().any(|&size| size != 1) {
        return Err(FileError::TensorShape {
            path: file.path().to_owned(),
            tensor: key,
            expected: "[], one number".to_owned(),
            found: shape,
        }
        .into());
    }
    let values: Vec<f32> = match dtype {
        Dtype::I64 | Dtype::I32 | Dtype::I16 | Dtype::U8 => {
            let integers = file.read_i64(&key)?;
            integers.into_iter().map(|value| value as f32).collect()
        }
        _ => file.read_finite_f32(&key)?,
    };
    let value = values[0];
    if value == 0.0 {
        return Err(AdapterError::TensorValue {
            path: file.path().to_owned(),
            tensor: key,
            expected: "an alpha other than 0, which some programs take for the rank and others for no effect",
            found: value,
        });
    }
    Ok(AlphaTensor {
        key,
        shape,
        dtype,
        value,
    })
}
