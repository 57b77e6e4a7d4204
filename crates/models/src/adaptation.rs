//! What is placed on top of a frozen base model, and how an adapter's modules match it.

use eigenmix_tensors::HostTensor;
use std::collections::{BTreeMap, BTreeSet};

use eigenmix_adapter::{Adapter, LayerKind, LoraModule, is_token_table, table_of_rows};
use eigenmix_moslora::Update;

use crate::trained_tables::updated;
use crate::{AdaptedTables, Checkpoint, Description, ModelError};

/// Updates, replaced tensors and DoRA magnitudes for one base model, by the base model's own paths.
#[derive(Clone, Debug, Default)]
pub struct Adaptation {
    /// The low-rank update of each adapted linear layer.
    pub updates: BTreeMap<String, Update>,
    /// DoRA magnitudes `[d_out]`.
    pub magnitudes: BTreeMap<String, Vec<f32>>,
    /// What `lora_bias` adds to the layer's bias: `[d_out]`.
    pub bias_shifts: BTreeMap<String, Vec<f32>>,
    /// Tensors that take the place of the base model's, with or without the model's prefix in their
    /// names: heads, trained biases and norms, tables of tokens, any module that was trained whole.
    pub tensors: BTreeMap<String, HostTensor>,
    /// Modules of the base model that are trained whole where anything is trained, as `modules_to_save`
    /// names them.
    pub saved: Vec<String>,
}

/// How an adapter's content matched a base model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Modules of the adapter that the base model has.
    pub matched: Vec<String>,
    /// Modules that the adapter's configuration targets, and that its file lacks.
    pub missing: Vec<String>,
    /// Modules and tensors of the adapter that match nothing in the base model.
    pub unexpected: Vec<String>,
    /// Matched modules whose update is zero.
    pub no_effect: Vec<String>,
    /// Tensors of the head that the adapter brings.
    pub heads: Vec<String>,
    /// Other tensors that it brings in their trained state: biases, norms, tables, whole layers.
    pub whole: Vec<String>,
}

impl Adaptation {
    /// Matches `adapter` with the model that `description` describes.
    ///
    /// - tables: what becomes of the model's tables with the adapter; the description is of a model
    ///   that has them
    /// - checkpoint: the base model's; read where an update is added to a weight at once
    ///
    /// # Errors
    /// If a module of the adapter has another shape than the base model's layer.
    pub fn from_adapter(
        adapter: &Adapter,
        description: &Description,
        tables: AdaptedTables,
        checkpoint: &Checkpoint,
    ) -> Result<(Self, LoadReport), ModelError> {
        let mut adaptation = Self {
            tensors: tables.tensors,
            ..Self::default()
        };
        let mut report = LoadReport {
            whole: tables.names.iter().cloned().collect(),
            ..LoadReport::default()
        };
        let mut present = BTreeSet::new();
        let base = Base {
            checkpoint,
            prefix: description.prefix,
        };
        for (path, module) in &adapter.modules {
            let layer = description.layer(path);
            let is_placed = tables.paths.contains(path);
            if layer.is_none() && !is_placed {
                let name = format!("{path}.weight");
                let Some(weight) = base.updated(path, module, adapter.heads.get(&name))? else {
                    report.unexpected.push(path.clone());
                    continue;
                };
                adaptation.tensors.insert(name, weight);
            }
            if module.has_no_effect() {
                report.no_effect.push(path.clone());
            }
            report.matched.push(path.clone());
            let Some(layer) = layer else { continue };
            present.insert(layer.path.as_str());
            if let Some(bias) = &module.bias {
                let shift = bias.iter().map(|value| value * module.scaling).collect();
                adaptation.bias_shifts.insert(layer.path.clone(), shift);
            }
            if is_placed {
                continue;
            }
            let (expected, found) = ([layer.d_out, layer.d_in], [module.d_out(), module.d_in()]);
            if expected != found {
                return Err(ModelError::UpdateShape {
                    module: path.clone(),
                    expected,
                    found,
                });
            }
            adaptation
                .updates
                .insert(layer.path.clone(), Update::from_lora(module));
            if let Some(magnitude) = &module.magnitude {
                adaptation
                    .magnitudes
                    .insert(layer.path.clone(), magnitude.clone());
            }
        }
        report.missing = description
            .layers
            .iter()
            .filter(|layer| !present.contains(layer.path.as_str()))
            .filter(|layer| adapter.config.targets(&layer.path, layer.head))
            // A module that is saved whole is not adapted, whatever its name matches.
            .filter(|layer| {
                !adapter
                    .heads
                    .contains_key(&format!("{}.weight", layer.path))
            })
            .map(|layer| layer.path.clone())
            .collect();
        let is_of_head = |name: &str| {
            let mut known = description.head_tensors.iter();
            known.any(|(known, _)| known == name)
        };
        let whole = adapter.heads.iter().chain(&adapter.biases);
        for (name, tensor) in whole.filter(|(name, _)| !tables.names.contains(*name)) {
            if is_of_head(name) && adapter.heads.contains_key(name) {
                report.heads.push(name.clone());
            } else if base.has(name) {
                report.whole.push(name.clone());
            } else {
                report.unexpected.push(name.clone());
                continue;
            }
            // One that is here already has an update on top of this one.
            let tensor = || tensor.clone();
            adaptation
                .tensors
                .entry(name.clone())
                .or_insert_with(tensor);
        }
        Ok((adaptation, report))
    }
}

/// The checkpoint of a model, with or without the prefix in its names.
struct Base<'a> {
    checkpoint: &'a Checkpoint,
    prefix: &'static str,
}

