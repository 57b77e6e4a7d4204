//! An adapter in memory, and how it is written.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_tensors::{
    FileError, Matrix, TensorOutput, write_directory, write_file, write_tensor_file,
};

use crate::export::exported_config;
use crate::key::{PREFIX, Part, bias_key};
use crate::model_card::model_card;
use crate::weights_file::WEIGHTS_NAME;
use crate::{AdapterError, Labels, LayerKind, LoraModule, PeftConfig, Prompts, Provenance};

/// A LoRA adapter: what it does to each module of its base model, and what it brings along.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    pub config: PeftConfig,
    /// The updates by the path of the module in the base model.
    pub modules: BTreeMap<String, LoraModule>,
    /// Tensors of the modules that were trained whole, by name in the base model
    /// (`classifier.weight`): specific to the task, never merged.
    pub heads: BTreeMap<String, HeadTensor>,
    /// Biases of the base model that were trained along, by name there.
    pub biases: BTreeMap<String, HeadTensor>,
    /// What the outputs of the head stand for.
    pub labels: Option<Labels>,
    /// Of an adapter that was trained below a zero-shot head: what is said of each label.
    pub prompts: Option<Prompts>,
}

/// A tensor of the base model in its trained state.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadTensor {
    pub shape: Vec<usize>,
    /// Row-major, as many as `shape` says.
    pub values: Vec<f32>,
}

/// How an adapter is written.
#[derive(Clone, Debug, Default)]
pub struct SaveOptions {
    /// Replace an existing directory.
    pub force: bool,
    /// How the adapter was made, for `eigenmix.json`.
    pub provenance: Option<Provenance>,
}

impl Adapter {
    /// An adapter without heads, biases, labels and prompts.
    pub fn new(config: PeftConfig, modules: BTreeMap<String, LoraModule>) -> Self {
        Self {
            config,
            modules,
            heads: BTreeMap::new(),
            biases: BTreeMap::new(),
            labels: None,
            prompts: None,
        }
    }

    /// Writes the directory that PEFT would write, in one step: plain LoRA in f32 with scaling 1.
    ///
    /// Scaling and mixer are folded into B, and the scaling into the bias of B, so that
    /// `lora_alpha` = r and no reader can get ΔW wrong. DoRA magnitudes are kept. The configuration
    /// keeps its unknown keys; its targets are kept if they cover the modules.
    ///
    /// # Errors
    /// If the directory exists and `options.force` is not set, only some modules have a DoRA
    /// magnitude or a bias of B, a value is not finite, or the directory cannot be written.
    pub fn save(&self, directory: &Path, options: &SaveOptions) -> Result<(), AdapterError> {
        let config = exported_config(self)?;
        let plain: BTreeMap<&str, PlainModule<'_>> = self
            .modules
            .iter()
            .map(|(path, module)| (path.as_str(), PlainModule::fold(module)))
            .collect();
        self.check_finite(directory, &plain)?;

        write_directory(directory, options.force, |staging| {
            write_file(
                &staging.join(PeftConfig::FILE_NAME),
                config.to_json().as_bytes(),
            )?;
            write_tensor_file(&staging.join(WEIGHTS_NAME), self.tensors(&plain))?;
            let card = model_card(self, &config, options.provenance.as_ref());
            write_file(&staging.join("README.md"), card.as_bytes())?;
            if let Some(labels) = &self.labels {
                labels.write(&staging.join(Labels::FILE_NAME))?;
            }
            if let Some(prompts) = &self.prompts {
                prompts.write(&staging.join(Prompts::FILE_NAME))?;
            }
            if let Some(provenance) = &options.provenance {
                let path = staging.join(Provenance::FILE_NAME);
                let text = provenance.to_json(&path)?;
                write_file(&path, format!("{text}\n").as_bytes())?;
            }
            Ok(())
        })
    }

    /// How many numbers the updates have, heads not counted.
    pub fn parameter_count(&self) -> usize {
        self.modules.values().map(LoraModule::parameter_count).sum()
    }

