//! A base model's checkpoint: in Hugging Face's form, `config.json` and one or several safetensors files,
//! or a GGUF file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use eigenmix_adapter::current_name;
use eigenmix_gguf::GgufFile;
use eigenmix_kernels::FrozenWeight;
use eigenmix_tensors::{Dtype, TensorFile};
use serde_json::Value;

use crate::ModelError;
use crate::gguf::{GgufConfig, GgufNames};
use crate::holding::{Holding, Role};
use crate::precision::Precision;
use crate::shared_tensors::SharedTensors;
use crate::stored::{Files, StoredTensor, StoredTensors, gguf_tensors, stored_tensors};
use crate::token_tables::{TokenTables, untie};
use crate::vision_language_names::{is_vision_language, renamed, tie_if_alone};

/// An opened base model; weights are memory-mapped and read when asked for.
pub struct Checkpoint {
    path: PathBuf,
    config: Value,
    tensors: StoredTensors,
    /// What else than its configuration says is true of it.
    note: Option<String>,
    /// Where models share what is frozen.
    shared: Option<Shared>,
    precision: Precision,
}

/// What models that are built from one checkpoint share.
#[derive(Default)]
struct Shared {
    /// Each as one row of values.
    tensors: SharedTensors<Tensor<1>>,
    weights: SharedTensors<FrozenWeight>,
}