impl Base<'_> {
    /// The name in the checkpoint of a tensor of an adapter.
    fn find(&self, name: &str) -> Option<String> {
        let prefixed = format!("{}.{name}", self.prefix);
        let find = |name: &str| self.checkpoint.find(name, self.prefix).map(str::to_owned);
        // Checkpoints converted from TensorFlow say gamma and beta.
        let older = |name: &str| {
            let endings = [(".weight", ".gamma"), (".bias", ".beta")];
            endings.iter().find_map(|(newer, older)| {
                let path = name.strip_suffix(newer)?;
                find(&format!("{path}{older}"))
            })
        };
        let names = [name, &prefixed];
        let found = names.into_iter().find_map(find);
        found.or_else(|| names.into_iter().find_map(older))
    }

    fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// W₀ + ΔW of a module that is no linear layer: a table of positions, a convolution; `None` if the
    /// checkpoint has no such module.
    ///
    /// - below: W₀, if the adapter brings it along
    fn updated(
        &self,
        path: &str,
        module: &LoraModule,
        below: Option<&HostTensor>,
    ) -> Result<Option<HostTensor>, ModelError> {
        let Some(name) = self.find(&format!("{path}.weight")) else {
            return Ok(None);
        };
        // Its bias has no place: such a layer is built with the base model's own.
        if module.layer == LayerKind::Linear || module.bias.is_some() {
            return Ok(None);
        }
        let shape = module.layer.weight_shape(module.d_out(), module.d_in());
        let values = match below {
            Some(below) if below.shape == shape => below.values.clone(),
            Some(below) => {
                return Err(ModelError::WholeShape {
                    name,
                    expected: shape,
                    found: below.shape.clone(),
                });
            }
            None => self.checkpoint.read(&name, &shape)?,
        };
        Ok(Some(HostTensor::new(shape, updated(values, module))))
    }
}

impl LoadReport {
    /// Adds how another part of the adapter matched another part of the base model.
    pub fn extend(&mut self, other: Self) {
        self.matched.extend(other.matched);
        self.missing.extend(other.missing);
        self.unexpected.extend(other.unexpected);
        self.no_effect.extend(other.no_effect);
        self.heads.extend(other.heads);
        self.whole.extend(other.whole);
    }

    /// Takes note of tensors that the adapter brings and the model that was built does not read, and
    /// refuses them unless `allow_partial`.
    ///
    /// - names: those of [`crate::Loaded::unplaced`]
    ///
    /// # Errors
    /// If there are any.
    pub fn leave_out(&mut self, names: &[String], allow_partial: bool) -> Result<(), ModelError> {
        let is_left_out = |path: &String, tensor: &str| names.contains(&format!("{path}{tensor}"));
        self.matched.retain(|path| !is_left_out(path, ".weight"));
        for brought in [&mut self.heads, &mut self.whole] {
            brought.retain(|name| !is_left_out(name, ""));
        }
        self.unexpected.extend_from_slice(names);
        match names.first() {
            Some(example) if !allow_partial => Err(ModelError::NoPlace {
                count: names.len(),
                example: example.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Refuses an adapter that would silently do less than its author meant.
    ///
    /// # Errors
    /// If no module matched, or, unless `allow_partial`, if anything is missing or unexpected.
    pub fn ensure_complete(
        &self,
        description: &Description,
        allow_partial: bool,
    ) -> Result<(), ModelError> {
        let first = |paths: &[String]| paths.first().cloned().unwrap_or_default();
        if self.matched.is_empty() {
            return Err(ModelError::NothingMatches {
                example: first(&self.unexpected),
                known: description
                    .layers
                    .first()
                    .map_or("", |layer| &layer.path)
                    .to_owned(),
            });
        }
        self.ensure_expected(allow_partial)?;
        if !self.missing.is_empty() && !allow_partial {
            return Err(ModelError::Missing {
                count: self.missing.len(),
                example: first(&self.missing),
            });
        }
        Ok(())
    }

    /// Refuses what has no place in the base model, unless `allow_partial`.
    ///
    /// # Errors
    /// If there is any.
    pub fn ensure_expected(&self, allow_partial: bool) -> Result<(), ModelError> {
        let all_are_whole = self.unexpected.iter().all(|name| is_trained_whole(name));
        match self.unexpected.first() {
            Some(example) if !allow_partial && all_are_whole => Err(ModelError::NoPlace {
                count: self.unexpected.len(),
                example: example.clone(),
            }),
            Some(example) if !allow_partial => Err(ModelError::Unexpected {
                count: self.unexpected.len(),
                example: example.clone(),
            }),
            _ => Ok(()),
        }
    }
}

/// Whether a name is that of a trained bias, a table of tokens or an output layer: what a base model has
/// outside the layers that an adapter can be placed on.
fn is_trained_whole(name: &str) -> bool {
    name.ends_with(".bias") || is_token_table(name) || table_of_rows(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(unexpected: &[&str]) -> String {
        let report = LoadReport {
            unexpected: unexpected.iter().map(|name| (*name).to_owned()).collect(),
            ..LoadReport::default()
        };
        let error = report.ensure_expected(false).expect_err("a refusal");
        error.to_string()
    }

    #[test]
    fn what_the_running_model_has_no_place_for_may_have_one_in_a_merged_checkpoint() {
        for name in [
            "h.0.ln_1.bias",
            "model.embed_tokens.weight",
            "lm_head",
            "wte.token_adapter.trainable_tokens_delta",
        ] {
            let message = refusal(&[name]);
            assert!(message.contains("--merge-into-base"), "{message}");
            assert!(!message.contains("another base model"), "{message}");
        }
        let message = refusal(&["h.0.ln_1.bias", "h.0.other.weight"]);
        assert!(message.contains("another base model"), "{message}");
    }
}
