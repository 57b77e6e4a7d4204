//! A base model: its configuration, its weights in one file or several, and what
//! lies beside them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use eigenmix_adapter::{AdapterError, Labels, Provenance};
use eigenmix_data::gguf_text_files;
use eigenmix_models::{Checkpoint, is_gguf};
use eigenmix_tensors::{Dtype, FileError, TensorFile, write_file};
use eigenmix_trainer::TrainerError;
use serde_json::{Map, Value, json};

use super::base_tensors::{BaseTensors, DecodedTensors};
use crate::BadInput;
use crate::ExperimentError;
use crate::error::message;

const CONFIG: &str = "config.json";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Files with these endings make a checkpoint usable: tokenizers, templates, generation settings.
const COMPANION_ENDINGS: [&str; 4] = ["json", "txt", "model", "jinja"];
/// Files beginning so go wherever the weights go.
const TERMS: [&str; 2] = ["LICENSE", "NOTICE"];

/// An opened base model; tensors are read when they are asked for.
#[derive(Debug)]
pub struct BaseCheckpoint {
    /// The directory or the GGUF file.
    path: PathBuf,
    config: Map<String, Value>,
    tensors: BaseTensors,
    shards: Vec<Shard>,
    /// Which of the shards has a tensor.
    shard_of: BTreeMap<String, usize>,
    is_sharded: bool,
}

/// A file of the result.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) file_name: String,
    /// The names of the tensors that it has, sorted.
    pub(super) names: Vec<String>,
}

impl BaseCheckpoint {
    /// Opens a directory, or a GGUF file. The weights of a quantised model are decoded.
    ///
    /// - dtype: in which decoded weights are written; by default that of the model, or f16 if it does not
    ///   have one
    ///
    /// # Errors
    /// If its configuration or a file of its weights is missing or damaged, it is quantised in a way
    /// that is not read, or a dtype is asked for although nothing is decoded.
    pub fn open(path: &Path, dtype: Option<Dtype>) -> Result<Self, ExperimentError> {
        if is_gguf(path) {
            let checkpoint = Checkpoint::open(path).map_err(TrainerError::from)?;
            return Self::decoded(checkpoint, dtype);
        }
        let directory = path;
        if !directory.is_dir() {
            return Err(FileError::NotFound(directory.to_owned()).into());
        }
        let config = read_object(&directory.join(CONFIG))?;
        // Tensors tell what a configuration may be silent about.
        match Checkpoint::open(directory) {
            Ok(checkpoint) if checkpoint.is_quantised() => return Self::decoded(checkpoint, dtype),
            Err(error) if quantisation_of(&config).is_some() => {
                return Err(TrainerError::from(error).into());
            }
            // What else is wrong with the files is said where they are opened for what they are.
            Ok(_) | Err(_) => {}
        }
        if dtype.is_some() {
            let problem = "--dtype is for a quantised base model; the weights of another one keep the dtype that they have";
            return Err(BadInput(problem.to_owned()).into());
        }
        let index = directory.join(INDEX);
        let is_sharded = !directory.join(SINGLE).exists() && index.exists();
        let files = if is_sharded {
            shard_names(&index)?
        } else {
            vec![SINGLE.to_owned()]
        };
        let opened = files
            .iter()
            .map(|file| TensorFile::open(&directory.join(file)))
            .collect::<Result<Vec<_>, _>>()?;
        let shards = files
            .into_iter()
            .zip(&opened)
            .map(|(file_name, file)| Shard {
                file_name,
                names: file.names().map(str::to_owned).collect(),
            });
        let shards = shards.collect();
        let tensors = BaseTensors::Stored(opened);
        Ok(Self::of(directory, config, tensors, shards, is_sharded))
    }

    fn decoded(checkpoint: Checkpoint, dtype: Option<Dtype>) -> Result<Self, ExperimentError> {
        let path = checkpoint.path().to_owned();
        let mut config = match checkpoint.config() {
            Value::Object(config) => config.clone(),
            _ => Map::new(),
        };
        let dtype = dtype
            .or(dtype_in(&config))
            .or(checkpoint.matrix_dtype())
            .unwrap_or(Dtype::F16);
        describe_decoded(&mut config, dtype);
        let decoded = DecodedTensors::new(checkpoint, dtype);
        let files = decoded.files();
        let count = files.len();
        let named = files.into_iter().enumerate();
        let shards = named.map(|(index, names)| Shard {
            file_name: match count {
                1 => SINGLE.to_owned(),
                _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
            },
            names,
        });
        let shards = shards.collect();
        let tensors = BaseTensors::Decoded(Box::new(decoded));
        Ok(Self::of(&path, config, tensors, shards, count > 1))
    }

