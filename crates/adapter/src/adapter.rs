//! An adapter in memory, and how it is written.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_tensors::{FileError, HostTensor, write_directory, write_file, write_tensor_file};

use crate::export::exported_config;
use crate::key::{Part, whole_key};
use crate::model_card::model_card;
use crate::named_tensor::{NamedTensor, values_of};
use crate::weights_file::WEIGHTS_NAME;
use crate::{
    AdapterError, Companion, Labels, LayerKind, LoraModule, PeftConfig, Prompts, Provenance,
};

/// A LoRA adapter: what it does to each module of its base model, and what it brings along.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    pub config: PeftConfig,
    /// The updates by the path of the module in the base model.
    pub modules: BTreeMap<String, LoraModule>,
    /// Tensors of the modules that were trained whole, by name in the base model
    /// (`classifier.weight`): specific to the task, never merged. That of a module which is adapted is
    /// the W₀ below its update: a table of tokens that PEFT saved along. Rows of a table are here under
    /// PEFT's own name for them ([`Adapter::token_rows`]).
    pub heads: BTreeMap<String, HostTensor>,
    /// Biases of the base model that were trained along, by name there.
    pub biases: BTreeMap<String, HostTensor>,
    /// What the outputs of the head stand for.
    pub labels: Option<Labels>,
    /// Of an adapter that was trained below a zero-shot head: what is said of each label.
    pub prompts: Option<Prompts>,
}

/// How an adapter is written.
#[derive(Clone, Debug, Default)]
pub struct SaveOptions {
    /// Replace an existing directory.
    pub force: bool,
    /// How the adapter was made, for `eigenmix.json`.
    pub provenance: Option<Provenance>,
    /// Files to write beside it, where it is a directory.
    pub companions: Vec<Companion>,
}

impl SaveOptions {
    /// Writes what lies beside an adapter: how it was made, and its companions.
    pub(crate) fn write_beside(&self, directory: &Path) -> Result<(), FileError> {
        if let Some(provenance) = &self.provenance {
            let path = directory.join(Provenance::FILE_NAME);
            let text = provenance.to_json(&path)?;
            write_file(&path, format!("{text}\n").as_bytes())?;
        }
        for companion in &self.companions {
            write_file(&directory.join(&companion.name), &companion.content)?;
        }
        Ok(())
    }
}

impl Adapter {
    /// Whether its modules are those of an image generator's parts, of which one is always the UNet.
    pub fn is_of_pipeline(&self) -> bool {
        self.modules.keys().any(|path| path.starts_with("unet."))
    }

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
    /// keeps its other keys; its targets are kept if they cover the modules.
    ///
    /// # Errors
    /// If the directory exists and `options.force` is not set, only some modules have a DoRA
    /// magnitude or a bias of B, a value is not finite, or the directory cannot be written.
    pub fn save(&self, directory: &Path, options: &SaveOptions) -> Result<(), AdapterError> {
        let config = exported_config(self)?;
        let tensors = self.tensors();
        for tensor in &tensors {
            tensor.require_finite(directory)?;
        }

        write_directory(directory, options.force, |staging| {
            write_file(
                &staging.join(PeftConfig::FILE_NAME),
                config.to_json().as_bytes(),
            )?;
            let outputs = tensors.iter().map(NamedTensor::output).collect();
            write_tensor_file(&staging.join(WEIGHTS_NAME), outputs)?;
            let card = model_card(self, &config, options.provenance.as_ref());
            write_file(&staging.join("README.md"), card.as_bytes())?;
            if let Some(labels) = &self.labels {
                labels.write(&staging.join(Labels::FILE_NAME))?;
            }
            if let Some(prompts) = &self.prompts {
                prompts.write(&staging.join(Prompts::FILE_NAME))?;
            }
            Ok(options.write_beside(staging)?)
        })
    }

    /// How many numbers the updates have, heads not counted.
    pub fn parameter_count(&self) -> usize {
        self.modules.values().map(LoraModule::parameter_count).sum()
    }

    /// Every tensor of the file, by the name that PEFT gives it.
    fn tensors(&self) -> Vec<NamedTensor<'_>> {
        let mut tensors = Vec::new();
        for (path, module) in &self.modules {
            let plain = LoraModule::unscaled(LoraModule::without_mixer(Cow::Borrowed(module)));
            push_module(&mut tensors, path, plain);
        }
        let is_adapted = |module: &str| self.modules.contains_key(module);
        let has_rows = |module: &str| self.token_rows(module).is_some();
        let whole = self.heads.iter().chain(&self.biases);
        tensors.extend(whole.map(|(name, tensor)| NamedTensor {
            name: whole_key(name, is_adapted, has_rows),
            shape: tensor.shape.clone(),
            values: Cow::Borrowed(&tensor.values),
        }));
        tensors
    }
}

/// The tensors of a module without mixer and with scaling 1.
fn push_module<'a>(tensors: &mut Vec<NamedTensor<'a>>, path: &str, module: Cow<'a, LoraModule>) {
    let layer = module.layer.clone();
    let (a, b, magnitude, bias) = match module {
        Cow::Borrowed(module) => (
            Cow::Borrowed(&module.a),
            Cow::Borrowed(&module.b),
            module.magnitude.as_deref().map(Cow::Borrowed),
            module.bias.as_deref().map(Cow::Borrowed),
        ),
        Cow::Owned(module) => (
            Cow::Owned(module.a),
            Cow::Owned(module.b),
            module.magnitude.map(Cow::Owned),
            module.bias.map(Cow::Owned),
        ),
    };
    // PEFT's factors of an embedding are those of ΔWᵀ: [rank, entries] and [size, rank].
    let (a_part, a, b_part, b) = match layer {
        LayerKind::Embedding => (
            Part::EmbeddingA,
            Cow::Owned(b.transposed()),
            Part::EmbeddingB,
            Cow::Owned(a.transposed()),
        ),
        _ => (Part::A, a, Part::B, b),
    };
    let mut push = |part: Part, shape: Vec<usize>, values: Cow<'a, [f32]>| {
        tensors.push(NamedTensor {
            name: part.key(path),
            shape,
            values,
        });
    };
    push(a_part, layer.a_shape(a.rows(), a.cols()), values_of(a));
    push(b_part, layer.b_shape(b.rows(), b.cols()), values_of(b));
    for (part, vector) in [(Part::Magnitude, magnitude), (Part::Bias, bias)] {
        if let Some(values) = vector {
            push(part, vec![values.len()], values);
        }
    }
}
