//! Zero-shot classification with CLIP: the text features of prompts are the head.

use eigenmix_tensors::HostTensor;
use std::collections::BTreeMap;

use burn::tensor::Device;
use eigenmix_adapter::{Adapter, Labels, Prompts};
use eigenmix_data::{Encoding, LabelMap};
use eigenmix_models::{Adaptation, ClipText, ClipTextConfig, TEXT_FEATURES, TokenBatch};

use super::task_head::TaskHead;
use crate::host_values::host_values;
use crate::{BaseModel, TrainerError};

/// How many texts go through the text tower at once.
const BATCH: usize = 64;

/// Labels and their tokenised prompts.
pub struct ZeroShot {
    labels: Vec<String>,
    /// The texts, label by label: `[labels · prompts]`.
    texts: Vec<Encoding>,
    prompts: usize,
}

impl ZeroShot {
    /// Tokenises `prompts` for `labels`.
    ///
    /// # Errors
    /// If the base model has no text tower or no tokenizer for it, or a text is too long for it.
    pub fn new(
        base: &BaseModel,
        prompts: &Prompts,
        labels: &LabelMap,
    ) -> Result<Self, TrainerError> {
        let limit = text_tower(base)?.max_positions;
        let tokenizer = base.tokenizer()?;
        let mut texts = Vec::new();
        for text in labels.names().iter().flat_map(|label| prompts.of(label)) {
            let encoding = tokenizer.encode(&text, None, limit)?;
            if encoding.truncated {
                return Err(TrainerError::LongPrompt { text, limit });
            }
            texts.push(encoding);
        }
        Ok(Self {
            labels: labels.names().to_vec(),
            texts,
            prompts: prompts.templates().len(),
        })
    }

    /// The prompts and labels of an adapter that was trained below a zero-shot head; `None` for
    /// others.
    ///
    /// # Errors
    /// As [`ZeroShot::new`], and if it has no labels.
    pub fn of_adapter(base: &BaseModel, adapter: &Adapter) -> Result<Option<Self>, TrainerError> {
        let Some(prompts) = &adapter.prompts else {
            return Ok(None);
        };
        let Some(labels) = &adapter.labels else {
            return Err(TrainerError::PromptsWithoutLabels);
        };
        let labels = LabelMap::from_names(labels.0.clone())?;
        Self::new(base, prompts, &labels).map(Some)
    }

    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The head: for each label the mean of its texts' normalised features, normalised again (the
    /// prompt ensembling of arXiv 2103.00020, section 3.1.4).
    ///
    /// - adapter: one that may adapt the text tower
    ///
    /// # Errors
    /// If the base model has no text tower, or a tensor of it is missing, or the adapter does not
    /// fit it.
    pub fn head(
        &self,
        base: &BaseModel,
        adapter: Option<&Adapter>,
        device: &Device,
    ) -> Result<TaskHead, TrainerError> {
        let config = text_tower(base)?;
        let adapted = adapter.map(|adapter| config.adaptation(adapter, &base.checkpoint));
        let adaptation = match adapted.transpose()?.flatten() {
            Some((adaptation, _)) => adaptation,
            None => Adaptation::default(),
        };
        let device = device.clone().inner();
        let tower = ClipText::load(&base.checkpoint, config, &adaptation, &device)?;
        let mut features = Vec::new();
        for texts in self.texts.chunks(BATCH) {
            let sequences = texts.iter().map(|text| (&text.ids[..], &text.type_ids[..]));
            let batch = TokenBatch::from_sequences(sequences);
            features.extend(host_values(tower.features(&batch, &device)));
        }
        let width = config.projection_dim.unwrap_or_else(|| config.width());
        let values = features
            .chunks(self.prompts * width)
            .flat_map(|of_label| ensemble(of_label, width));
        let tensor = HostTensor {
            shape: vec![self.labels.len(), width],
            values: values.collect(),
        };
        Ok(TaskHead {
            tensors: BTreeMap::from([(TEXT_FEATURES.to_owned(), tensor)]),
            labels: Some(Labels(self.labels.clone())),
        })
    }
}

fn text_tower(base: &BaseModel) -> Result<&ClipTextConfig, TrainerError> {
    let tower = base.architecture.clip_text();
    tower.ok_or_else(|| TrainerError::NoTextTower {
        model: base.name.clone(),
    })
}

/// Σ xᵢ / ‖xᵢ‖, normalised to length 1.
///
/// - features: `[texts, width]`
fn ensemble(features: &[f32], width: usize) -> Vec<f32> {
    let mut sum = vec![0.0; width];
    for feature in features.chunks(width) {
        let feature: Vec<f64> = feature.iter().map(|&number| f64::from(number)).collect();
        for (sum, number) in sum.iter_mut().zip(unit(&feature)) {
            *sum += number;
        }
    }
    unit(&sum).map(|number| number as f32).collect()
}

fn unit(vector: &[f64]) -> impl Iterator<Item = f64> {
    let length = vector.iter().map(|number| number.powi(2)).sum::<f64>();
    let length = length.sqrt();
    vector.iter().map(move |number| number / length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_of_a_label_counts_the_same_however_long_its_features_are() {
        // (3, 4) and (0, 0.1) point to (0.6, 0.8) and (0, 1): (0.6, 1.8) has the length √3.6.
        let found = ensemble(&[3.0, 4.0, 0.0, 0.1], 2);
        for (found, expected) in found.iter().zip([0.6, 1.8]) {
            assert!((f64::from(*found) - expected / 3.6f64.sqrt()).abs() < 1e-7);
        }
    }
}