    fn tensors<'a>(&'a self, plain: &'a BTreeMap<&str, PlainModule<'a>>) -> Vec<TensorOutput<'a>> {
        let mut tensors = Vec::new();
        for (path, module) in plain {
            tensors.extend(module.factors(path));
            for (part, vector) in [
                (Part::Magnitude, module.magnitude),
                (Part::Bias, module.bias.as_deref()),
            ] {
                if let Some(values) = vector {
                    tensors.push(TensorOutput::f32(part.key(path), [values.len()], values));
                }
            }
        }
        let heads = self
            .heads
            .iter()
            .map(|(name, tensor)| (format!("{PREFIX}{name}"), tensor));
        let is_adapted = |module: &str| self.modules.contains_key(module);
        let biases = self
            .biases
            .iter()
            .map(|(name, tensor)| (bias_key(name, is_adapted), tensor));
        tensors.extend(
            heads
                .chain(biases)
                .map(|(key, tensor)| TensorOutput::f32(key, tensor.shape.clone(), &tensor.values)),
        );
        tensors
    }

    /// Refuses to write numbers that [`crate::AdapterFile`] would refuse to read.
    fn check_finite(
        &self,
        directory: &Path,
        plain: &BTreeMap<&str, PlainModule<'_>>,
    ) -> Result<(), AdapterError> {
        let factors = plain.iter().flat_map(|(path, module)| {
            [
                (module.parts()[0].key(path), module.a.values()),
                (module.parts()[1].key(path), module.b.values()),
                (
                    Part::Magnitude.key(path),
                    module.magnitude.unwrap_or_default(),
                ),
                (
                    Part::Bias.key(path),
                    module.bias.as_deref().unwrap_or_default(),
                ),
            ]
        });
        let whole = self.heads.iter().chain(&self.biases);
        let whole = whole.map(|(name, tensor)| (name.clone(), tensor.values.as_slice()));
        for (tensor, values) in factors.chain(whole) {
            if let Some(position) = values.iter().position(|value| !value.is_finite()) {
                return Err(FileError::NotFinite {
                    path: directory.to_owned(),
                    tensor,
                    value: values[position],
                    position,
                }
                .into());
            }
        }
        Ok(())
    }
}

/// A module as plain LoRA with scaling 1: ΔW = b · a.
///
/// PEFT's factors of an embedding are those of ΔWᵀ, so that they are turned here.
struct PlainModule<'a> {
    a: Cow<'a, Matrix>,
    b: Matrix,
    layer: &'a LayerKind,
    magnitude: Option<&'a [f32]>,
    bias: Option<Vec<f32>>,
}

impl<'a> PlainModule<'a> {
    fn fold(module: &'a LoraModule) -> Self {
        let bias = module.bias.as_ref();
        let (a, b) = (Cow::Borrowed(&module.a), module.folded_b());
        let (a, b) = match module.layer {
            LayerKind::Embedding => (Cow::Owned(b.transposed()), module.a.transposed()),
            _ => (a, b),
        };
        Self {
            a,
            b,
            layer: &module.layer,
            magnitude: module.magnitude.as_deref(),
            bias: bias.map(|bias| bias.iter().map(|value| module.scaling * value).collect()),
        }
    }

    /// The names of A and B.
    fn parts(&self) -> [Part; 2] {
        match self.layer {
            LayerKind::Embedding => [Part::EmbeddingA, Part::EmbeddingB],
            _ => [Part::A, Part::B],
        }
    }

    fn factors<'b>(&'b self, path: &str) -> [TensorOutput<'b>; 2] {
        let [a_part, b_part] = self.parts();
        let (a, b) = (&self.a, &self.b);
        // [rank, entries] and [size, rank], of an embedding.
        let a_shape = self.layer.a_shape(a.rows(), a.cols());
        let b_shape = self.layer.b_shape(b.rows(), b.cols());
        [
            TensorOutput::f32(a_part.key(path), a_shape, a.values()),
            TensorOutput::f32(b_part.key(path), b_shape, b.values()),
        ]
    }
}
