//! A classifier ready for use: base model, adapter, head and labels.

use adapter::{Adapter, AdapterFile};
use burn::tensor::Device;
use models::{
    Adaptation, Description, LoadOptions, LoadReport, SequenceClassifier, TokenBatch, Train,
};

use crate::data::{BatchPlan, EncodedTargets, Encoding, LabelMap, Targets};
use crate::metrics::{Metric, Predictions, evaluate, predicted_classes};
use crate::{BaseModel, TrainerError};

/// A model that gives logits.
pub struct Classifier {
    model: SequenceClassifier,
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
    /// neither has a head.
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
        let outputs = outputs(base, adapter.as_ref())?;
        let description = SequenceClassifier::describe(&base.config, outputs);
        let (adaptation, report) = match &adapter {
            Some(adapter) => {
                let (adaptation, report) = Adaptation::from_adapter(adapter, &description)?;
                report.ensure_complete(&description, allow_partial)?;
                (adaptation, Some(report))
            }
            None => (Adaptation::default(), None),
        };
        let options = LoadOptions {
            labels: outputs,
            adaptation: &adaptation,
            train: Train::Nothing,
            dropout: 0.0,
            seed: 0,
        };
        let device = device.clone().inner();
        let model =
            SequenceClassifier::load(&base.checkpoint, &base.config, &options, &device)?.model;
        let names = match adapter.and_then(|adapter| adapter.labels) {
            Some(labels) => Some(labels.0),
            None => base.labels().filter(|labels| labels.len() == outputs),
        };
        let labels = names.map(LabelMap::from_names).transpose()?;
        Ok(Self {
            model,
            device,
            outputs,
            labels,
            report,
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

    /// - output: `[sequences, outputs]`, row-major
    pub fn logits(&self, batch: &TokenBatch) -> Vec<f32> {
        host(self.model.forward(batch, &self.device))
    }

    /// The logits of all examples, in their order: `[examples, outputs]`.
    pub fn all_logits(
        &self,
        encodings: &[Encoding],
        batch_size: std::num::NonZeroUsize,
        progress: &dyn Fn(usize),
    ) -> Vec<f32> {
        all_logits(
            &self.model,
            encodings,
            self.outputs,
            batch_size,
            &self.device,
            progress,
        )
    }
}

/// How many outputs the head has: the adapter's, else the checkpoint's.
fn outputs(base: &BaseModel, adapter: Option<&Adapter>) -> Result<usize, TrainerError> {
    let name = SequenceClassifier::output_weight(base.config.family);
    let of_adapter = adapter
        .and_then(|adapter| adapter.heads.get(&name))
        .map(|head| head.shape[0]);
    of_adapter
        .or_else(|| base.checkpoint.shape(&name).map(|shape| shape[0]))
        .ok_or(TrainerError::NoHead)
}

/// Evaluates batches of similar length and puts the logits back in the order of the examples.
pub(crate) fn all_logits(
    model: &SequenceClassifier,
    encodings: &[Encoding],
    outputs: usize,
    batch_size: std::num::NonZeroUsize,
    device: &Device,
    progress: &dyn Fn(usize),
) -> Vec<f32> {
    let lengths: Vec<usize> = encodings
        .iter()
        .map(|encoding| encoding.ids.len())
        .collect();
    let mut logits = vec![0.0; encodings.len() * outputs];
    for examples in BatchPlan::evaluation(&lengths, batch_size).batches() {
        let found = host(model.forward(&batch(encodings, examples), device));
        for (row, &example) in examples.iter().enumerate() {
            logits[example * outputs..][..outputs]
                .copy_from_slice(&found[row * outputs..][..outputs]);
        }
        progress(examples.len());
    }
    logits
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

/// The examples as one packed batch.
pub(crate) fn batch(encodings: &[Encoding], examples: &[usize]) -> TokenBatch {
    TokenBatch::from_sequences(examples.iter().map(|&example| {
        let encoding = &encodings[example];
        (encoding.ids.as_slice(), encoding.type_ids.as_slice())
    }))
}

fn host(logits: burn::tensor::Tensor<2>) -> Vec<f32> {
    logits
        .into_data()
        .convert::<f32>()
        .try_into_vec()
        .expect("converted to f32")
}

/// Describes a base model with a head of `outputs` outputs.
pub(crate) fn describe(base: &BaseModel, outputs: usize) -> Description {
    SequenceClassifier::describe(&base.config, outputs)
}
