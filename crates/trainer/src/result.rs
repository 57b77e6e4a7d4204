//! What a finished training leaves behind: a plain PEFT adapter and its coefficients, or a model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use eigenmix_adapter::{
    Adapter, Labels, PeftConfig, Provenance, SaveOptions, Source, TargetModules,
};
use eigenmix_data::Targets;
use eigenmix_models::{Description, LinearLayer, Task};
use eigenmix_moslora::{ParameterValues, Update};
use eigenmix_tensors::{FileError, HostTensor};
use eigenmix_tensors::{write_directory, write_file};
use serde_json::{Value, json};

use crate::base_model::COMPANIONS;
use crate::checkpoint::write_values;
use crate::config::TrainConfig;
use crate::{BaseModel, TrainerError};

/// A trained adapter's ingredients.
pub(crate) struct Trained<'a> {
    pub config: &'a TrainConfig,
    pub base: &'a BaseModel,
    pub description: &'a Description,
    pub task: Task,
    pub updates: &'a BTreeMap<String, Update>,
    pub sources: &'a [Source],
    pub targets: Option<&'a Targets>,
    /// The trained values by name.
    pub values: &'a ParameterValues,
}

impl Trained<'_> {
    /// Writes `adapter/`, and `coefficients.safetensors` where the method has a basis, below `run`.
    /// Returns the bytes that have to be kept for this task: the coefficients, or the adapter.
    ///
    /// # Errors
    /// If something cannot be written.
    pub fn save(&self, run: &Path) -> Result<u64, TrainerError> {
        let adapter = self.adapter()?;
        let path = run.join("adapter");
        let provenance = Provenance {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            method: format!("train/{}", self.config.adapter.method.name()),
            sources: self.sources.to_vec(),
            options: json!(self.config.adapter),
        };
        adapter.save(
            &path,
            &SaveOptions {
                force: true,
                provenance: Some(provenance),
            },
        )?;
        let kept = match self.config.adapter.method.has_basis() {
            true => {
                let path = run.join("coefficients.safetensors");
                write_values(&path, self.values)?;
                path
            }
            false => path.join("adapter_model.safetensors"),
        };
        Ok(std::fs::metadata(&kept)
            .map_err(FileError::io("read", &kept))?
            .len())
    }

    fn adapter(&self) -> Result<Adapter, TrainerError> {
        let mut modules = BTreeMap::new();
        for (path, update) in self.updates {
            let update = update.clone().with_values(path, self.values)?;
            modules.insert(path.clone(), update.fold());
        }
        let heads: BTreeMap<String, HostTensor> = self
            .values
            .iter()
            // Factors of updates are named MODULE/FACTOR, tensors of the head as in the model.
            .filter(|(name, _)| !name.contains('/'))
            .map(|(name, value)| {
                let head = HostTensor {
                    shape: value.shape.clone(),
                    values: value.values.clone(),
                };
                (name.clone(), head)
            })
            .collect();
        let ranks: BTreeMap<String, usize> = modules
            .iter()
            .map(|(path, module)| (path.clone(), module.rank()))
            .collect();
        let rank = ranks.values().copied().max().unwrap_or(1);
        let (base_model, revision) = self.base.name_and_revision();
        let mut config = PeftConfig::lora(
            base_model,
            rank,
            TargetModules::Names(target_names(&modules, &self.all_layers())),
            &saved_modules(&heads, self.description),
            self.config.task.kind.peft_name(),
            &ranks,
        )?;
        if let Some(revision) = revision {
            config = config.with("revision", revision.into())?;
        }
        if self.has_transposed_weights(modules.keys()) {
            config = config.with("fan_in_fan_out", true.into())?;
        }
        Ok(Adapter {
            config,
            modules,
            heads,
            biases: BTreeMap::new(),
            labels: labels(self.targets),
            prompts: self.config.task.prompts()?,
        })
    }

    /// Every linear layer that PEFT will find in the base model: of CLIP, in both of its towers.
    fn all_layers(&self) -> Vec<LinearLayer> {
        let text = self.base.architecture.clip_text();
        let text = text.map(|text| text.describe().layers).unwrap_or_default();
        [&self.description.layers[..], &text].concat()
    }

    /// Whether the checkpoint stores the weights of these modules `[d_in, d_out]`.
    fn has_transposed_weights<'m>(&self, modules: impl Iterator<Item = &'m String>) -> bool {
        let mut layers = modules.filter_map(|path| self.description.layer(path));
        layers.any(|layer| layer.transposed)
    }

    /// The trained values as the checkpoint stores them.
    fn stored_values(&self) -> ParameterValues {
        let stored = |(name, value): (&String, &HostTensor)| {
            let layer = name
                .strip_suffix(".weight")
                .and_then(|path| self.description.layer(path))
                .filter(|layer| layer.transposed);
            let shape = self.base.checkpoint.shape(name);
            let value = match (layer, shape) {
                (Some(_), _) => value.transposed(),
                // Some tensors are kept in another shape than they are stored in.
                (None, Some(shape)) => HostTensor {
                    shape: shape.to_vec(),
                    values: value.values.clone(),
                },
                (None, None) => value.clone(),
            };
            (name.clone(), value)
        };
        self.values.iter().map(stored).collect()
    }

    /// What the head of a zero-shot training needs of the base model and did not train: the text
    /// tower and the scale, without which the checkpoint would be no CLIP.
    fn kept_values(&self) -> Result<ParameterValues, TrainerError> {
        let checkpoint = &self.base.checkpoint;
        let names = checkpoint.names().filter(|name| {
            // Positions are counted, not stored; old files have them as integers.
            !self.values.contains_key(*name) && !name.ends_with("position_ids")
        });
        let read = |name: &str| {
            let shape = checkpoint.shape(name).unwrap_or_default().to_vec();
            let values = checkpoint.read(name, &shape)?;
            Ok((name.to_owned(), HostTensor { shape, values }))
        };
        match self.task {
            Task::ZeroShot { .. } => names.map(read).collect(),
            _ => Ok(ParameterValues::new()),
        }
    }

    /// Writes `model/`, a checkpoint of the whole model, below `run`; returns its size in bytes.
    ///
    /// # Errors
    /// If something cannot be written.
    pub fn save_model(&self, run: &Path) -> Result<u64, TrainerError> {
        let path = run.join("model");
        let mut values = self.stored_values();
        values.extend(self.kept_values()?);
        write_directory(&path, true, |temporary| {
            write_values(&temporary.join("model.safetensors"), &values)?;
            let mut config = self.base.checkpoint.config().clone();
            if let (Value::Object(config), Some(labels)) = (&mut config, labels(self.targets)) {
                let names = labels.0.iter().enumerate();
                let by_index: serde_json::Map<String, Value> = names
                    .clone()
                    .map(|(index, name)| (index.to_string(), json!(name)))
                    .collect();
                let by_name: serde_json::Map<String, Value> = names
                    .map(|(index, name)| (name.clone(), json!(index)))
                    .collect();
                config.insert("id2label".into(), Value::Object(by_index));
                config.insert("label2id".into(), Value::Object(by_name));
            }
            let text = format!("{config:#}\n");
            write_file(&temporary.join("config.json"), text.as_bytes())?;
            for name in COMPANIONS {
                let from = self.base.directory().join(name);
                if from.is_file() {
                    std::fs::copy(&from, temporary.join(name))
                        .map_err(FileError::io("copy", &from))?;
                }
            }
            Ok::<_, TrainerError>(())
        })?;
        let weights = path.join("model.safetensors");
        Ok(std::fs::metadata(&weights)
            .map_err(FileError::io("read", &weights))?
            .len())
    }
}

