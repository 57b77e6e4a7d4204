//! The result of a finished training: a plain PEFT adapter and its coefficients, or a model.

use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_adapter::{Adapter, Companion, Provenance, SaveOptions, Source};
use eigenmix_data::InputContract;
use eigenmix_models::{Description, HeadKind, Precision};
use eigenmix_moslora::{ParameterKind, ParameterNames, TrainedValues, Update};
use eigenmix_tensors::{FileError, HostTensor};
use eigenmix_tensors::{write_directory, write_file};
use serde_json::{Value, json};

use super::composition_weights::CompositionWeights;
use super::plain_adapter::{labels, plain_adapter};
use super::training_data::TrainingData;
use super::truncated_result::TruncatedResult;
use crate::adapter_config::AdapterConfig;
use crate::base_model::COMPANIONS;
use crate::checkpoint::write_values;
use crate::config::TrainConfig;
use crate::problem_type::set_problem_type;
use crate::run::Run;
use crate::{BaseModel, TrainerError};

/// A trained adapter's ingredients.
pub(crate) struct Trained<'a> {
    pub config: &'a TrainConfig,
    /// The options of the adapter, where some come from the one that the training goes on from.
    pub settled: &'a AdapterConfig,
    pub base: &'a BaseModel,
    pub description: &'a Description,
    pub head: HeadKind,
    pub updates: &'a BTreeMap<String, Update>,
    /// The weights of a composition.
    pub weights: Option<CompositionWeights>,
    /// A composition at a smaller rank.
    pub truncated: Option<&'a TruncatedResult>,
    /// The adapters that went into it.
    pub sources: Vec<Source>,
    pub data: &'a TrainingData,
    /// What each of the values is.
    pub names: &'a ParameterNames,
    /// The trained values by name.
    pub values: &'a TrainedValues,
}

impl Trained<'_> {
    /// Writes `adapter/`, and `coefficients.safetensors` where the method is on other adapters, below `run`.
    /// Returns the bytes to keep for this task: those of the coefficients or of the adapter.
    ///
    /// # Errors
    /// If something cannot be written.
    pub fn save(&self, run: &Path) -> Result<u64, TrainerError> {
        let adapter = self.adapter()?;
        let path = run.join(Run::ADAPTER);
        adapter.save(
            &path,
            &SaveOptions {
                force: true,
                provenance: Some(self.provenance()),
                companions: companions(self.base, self.data)?,
            },
        )?;
        let whole = path.join("adapter_model.safetensors");
        let adapter = &self.config.adapter;
        let kept = match adapter.method.is_on_adapters() {
            true => {
                let path = run.join(Run::COEFFICIENTS);
                write_values(&path, self.values)?;
                // A basis with the gradient of this task is of no use to another.
                match adapter.gradient_config() {
                    Some(_) => whole,
                    None => path,
                }
            }
            false => whole,
        };
        Ok(std::fs::metadata(&kept)
            .map_err(FileError::io("read", &kept))?
            .len())
    }

    fn provenance(&self) -> Provenance {
        let mut options = json!(self.settled);
        if let Some(weights) = &self.weights {
            options["found_weights"] = json!(weights);
        }
        if let Some(truncated) = self.truncated {
            options["kept_by_truncation"] = json!(truncated.kept());
        }
        let is_quantised = self.base.checkpoint.is_quantised();
        if let Some(weights) = quantised_weights(is_quantised, self.config.base.weights) {
            options["base_weights"] = json!(weights);
        }
        Provenance {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            method: format!("train/{}", self.config.adapter.method.name()),
            sources: self.sources.clone(),
            options,
            input: Some(json!(self.data.input)),
        }
    }

    fn adapter(&self) -> Result<Adapter, TrainerError> {
        let mut modules = BTreeMap::new();
        for (path, update) in self.updates {
            let update = update.clone().with_values(path, self.values)?;
            let truncated = self.truncated.and_then(|result| result.modules.get(path));
            modules.insert(
                path.clone(),
                truncated.cloned().unwrap_or_else(|| update.fold()),
            );
        }
        let heads = head_tensors(self.values, self.names);
        plain_adapter(
            self.config,
            self.base,
            self.description,
            self.data,
            modules,
            heads,
            &self.settled.modules_to_save,
        )
    }

    /// The trained values as the checkpoint stores and names them.
    fn stored_values(&self) -> TrainedValues {
        let stored = |(name, value): (&String, &HostTensor)| {
            let layer = name
                .strip_suffix(".weight")
                .and_then(|path| self.description.layer(path))
                .filter(|layer| layer.transposed);
            let shape = self.base.checkpoint.shape(name);
            let value = match (layer, shape.or(self.names.stored_shape(name))) {
                (Some(_), _) => value.transposed(),
                (None, Some(shape)) => in_shape(value, shape),
                (None, None) => value.clone(),
            };
            (self.base.checkpoint.name_in_files(name).to_owned(), value)
        };
        self.values.iter().map(stored).collect()
    }

    /// The parts of the base model that were not built, and without which the checkpoint would not be
    /// what it was: the text tower and the scale of a zero-shot CLIP, what a tower has above its features.
    ///
    /// - trained: what is written besides
    fn kept_values(&self, trained: &TrainedValues) -> Result<TrainedValues, TrainerError> {
        let checkpoint = &self.base.checkpoint;
        let names = checkpoint.names().filter(|name| {
            // Position ids are computed, not stored; old files contain them as integers.
            !trained.contains_key(checkpoint.name_in_files(name)) && !name.ends_with("position_ids")
        });
        let read = |name: &str| {
            let shape = checkpoint.shape(name).unwrap_or_default().to_vec();
            let values = checkpoint.read(name, &shape)?;
            let name = checkpoint.name_in_files(name).to_owned();
            Ok((name, HostTensor { shape, values }))
        };
        match self.head {
            HeadKind::ZeroShot { .. } => names.map(read).collect(),
            _ if self.base.architecture.image_tokens().is_some() => names.map(read).collect(),
            _ => Ok(TrainedValues::new()),
        }
    }

    /// Writes `model/`, a checkpoint of the whole model, below `run`; returns its size in bytes.
    ///
    /// # Errors
    /// If something cannot be written.
    pub fn save_model(&self, run: &Path) -> Result<u64, TrainerError> {
        let path = run.join(Run::MODEL);
        let mut values = self.stored_values();
        let kept = self.kept_values(&values)?;
        values.extend(kept);
        write_directory(&path, true, |temporary| {
            write_values(&temporary.join("model.safetensors"), &values)?;
            let mut config = self.base.checkpoint.config().clone();
            if let (Value::Object(config), Some(labels)) =
                (&mut config, labels(self.data.targets.as_ref()))
            {
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
            if let (Value::Object(config), Some(targets)) = (&mut config, &self.data.targets) {
                set_problem_type(config, targets.kind());
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
            for companion in companions(self.base, self.data)? {
                write_file(&temporary.join(&companion.name), &companion.content)?;
            }
            let provenance = self.provenance();
            let path = temporary.join(Provenance::FILE_NAME);
            write_file(&path, format!("{:#}\n", json!(provenance)).as_bytes())?;
            Ok::<_, TrainerError>(())
        })?;
        let weights = path.join("model.safetensors");
        Ok(std::fs::metadata(&weights)
            .map_err(FileError::io("read", &weights))?
            .len())
    }
}

/// In what form the frozen weights had fewer bits, if they had: a merge into others has to say so. It is the
/// name of a precision, "stored" where the checkpoint is quantised already, which the precision leaves so.
fn quantised_weights(is_quantised: bool, precision: Precision) -> Option<&'static str> {
    let form = match is_quantised {
        true => Precision::Stored,
        false => Some(precision).filter(|precision| precision.quantises())?,
    };
    let mut names = Precision::NAMES.into_iter();
    names.find_map(|(name, named)| (named == form).then_some(name))
}