impl Checkpoint {
    /// Opens the directory or GGUF file `path`.
    ///
    /// # Errors
    /// If a file is missing, unreadable or malformed, or what it holds is not read.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        match is_gguf(path) {
            true => Self::open_gguf(path),
            false => Self::open_directory(path),
        }
    }

    fn open_gguf(path: &Path) -> Result<Self, ModelError> {
        let file = GgufFile::open(path)?;
        let GgufConfig { json, mut unused } = GgufConfig::of(&file)?;
        let names = GgufNames::of(&file)?;
        unused.extend_from_slice(names.unused());
        let note = match &unused[..] {
            [] => None,
            keys => Some(format!(
                "the file says of the model what is not known here and is not used: {}",
                keys.join(", ")
            )),
        };
        Ok(Self {
            path: path.to_owned(),
            config: json,
            tensors: gguf_tensors(&file, &names)?,
            note,
            shared: None,
            precision: Precision::default(),
        })
    }

    /// Opens one part of a diffusion pipeline: a directory with `config.json` and weights whose files begin
    /// with `stem`, in full or in half precision (`STEM.fp16.safetensors`).
    ///
    /// # Errors
    /// If a file is missing, unreadable or malformed.
    pub fn open_part(directory: &Path, stem: &str) -> Result<Self, ModelError> {
        let mut checkpoint = Self::open_config(directory)?;
        let endings = [
            ("safetensors", "safetensors.index.json"),
            ("fp16.safetensors", "safetensors.index.fp16.json"),
        ];
        let paths = endings.into_iter().find_map(|(file, index)| {
            let [file, index] = [file, index].map(|end| directory.join(format!("{stem}.{end}")));
            match () {
                () if file.is_file() => Some(Ok(vec![file])),
                () if index.is_file() => Some(shards(directory, &index)),
                () => None,
            }
        });
        let paths = paths.ok_or_else(|| ModelError::NoWeights {
            path: directory.to_owned(),
            expected: format!("{stem}.safetensors"),
        })??;
        checkpoint.read_files(paths)?;
        Ok(checkpoint)
    }

    /// Takes the tensors of files.
    fn read_files(&mut self, paths: Vec<PathBuf>) -> Result<(), ModelError> {
        let mut files = Files::new();
        for path in paths {
            let file = Arc::new(TensorFile::open(&path)?);
            files.extend(file.names().map(|name| (name.to_owned(), file.clone())));
        }
        self.tensors = stored_tensors(files, &self.config, &self.path)?;
        Ok(())
    }

    fn open_directory(directory: &Path) -> Result<Self, ModelError> {
        let mut checkpoint = Self::open_config(directory)?;
        let single = directory.join("model.safetensors");
        let index = directory.join("model.safetensors.index.json");
        let paths = if single.is_file() {
            vec![single]
        } else if index.is_file() {
            shards(directory, &index)?
        } else {
            return Err(ModelError::NotACheckpoint {
                path: directory.to_owned(),
                expected: "model.safetensors",
            });
        };
        checkpoint.read_files(paths)?;
        let file_of = |name: &str| checkpoint.file_of(name);
        let tables = TokenTables::of(&checkpoint.config, checkpoint.names(), file_of)?;
        if let Some(note) = tables.as_ref().and_then(TokenTables::note) {
            checkpoint.note = Some(note);
            if let Some(fields) = checkpoint.config.as_object_mut() {
                untie(fields);
            }
        }
        if is_vision_language(&checkpoint.config) {
            checkpoint.tensors = renamed(checkpoint.tensors, directory)?;
            tie_if_alone(&mut checkpoint.config, tables.as_ref());
        }
        Ok(checkpoint)
    }

    /// Opens only the configuration of the directory or GGUF file `path`, for a model that starts from
    /// random weights or that is only described.
    ///
    /// # Errors
    /// If it is missing or malformed.
    pub fn open_config(path: &Path) -> Result<Self, ModelError> {
        if is_gguf(path) {
            return Self::open_gguf(path);
        }
        let directory = path;
        let path = directory.join("config.json");
        if !path.is_file() {
            return Err(ModelError::NotACheckpoint {
                path: directory.to_owned(),
                expected: "config.json",
            });
        }
        Ok(Self {
            config: read_json(&path)?,
            path: directory.to_owned(),
            tensors: StoredTensors::new(),
            note: None,
            shared: None,
            precision: Precision::default(),
        })
    }

    /// Keeps every tensor on the device on which a frozen model is built from it, so that the next
    /// model there shares it: many models then take the time and memory of one.
    pub fn share_tensors(&mut self) {
        self.shared.get_or_insert_default();
    }

    /// Sets how frozen matrices are stored in memory.
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    /// The directory or the GGUF file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its `config.json`, or what a GGUF file says in its place, corrected where the weights show that it is wrong ([`Checkpoint::note`]).
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// What a user has to know of the weights, because the configuration says something else.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// The names of its tensors, sorted; of a vision-language model as transformers 5 names its modules.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// What its files call a tensor that [`Checkpoint::names`] names as transformers 5 does.
    pub fn name_in_files<'n>(&'n self, name: &'n str) -> &'n str {
        let file = self
            .file_of(name)
            .filter(|_| is_vision_language(&self.config));
        let mut names = file.into_iter().flat_map(TensorFile::names);
        let found = names.find(|stored| current_name(stored).as_deref() == Some(name));
        found.unwrap_or(name)
    }

    /// The shape of a tensor, if the checkpoint has it.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(self.tensors.get(name)?.shape())
    }

    /// The safetensors file that has a tensor as it is.
    pub fn file_of(&self, name: &str) -> Option<&TensorFile> {
        self.tensors.get(name)?.file()
    }

    /// The dtype that all its matrices have, if that is f32, f16 or bf16.
    pub fn matrix_dtype(&self) -> Option<Dtype> {
        let tensors = self.tensors.values();
        let mut dtypes = tensors
            .filter(|tensor| tensor.shape().len() == 2)
            .map(|tensor| tensor.dtype());
        let first = dtypes.next()??;
        let is_float = matches!(first, Dtype::F32 | Dtype::F16 | Dtype::BF16);
        (is_float && dtypes.all(|dtype| dtype == Some(first))).then_some(first)
    }

    /// The name under which it has a tensor: with the model's prefix, or without.
    pub fn find<'n>(&self, name: &'n str, prefix: &str) -> Option<&'n str> {
        let bare = name
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_prefix('.'));
        [Some(name), bare]
            .into_iter()
            .flatten()
            .find(|name| self.tensors.contains_key(*name))
    }

    /// A tensor of the expected shape, widened to f32.
    ///
    /// # Errors
    /// If it is missing, has another shape or another type than f32, f16, bf16 or f64.
    pub fn read(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, ModelError> {
        self.tensor(name, expected)?.read()
    }

    /// Whether some of its tensors have fewer bits than the model was trained in.
    pub fn is_quantised(&self) -> bool {
        self.tensors.values().any(|tensor| tensor.is_quantised())
    }

    /// A frozen matrix on `device`, in the form that the precision asks for.
    ///
    /// - role: what it is in the model
    /// - share: whether models may share it, where they are told to
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub(crate) fn weight(
        &self,
        name: &str,
        shape: [usize; 2],
        role: Role,
        share: bool,
        device: &Device,
    ) -> Result<FrozenWeight, ModelError> {
        let read = || self.read_weight(name, shape, role, device);
        match &self.shared {
            Some(shared) if share => shared.weights.get(name, device, read),
            _ => read(),
        }
    }

    /// `[d_out, d_in]` from the stored `shape`.
    fn read_weight(
        &self,
        name: &str,
        shape: [usize; 2],
        role: Role,
        device: &Device,
    ) -> Result<FrozenWeight, ModelError> {
        let tensor = self.tensor(name, &shape)?;
        let is_transposed = role == Role::TransposedLayer;
        let turned = |weight: FrozenWeight| match is_transposed {
            true => weight.transposed(),
            false => weight,
        };
        let computes_in =
            |half| !eigenmix_kernels::widens_half_precision(device) && device.supports_dtype(half);
        let holding = Holding::of(
            tensor,
            name,
            role,
            self.settled(self.precision),
            computes_in,
        );
        if holding == Holding::Quantised
            && let Some(quantise) = self.precision.quantised()
        {
            let (values, shape) = match is_transposed {
                true => (transposed(&tensor.read()?, shape), [shape[1], shape[0]]),
                false => (tensor.read()?, shape),
            };
            let matrix = quantise(&values, shape).map_err(ModelError::encoded(name))?;
            return Ok(FrozenWeight::encoded(matrix, device));
        }
        if holding == Holding::Stored
            && let Some(matrix) = tensor.encoded()?
        {
            return Ok(turned(FrozenWeight::encoded(matrix, device)));
        }
        let data = TensorData::new(tensor.read()?, shape);
        Ok(turned(Tensor::from_data(data, device).into()))
    }

    /// A frozen tensor on `device`, in f32.
    ///
    /// - share: whether models may share it, where they are told to
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub(crate) fn place<const D: usize>(
        &self,
        name: &str,
        shape: [usize; D],
        share: bool,
        device: &Device,
    ) -> Result<Tensor<D>, ModelError> {
        let read = || {
            let values = self.read(name, &shape)?;
            let count = values.len();
            let data = TensorData::new(values, [count]);
            Ok(Tensor::<1>::from_data(data, device))
        };
        let row = match &self.shared {
            Some(shared) if share => shared.tensors.get(name, device, read)?,
            _ => read()?,
        };
        Ok(row.reshape(shape))
    }

    /// The half precision in which a kernel of a convolution is kept, if it is.
    pub(crate) fn kept_half(&self, name: &str, device: &Device) -> Option<FloatDType> {
        let computes_in =
            |half| !eigenmix_kernels::widens_half_precision(device) && device.supports_dtype(half);
        let dtype = self.tensors.get(name)?.dtype()?;
        let is_kept = self.settled(self.precision).keeps(dtype, computes_in);
        match dtype {
            Dtype::F16 if is_kept => Some(FloatDType::F16),
            Dtype::BF16 if is_kept => Some(FloatDType::BF16),
            _ => None,
        }
    }

    /// What a precision means for this checkpoint: of a model that has to be small, whatever is in
    /// half precision stays so.
    pub(crate) fn settled(&self, precision: Precision) -> Precision {
        match precision {
            Precision::Auto if self.is_quantised() => Precision::Stored,
            precision => precision,
        }
    }

    /// Its tensors by their names.
    pub(crate) fn stored(&self) -> &StoredTensors {
        &self.tensors
    }

    /// A tensor, if it has the expected shape.
    fn tensor(&self, name: &str, expected: &[usize]) -> Result<&dyn StoredTensor, ModelError> {
        let Some(tensor) = self.tensors.get(name) else {
            return Err(ModelError::MissingTensor {
                name: name.to_owned(),
            });
        };
        let found = tensor.shape();
        if found != expected {
            return Err(ModelError::TensorShape {
                name: name.to_owned(),
                expected: expected.to_vec(),
                found: found.to_vec(),
            });
        }
        Ok(&**tensor)
    }
}

