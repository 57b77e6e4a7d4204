//! What is placed on top of a frozen base model, and how an adapter's modules match it.

use eigenmix_tensors::HostTensor;
use std::collections::{BTreeMap, BTreeSet};

use eigenmix_adapter::{Adapter, is_token_table, table_of_rows};
use eigenmix_moslora::Update;

use crate::{Description, ModelError};

/// Updates, replaced tensors and DoRA magnitudes for one base model, by the base model's own paths.
#[derive(Clone, Debug, Default)]
pub struct Adaptation {
    /// The low-rank update of each adapted linear layer.
    pub updates: BTreeMap<String, Update>,
    /// DoRA magnitudes `[d_out]`.
    pub magnitudes: BTreeMap<String, Vec<f32>>,
    /// What `lora_bias` adds to the layer's bias: `[d_out]`.
    pub bias_shifts: BTreeMap<String, Vec<f32>>,
    /// Tensors that take the place of the base model's: heads and trained biases.
    pub tensors: BTreeMap<String, HostTensor>,
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
}

impl Adaptation {
    /// Matches `adapter` with the model that `description` describes.
    ///
    /// # Errors
    /// If a module of the adapter has another shape than the base model's layer.
    pub fn from_adapter(
        adapter: &Adapter,
        description: &Description,
    ) -> Result<(Self, LoadReport), ModelError> {
        let mut adaptation = Self::default();
        let mut report = LoadReport::default();
        let mut present = BTreeSet::new();
        for (path, module) in &adapter.modules {
            let Some(layer) = description.layer(path) else {
                report.unexpected.push(path.clone());
                continue;
            };
            let (expected, found) = ([layer.d_out, layer.d_in], [module.d_out(), module.d_in()]);
            if expected != found {
                return Err(ModelError::UpdateShape {
                    module: path.clone(),
                    expected,
                    found,
                });
            }
            if module.has_no_effect() {
                report.no_effect.push(path.clone());
            }
            report.matched.push(path.clone());
            present.insert(layer.path.as_str());
            adaptation
                .updates
                .insert(layer.path.clone(), Update::from_lora(module));
            if let Some(magnitude) = &module.magnitude {
                adaptation
                    .magnitudes
                    .insert(layer.path.clone(), magnitude.clone());
            }
            if let Some(bias) = &module.bias {
                let shift = bias.iter().map(|value| value * module.scaling).collect();
                adaptation.bias_shifts.insert(layer.path.clone(), shift);
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
        for (name, tensor) in &adapter.heads {
            if description
                .head_tensors
                .iter()
                .any(|(known, _)| known == name)
            {
                report.heads.push(name.clone());
                adaptation.tensors.insert(name.clone(), tensor.clone());
            } else {
                report.unexpected.push(name.clone());
            }
        }
        for (name, tensor) in &adapter.biases {
            match name
                .strip_suffix(".bias")
                .and_then(|path| description.layer(path))
            {
                Some(layer) => {
                    let name = format!("{}.bias", layer.path);
                    adaptation.tensors.insert(name, tensor.clone());
                }
                None => report.unexpected.push(name.clone()),
            }
        }
        Ok((adaptation, report))
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
            Some(example) if !allow_partial && all_are_whole => Err(ModelError::OnlyWhenMerged {
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
    fn what_only_a_merged_model_has_a_place_for_is_sent_there() {
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