/// The tokenizer and the chat template of a training.
///
/// # Errors
/// If a file cannot be read.
pub(super) fn companions(
    base: &BaseModel,
    data: &TrainingData,
) -> Result<Vec<Companion>, TrainerError> {
    if data.tokenizer.is_none() {
        return Ok(Vec::new());
    }
    let mut files = base.text_files()?;
    if let Some(template) = &data.chat_template {
        files.retain(|file| file.name != InputContract::CHAT_TEMPLATE);
        files.push(Companion {
            name: InputContract::CHAT_TEMPLATE.to_owned(),
            content: template.as_bytes().to_vec(),
        });
    }
    Ok(files)
}

/// The trained tensors other than factors of updates.
pub(super) fn head_tensors(
    values: &TrainedValues,
    names: &ParameterNames,
) -> BTreeMap<String, HostTensor> {
    let tensors = values
        .iter()
        .filter(|(name, _)| names.kind(name) != Some(ParameterKind::Factor));
    tensors
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// A value in its shape in the checkpoint, since some tensors are kept in another one. The head of
/// a new task has other sizes than the one that it replaces, and keeps its own shape.
fn in_shape(value: &HostTensor, shape: &[usize]) -> HostTensor {
    match shape.iter().product::<usize>() == value.values.len() {
        true => HostTensor {
            shape: shape.to_vec(),
            values: value.values.clone(),
        },
        false => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use burn::module::ParamId;

    use super::*;

    #[test]
    fn a_tensor_of_the_head_is_kept_under_any_name() {
        let mut names = ParameterNames::default();
        names.insert(ParamId::new(), "classifier/main.weight".to_owned());
        names.insert_factor(ParamId::new(), "layers.0.query/mixer".to_owned());
        let value = |values: &[f32]| HostTensor {
            shape: vec![values.len()],
            values: values.to_vec(),
        };
        let values = TrainedValues::from([
            ("classifier/main.weight".to_owned(), value(&[1.0, 2.0])),
            ("layers.0.query/mixer".to_owned(), value(&[3.0])),
        ]);
        let heads = head_tensors(&values, &names);
        assert_eq!(heads.keys().collect::<Vec<_>>(), ["classifier/main.weight"]);
        assert_eq!(heads["classifier/main.weight"].values, [1.0, 2.0]);
    }

    #[test]
    fn a_base_that_is_quantised_already_is_never_said_to_be_quantised_anew() {
        for (precision, of_plain) in [
            (Precision::Auto, None),
            (Precision::Float32, None),
            (Precision::Stored, None),
            (Precision::Nf4, Some("nf4")),
            (Precision::Int8, Some("int8")),
        ] {
            assert_eq!(quantised_weights(false, precision), of_plain);
            assert_eq!(quantised_weights(true, precision), Some("stored"));
        }
    }

    #[test]
    fn a_head_that_replaces_one_of_other_labels_keeps_its_own_size() {
        let value = HostTensor {
            shape: vec![1, 1, 2],
            values: vec![1.0, 2.0],
        };
        assert_eq!(in_shape(&value, &[2]).shape, [2]);
        let found = in_shape(&value, &[3]);
        assert_eq!(found, value);
    }
}