    fn of(
        path: &Path,
        config: Map<String, Value>,
        tensors: BaseTensors,
        shards: Vec<Shard>,
        is_sharded: bool,
    ) -> Self {
        let mut shard_of = BTreeMap::new();
        for (index, shard) in shards.iter().enumerate() {
            shard_of.extend(shard.names.iter().map(|name| (name.clone(), index)));
        }
        Self {
            path: path.to_owned(),
            config,
            tensors,
            shards,
            shard_of,
            is_sharded,
        }
    }

    /// The directory or the GGUF file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Of a quantised model: the dtype in which its weights are written.
    pub fn decoded_dtype(&self) -> Option<Dtype> {
        match &self.tensors {
            BaseTensors::Stored(_) => None,
            BaseTensors::Decoded(decoded) => decoded.are_quantised().then(|| decoded.dtype()),
        }
    }

    /// `config.json`.
    pub(super) fn config(&self) -> &Map<String, Value> {
        &self.config
    }

    pub(super) fn model_type(&self) -> Option<&str> {
        self.config.get("model_type").and_then(Value::as_str)
    }

    /// At least one.
    pub(super) fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// The names of all tensors, sorted.
    pub(super) fn tensor_names(&self) -> Vec<&str> {
        self.shard_of.keys().map(String::as_str).collect()
    }

    pub(super) fn contains(&self, tensor: &str) -> bool {
        self.shard_of.contains_key(tensor)
    }

    /// The shape of a tensor, and its dtype in the result.
    ///
    /// # Errors
    /// If there is none of that name.
    pub(super) fn tensor(&self, name: &str) -> Result<(Vec<usize>, Dtype), FileError> {
        self.tensors.tensor(name, self.shard(name)?)
    }

    /// All values of a tensor.
    ///
    /// # Errors
    /// If there is none of that name, or it cannot be decoded or is not finite.
    pub(super) fn read(&self, name: &str) -> Result<Vec<f32>, ExperimentError> {
        self.tensors.read(name, self.shard(name)?)
    }

    /// The bytes of a tensor that stays as it is.
    ///
    /// # Errors
    /// As [`BaseCheckpoint::read`], if it has to be decoded.
    pub(super) fn bytes(&self, name: &str) -> Result<Cow<'_, [u8]>, ExperimentError> {
        self.tensors.bytes(name, self.shard(name)?)
    }

    /// The safetensors file that has a tensor as it is.
    pub(super) fn file_of(&self, name: &str) -> Option<&TensorFile> {
        self.tensors.file_of(name, self.shard(name).ok()?)
    }

    fn shard(&self, name: &str) -> Result<usize, FileError> {
        let missing = || FileError::NoSuchTensor {
            path: self.path.clone(),
            tensor: name.to_owned(),
        };
        self.shard_of.get(name).copied().ok_or_else(missing)
    }

    /// Copies what a user of the model needs beside the weights and `config.json`; of a GGUF file, its
    /// tokenizer and chat template as files. Says why not, if they cannot be had.
    pub(super) fn copy_companions(&self, target: &Path) -> Result<Option<String>, AdapterError> {
        if is_gguf(&self.path) {
            let files = match gguf_text_files(&self.path) {
                Ok(files) => files,
                Err(error) => return Ok(Some(message(&error))),
            };
            for (name, content) in files {
                write_file(&target.join(name), &content)?;
            }
            return Ok(None);
        }
        let entries = fs::read_dir(&self.path).map_err(FileError::io("list", &self.path))?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_file() && is_companion(&name) {
                let bytes = fs::read(entry.path()).map_err(FileError::io("read", &entry.path()))?;
                write_file(&target.join(name), &bytes)?;
            }
        }
        Ok(None)
    }

    /// Writes the index of several files; one file has none.
    ///
    /// - file_of: the file of every tensor of the result.
    pub(super) fn write_index(
        &self,
        target: &Path,
        file_of: &BTreeMap<String, String>,
        total_bytes: usize,
    ) -> Result<(), ExperimentError> {
        if !self.is_sharded {
            return Ok(());
        }
        let index = json!({"metadata": {"total_size": total_bytes}, "weight_map": file_of});
        write_file(&target.join(INDEX), format!("{index:#}\n").as_bytes())?;
        Ok(())
    }
}

/// Where configurations say how the weights are quantised: transformers', and MLX's.
const QUANTISATION: [&str; 2] = ["quantization_config", "quantization"];
const NESTED: &str = "text_config";

/// How a configuration says that the weights are quantised.
pub(super) fn quantisation_of(config: &Map<String, Value>) -> Option<&Value> {
    let nested = config.get(NESTED).and_then(Value::as_object);
    let mut places = [Some(config), nested].into_iter().flatten();
    places.find_map(|config| {
        let mut fields = QUANTISATION.iter().filter_map(|field| config.get(*field));
        fields.find(|found| !found.is_null())
    })
}

