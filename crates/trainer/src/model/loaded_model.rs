//! A base model with an adapter on top, ready to run.

use std::num::NonZeroUsize;

use burn::tensor::Device;
use eigenmix_adapter::{Adapter, AdapterFile};
use eigenmix_data::metrics::Metric;
use eigenmix_data::{LabelMap, Targets, TextTokenizer, Threshold};
use eigenmix_models::{
    Adaptation, AdaptedTables, Architecture, Batch, Description, HeadKind, LoadOptions, LoadReport,
    Network, Train, without_text_tower,
};

use super::task_head::{TaskHead, require_labelled};
use super::zero_shot::ZeroShot;
use crate::host_values::host_values;
use crate::processes::Processes;
use crate::tasks::{Evaluation, EvaluationOptions, Examples, TaskKind};
use crate::{BaseModel, TrainerError};

/// A model that computes logits.
pub struct LoadedModel {
    pub network: Network,
    /// The base model's, with the number of tokens that the adapter makes it.
    pub architecture: Architecture,
    pub device: Device,
    /// What it computes: logits of labels, of the next token, or image features.
    pub head: HeadKind,
    /// The labels of a classifier, if known.
    pub labels: Option<LabelMap>,
    /// From which probability on a label applies, if the outputs are labels of which an example may have
    /// several: where `config.json` of the base model says so, and no contract otherwise.
    pub multi_label: Option<Threshold>,
    /// How the adapter matched the base model; `None` without an adapter.
    pub report: Option<LoadReport>,
}

impl LoadedModel {
    /// Loads `base` with `adapter` on top. The adapter's head or prompts decide what the model
    /// computes, otherwise the checkpoint's own head does.
    ///
    /// # Errors
    /// If the adapter does not fit the base model (or, unless `allow_partial`, not wholly), or an
    /// encoder has no head from either.
    pub fn load(
        base: &BaseModel,
        adapter: Option<&AdapterFile>,
        allow_partial: bool,
        device: &Device,
    ) -> Result<Self, TrainerError> {
        if let Some(file) = adapter
            && !allow_partial
        {
            file.require_clean()?;
        }
        let adapter = adapter.map(AdapterFile::load).transpose()?;
        let zero_shot = match &adapter {
            Some(adapter) => ZeroShot::of_adapter(base, adapter)?,
            None => None,
        };
        let head = zero_shot
            .map(|zero_shot| zero_shot.head(base, adapter.as_ref(), device))
            .transpose()?;
        Self::assemble(base, adapter.as_ref(), head.as_ref(), allow_partial, device)
    }

    /// Places `adapter` on `base`, and `head` on top instead of its own.
    ///
    /// # Errors
    /// If the adapter or the head does not fit the base model (or, unless `allow_partial`, not
    /// wholly), or an encoder has no head.
    pub fn assemble(
        base: &BaseModel,
        adapter: Option<&Adapter>,
        head: Option<&TaskHead>,
        allow_partial: bool,
        device: &Device,
    ) -> Result<Self, TrainerError> {
        let kind = match head {
            Some(head) => head.kind(base)?,
            None => own_head(base, adapter)?,
        };
        let labels = match head {
            Some(head) => head.labels.as_ref(),
            None => adapter.and_then(|adapter| adapter.labels.as_ref()),
        };
        if let HeadKind::Classification { labels: outputs } = kind {
            require_labelled(outputs, labels, "the adapter")?;
        }
        let placed = adapter
            .map(|adapter| AdaptedTables::of(adapter, &base.architecture, kind, &base.checkpoint));
        let tables = placed.transpose()?.unwrap_or_default();
        let architecture = base.architecture.with_tables(&tables);
        let description = architecture.describe(kind)?;
        let (mut adaptation, mut report) = match adapter {
            Some(adapter) => place(base, kind, adapter, &description, tables)?,
            None => Default::default(),
        };
        if let Some(head) = head {
            head.replace(&mut adaptation, &mut report, &description);
        }
        match adapter {
            Some(_) => report.ensure_complete(&description, allow_partial)?,
            None => report.ensure_expected(allow_partial)?,
        }
        let options = LoadOptions {
            head: kind,
            adaptation: &adaptation,
            train: Train::Nothing,
            dropout: 0.0,
            seed: 0,
        };
        let device = device.clone().inner();
        let loaded = Network::load(&base.checkpoint, &architecture, &options, &device)?;
        report.leave_out(&loaded.unplaced, allow_partial)?;
        let names = match (labels, kind) {
            (Some(labels), _) => Some(labels.0.clone()),
            (None, HeadKind::Classification { labels }) => {
                base.labels().filter(|names| names.len() == labels)
            }
            (None, _) => None,
        };
        Ok(Self {
            network: loaded.model,
            architecture,
            device,
            head: kind,
            labels: names.map(LabelMap::from_names).transpose()?,
            multi_label: match kind {
                HeadKind::Classification { .. } if base.is_multi_label() => {
                    Some(Threshold::default())
                }
                _ => None,
            },
            report: adapter.map(|_| report),
        })
    }