/// `[rows, cols]` → `[cols, rows]`.
pub(crate) fn transposed(values: &[f32], [rows, cols]: [usize; 2]) -> Vec<f32> {
    (0..cols)
        .flat_map(|col| (0..rows).map(move |row| values[row * cols + col]))
        .collect()
}

/// Whether a path names a GGUF file, rather than a directory.
pub fn is_gguf(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")) && !path.is_dir()
}

/// The files that an index names.
fn shards(directory: &Path, index: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let names = shard_names(index)?;
    if let Some(missing) = names.iter().find(|name| !directory.join(name).is_file()) {
        return Err(ModelError::MissingShard {
            index: index.to_owned(),
            shard: missing.clone(),
        });
    }
    Ok(names.iter().map(|name| directory.join(name)).collect())
}

/// The names of the files that the index of a sharded checkpoint names, each once, sorted.
///
/// # Errors
/// If the index cannot be read, or a name would lead out of its directory.
pub fn shard_names(index: &Path) -> Result<Vec<String>, ModelError> {
    let malformed = |problem: String| ModelError::Config {
        path: index.to_owned(),
        problem,
    };
    let json = read_json(index)?;
    let map = json
        .get("weight_map")
        .and_then(Value::as_object)
        .ok_or_else(|| malformed("`weight_map` is missing".into()))?;
    let names: BTreeSet<&str> = map.values().filter_map(Value::as_str).collect();
    for name in &names {
        if Path::new(name).components().count() != 1 || *name == ".." {
            return Err(malformed(format!("`{name}` is not a plain file name")));
        }
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

fn read_json(path: &Path) -> Result<Value, ModelError> {
    let text = std::fs::read_to_string(path).map_err(|source| ModelError::Read {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|source| ModelError::Json {
        path: path.to_owned(),
        source,
    })
}