fn labels(targets: Option<&Targets>) -> Option<Labels> {
    match targets {
        Some(Targets::Classes(map)) => Some(Labels(map.names().to_vec())),
        Some(Targets::Regression) | None => None,
    }
}

/// The short names that select exactly the adapted modules (`query`, `value`), or else their paths.
fn target_names(
    modules: &BTreeMap<String, eigenmix_adapter::LoraModule>,
    layers: &[LinearLayer],
) -> Vec<String> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or(path).to_owned();
    let short: BTreeSet<String> = modules.keys().map(|path| last(path)).collect();
    let selected = layers
        .iter()
        .filter(|layer| short.contains(&last(&layer.path)));
    match selected.count() == modules.len() {
        true => short.into_iter().collect(),
        false => modules.keys().cloned().collect(),
    }
}

/// `modules_to_save`: the family's head modules, and whatever else was trained whole.
fn saved_modules(heads: &BTreeMap<String, HostTensor>, description: &Description) -> Vec<String> {
    let mut modules = BTreeSet::new();
    for name in heads.keys() {
        let path = name
            .rsplit_once('.')
            .map_or(name.as_str(), |(path, _)| path);
        let known = description
            .head_modules
            .iter()
            .find(|head| path == **head || path.starts_with(&format!("{head}.")));
        modules.insert(known.map_or_else(|| path.to_owned(), |head| (*head).to_owned()));
    }
    modules.into_iter().collect()
}
