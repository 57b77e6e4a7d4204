//! A classifier ready for use: base model, adapter, head and labels.

use std::num::NonZeroUsize;

use burn::tensor::Device;
use eigenmix_adapter::{Adapter, AdapterFile};
use eigenmix_data::metrics::{Metric, Predictions, evaluate, predicted_classes};
use eigenmix_data::{BatchPlan, EncodedTargets, LabelMap, Targets};
use eigenmix_models::{Batch, LoadReport, Network};

use crate::inputs::Inputs;
use crate::loaded_model::{LoadedModel, host};
use crate::task_head::TaskHead;
use crate::{BaseModel, TrainerError};

/// A model that gives logits of labels.
pub struct Classifier {
    network: Network,
    device: Device,
    outputs: usize,
    /// What each output stands for, where it is known.
    pub labels: Option<LabelMap>,
    /// How the adapter matched the base model; `None` without an adapter.
    pub report: Option<LoadReport>,
}

impl Classifier {
    /// Loads `base` with `adapter` on top.
    ///
    /// # Errors
    /// If the adapter does not fit the base model (or, unless `allow_partial`, not wholly), or
    /// neither has a head of a classifier.
    pub fn load(
        base: &BaseModel,
        adapter: Option<&AdapterFile>,
        allow_partial: bool,
        device: &Device,
    ) -> Result<Self, TrainerError> {
        Self::from_model(LoadedModel::load(base, adapter, allow_partial, device)?)
    }

    /// Places `adapter` on `base`, and `head` on top instead of its own.
    ///
    /// # Errors
    /// As [`LoadedModel::assemble`], and if there is no head of a classifier.
    pub fn assemble(
        base: &BaseModel,
        adapter: Option<&Adapter>,
        head: Option<&TaskHead>,
        allow_partial: bool,
        device: &Device,
    ) -> Result<Self, TrainerError> {
        Self::from_model(LoadedModel::assemble(
            base,
            adapter,
            head,
            allow_partial,
            device,
        )?)
    }

    /// The classifier that a loaded model is.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_model(model: LoadedModel) -> Result<Self, TrainerError> {
        let outputs = model.task.labels().ok_or(TrainerError::NoHead)?;
        Ok(Self {
            network: model.network,
            device: model.device,
            outputs,
            labels: model.labels,
            report: model.report,
        })
    }

    /// How many logits an example gets.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// What the labels of data are for this model.
    ///
    /// # Errors
    /// If it has several outputs and nobody says what they stand for.
    pub fn targets(&self) -> Result<Targets, TrainerError> {
        match (&self.labels, self.outputs) {
            (Some(labels), _) => Ok(Targets::Classes(labels.clone())),
            (None, 1) => Ok(Targets::Regression),
            (None, _) => Err(TrainerError::NoHead),
        }
    }

    /// - output: `[examples, outputs]`, row-major
    pub fn logits(&self, batch: &Batch) -> Vec<f32> {
        host(self.network.forward(batch, &self.device))
    }

    /// The logits of all examples, in their order: `[examples, outputs]`.
    ///
    /// # Errors
    /// If an image can't be read.
    pub fn all_logits(
        &self,
        inputs: &Inputs,
        batch_size: NonZeroUsize,
        progress: &dyn Fn(usize),
    ) -> Result<Vec<f32>, TrainerError> {
        all_logits(&self.network, inputs, batch_size, &self.device, progress)
    }
}

/// Evaluates batches of similar length and puts the logits back in the order of the examples:
/// `[examples, outputs]`.
pub(crate) fn all_logits(
    model: &Network,
    inputs: &Inputs,
    batch_size: NonZeroUsize,
    device: &Device,
    progress: &dyn Fn(usize),
) -> Result<Vec<f32>, TrainerError> {
    let lengths = inputs.lengths();
    let mut logits = Vec::new();
    for examples in BatchPlan::evaluation(&lengths, batch_size).batches() {
        let found = host(model.forward(&inputs.batch(examples, None)?, device));
        let outputs = found.len() / examples.len();
        logits.resize(inputs.len() * outputs, 0.0);
        for (row, &example) in examples.iter().enumerate() {
            logits[example * outputs..][..outputs]
                .copy_from_slice(&found[row * outputs..][..outputs]);
        }
        progress(examples.len());
    }
    Ok(logits)
}

/// The metrics of logits `[examples, outputs]` against targets.
///
/// # Errors
/// If a metric does not go with the task.
pub fn figures(
    metrics: &[Metric],
    logits: &[f32],
    outputs: usize,
    targets: &EncodedTargets,
) -> Result<std::collections::BTreeMap<String, f64>, TrainerError> {
    Ok(match targets {
        EncodedTargets::Classes(expected) => {
            let predicted = predicted_classes(logits, outputs);
            evaluate(
                metrics,
                Predictions::Classes {
                    predicted: &predicted,
                    expected,
                    classes: outputs,
                },
            )?
        }
        EncodedTargets::Values(expected) => {
            let predicted: Vec<f64> = logits.iter().map(|&logit| f64::from(logit)).collect();
            evaluate(
                metrics,
                Predictions::Values {
                    predicted: &predicted,
                    expected,
                },
            )?
        }
    })
}
