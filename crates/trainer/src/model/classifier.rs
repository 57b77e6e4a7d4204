//! A classifier ready for use: base model, adapter, head and labels.

use std::num::NonZeroUsize;

use burn::tensor::Device;
use eigenmix_adapter::{Adapter, AdapterFile};
use eigenmix_data::{LabelMap, Targets, Threshold};
use eigenmix_models::{Batch, LoadReport, Network};

use super::loaded_model::{LoadedModel, targets_of};
use super::task_head::TaskHead;
use crate::host_values::host_values;
use crate::processes::Processes;
use crate::tasks::{Inputs, all_logits};
use crate::{BaseModel, TrainerError};

/// A model that computes logits of labels.
pub struct Classifier {
    network: Network,
    device: Device,
    outputs: usize,
    /// The labels of the outputs, if known.
    pub labels: Option<LabelMap>,
    /// From which probability on a label applies, if an example may have several.
    pub multi_label: Option<Threshold>,
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
    /// If it is not a classifier.
    pub fn from_model(model: LoadedModel) -> Result<Self, TrainerError> {
        let outputs = model.head.labels().ok_or(TrainerError::NoHead)?;
        Ok(Self {
            network: model.network,
            device: model.device,
            outputs,
            labels: model.labels,
            multi_label: model.multi_label,
            report: model.report,
        })
    }

    /// The number of logits per example.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// How the labels of data are encoded for this model.
    ///
    /// # Errors
    /// If it has several outputs and no labels are known for them.
    pub fn targets(&self) -> Result<Targets, TrainerError> {
        match (&self.labels, self.outputs) {
            (Some(labels), _) => Ok(targets_of(labels, self.multi_label)),
            (None, 1) => Ok(Targets::Regression),
            (None, _) => Err(TrainerError::NoHead),
        }
    }

    /// - output: `[examples, outputs]`, row-major
    pub fn logits(&self, batch: &Batch) -> Vec<f32> {
        host_values(self.network.forward(batch, &self.device))
    }

    /// The logits of all examples, in their order: `[examples, outputs]`.
    ///
    /// # Errors
    /// If an image can't be read.
    pub fn all_logits(
        &self,
        inputs: &dyn Inputs,
        batch_size: NonZeroUsize,
        progress: &dyn Fn(usize),
    ) -> Result<Vec<f32>, TrainerError> {
        let alone = Processes::alone();
        all_logits(
            &self.network,
            inputs,
            batch_size,
            &self.device,
            &alone,
            progress,
        )
    }
}