    /// The kind of its task.
    pub fn task_kind(&self, base: &BaseModel) -> TaskKind {
        TaskKind::of_model(&base.architecture, self.head)
    }

    /// How the labels of data are encoded for it; `None` if its task has no labels.
    ///
    /// # Errors
    /// If it has several outputs and no labels are known for them, or it does not predict labels at
    /// all.
    pub fn targets(&self) -> Result<Option<Targets>, TrainerError> {
        match (&self.labels, self.head) {
            (_, head) if head.is_per_token() => Ok(None),
            (Some(labels), _) => Ok(Some(targets_of(labels, self.multi_label))),
            (None, HeadKind::Classification { labels: 1 }) => Ok(Some(Targets::Regression)),
            (None, _) => Err(TrainerError::NoHead),
        }
    }

    /// Evaluates it on examples.
    ///
    /// - tokenizer: decodes what a language model generates
    /// - progress: is called with the number of further examples that are done
    ///
    /// # Errors
    /// If a metric does not fit the task, or an image can't be read.
    pub fn evaluate(
        &self,
        examples: &dyn Examples,
        metrics: &[Metric],
        batch_size: NonZeroUsize,
        tokenizer: Option<&TextTokenizer>,
        progress: &dyn Fn(usize),
    ) -> Result<Evaluation, TrainerError> {
        let options = EvaluationOptions {
            metrics,
            batch_size,
            device: &self.device,
            tokenizer,
            processes: &Processes::alone(),
            progress,
        };
        examples.evaluate(&self.network, &options)
    }

    /// What a vision-language model makes of the images of a batch for its decoder, with its shape
    /// [images, tokens of an image, d_model]; `None` where there are none.
    pub fn image_features(&self, batch: &Batch) -> Option<([usize; 3], Vec<f32>)> {
        let images = batch.images.as_ref()?;
        let features = self.network.image_features(images, &self.device)?;
        let [rows, d_model] = features.dims();
        let count = images.images();
        Some(([count, rows / count, d_model], host_values(features)))
    }

    /// The logits of a batch, row-major: a row for each sequence or image, or for each token of a
    /// language model.
    pub fn logits(&self, batch: &Batch) -> Vec<f32> {
        host_values(self.network.forward(batch, &self.device))
    }
}

/// How labels are encoded for a head.
pub(super) fn targets_of(labels: &LabelMap, multi_label: Option<Threshold>) -> Targets {
    let labels = labels.clone();
    match multi_label {
        Some(threshold) => Targets::Labels { labels, threshold },
        None => Targets::Classes(labels),
    }
}

/// What `adapter` changes in the model that `description` describes. Under a zero-shot head it may
/// adapt the text tower as well, with which the head was computed.
fn place(
    base: &BaseModel,
    head: HeadKind,
    adapter: &Adapter,
    description: &Description,
    tables: AdaptedTables,
) -> Result<(Adaptation, LoadReport), TrainerError> {
    let matched = |adapter: &Adapter| {
        Adaptation::from_adapter(adapter, description, tables, &base.checkpoint)
    };
    let (HeadKind::ZeroShot { .. }, Some(text)) = (head, base.architecture.clip_text()) else {
        return Ok(matched(adapter)?);
    };
    let vision = without_text_tower(adapter);
    let (adaptation, mut report) = matched(&vision)?;
    if let Some((_, of_text)) = text.adaptation(adapter, &base.checkpoint)? {
        report.extend(of_text);
    }
    Ok((adaptation, report))
}

/// What the model computes: logits of labels if the adapter or the checkpoint has a classifier.
pub(crate) fn own_head(
    base: &BaseModel,
    adapter: Option<&Adapter>,
) -> Result<HeadKind, TrainerError> {
    let output = base.architecture.output_weight();
    if let Some(head) = adapter.and_then(|adapter| adapter.heads.get(output)) {
        // A number alone fits no head, which is told when it is placed.
        let labels = head.shape.first().copied().unwrap_or(1);
        return Ok(HeadKind::Classification { labels });
    }
    let outputs = base
        .checkpoint
        .shape(output)
        .and_then(|shape| shape.first().copied());
    base.architecture
        .checkpoint_head(base.checkpoint.config(), outputs)
        .ok_or(TrainerError::NoHead)
}