/// Where configurations say in which dtype the weights are.
const DTYPES: [&str; 2] = ["dtype", "torch_dtype"];

fn dtype_in(config: &Map<String, Value>) -> Option<Dtype> {
    let found = DTYPES.iter().find_map(|key| config.get(*key)?.as_str())?;
    match found {
        "float32" => Some(Dtype::F32),
        "float16" => Some(Dtype::F16),
        "bfloat16" => Some(Dtype::BF16),
        _ => None,
    }
}

/// Makes the configuration one of weights that are not quantised.
fn describe_decoded(config: &mut Map<String, Value>, dtype: Dtype) {
    for field in QUANTISATION {
        config.shift_remove(field);
        if let Some(Value::Object(nested)) = config.get_mut(NESTED) {
            nested.shift_remove(field);
        }
    }
    let name = match dtype {
        Dtype::F16 => "float16",
        Dtype::BF16 => "bfloat16",
        _ => "float32",
    };
    let key = DTYPES.into_iter().find(|key| config.contains_key(*key));
    config.insert(key.unwrap_or("torch_dtype").to_owned(), json!(name));
}

/// Whether a file beside the weights belongs into a copy of the model.
fn is_companion(name: &str) -> bool {
    let is_replaced = [CONFIG, INDEX, Provenance::FILE_NAME, Labels::FILE_NAME].contains(&name);
    let describes_other_weights = name.ends_with(".index.json") || name.starts_with("adapter_");
    if is_replaced || describes_other_weights {
        return false;
    }
    let ending = Path::new(name).extension().unwrap_or_default();
    COMPANION_ENDINGS
        .iter()
        .any(|companion| ending == *companion)
        || TERMS.iter().any(|terms| name.starts_with(terms))
}

/// The files that an index names, each once.
fn shard_names(index: &Path) -> Result<Vec<String>, ExperimentError> {
    let entries = read_object(index)?;
    let malformed = |problem: String| BadInput(format!("`{}`: {problem}", index.display()));
    let files = entries
        .get("weight_map")
        .and_then(Value::as_object)
        .ok_or_else(|| malformed("it has no `weight_map`".to_owned()))?;
    let mut names = Vec::new();
    for file in files.values() {
        let name = file.as_str().unwrap_or_default();
        // A name from a file must not lead out of the directory.
        if Path::new(name).file_name() != Some(name.as_ref()) {
            return Err(malformed(format!("{file} is not the name of a file beside it")).into());
        }
        names.push(name.to_owned());
    }
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Err(malformed("it names no file".to_owned()).into());
    }
    Ok(names)
}

fn read_object(path: &Path) -> Result<Map<String, Value>, ExperimentError> {
    let text = fs::read(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => FileError::NotFound(path.to_owned()),
        _ => FileError::io("read", path)(source),
    })?;
    let parsed = serde_json::from_slice(&text).map_err(|source| FileError::Json {
        path: path.to_owned(),
        source,
    });
    Ok(parsed?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoded_model_says_of_no_kind_that_it_is_quantised() {
        for field in ["quantization_config", "quantization"] {
            let said = json!({"bits": 4, "group_size": 32});
            let nested = json!({"text_config": {field: &said}});
            for config in [json!({field: &said}), nested] {
                let Value::Object(mut config) = config else {
                    panic!("an object");
                };
                assert_eq!(quantisation_of(&config), Some(&said));
                describe_decoded(&mut config, Dtype::F16);
                assert_eq!(quantisation_of(&config), None, "{config:?}");
            }
        }
        assert_eq!(quantisation_of(&Map::new()), None);
    }

    #[test]
    fn tokenizers_and_licences_go_along_and_other_weights_do_not() {
        for name in [
            "tokenizer.json",
            "vocab.txt",
            "spiece.model",
            "LICENSE",
            "NOTICE.txt",
        ] {
            assert!(is_companion(name), "{name}");
        }
        for name in [
            "config.json",
            "model.safetensors",
            "pytorch_model.bin",
            "pytorch_model.bin.index.json",
            "adapter_config.json",
            "README.md",
        ] {
            assert!(!is_companion(name), "{name}");
        }
    }

    #[test]
    fn an_index_that_leads_out_of_its_directory_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let index = directory.path().join(INDEX);
        for name in ["../model.safetensors", "/etc/passwd", "..", ""] {
            let text = json!({"weight_map": {"w": name}}).to_string();
            fs::write(&index, text).expect("a file");
            let error = shard_names(&index).expect_err("an error").to_string();
            assert!(error.contains("not the name of a file"), "{error}");
        }
    }
}
