//! The loss of a task with an update applied to the frozen base model, before anything is trained.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use burn::tensor::Device;
use eigenmix_data::EncodedTargets;
use eigenmix_models::{Adaptation, HeadKind, LoadOptions, Network, Train};
use eigenmix_moslora::{TrainedValues, Update};
use eigenmix_tensors::HostTensor;

use super::super::NetworkTraining;
use super::super::gradient::batches;
use super::linear_probe::{examples, held_out_logits};
use crate::TrainerError;
use crate::host_values::host_values;
use crate::model::output_layer;
use crate::tasks::{host_loss, label_metrics};

/// The loss on some examples under one update.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeasuredLoss {
    /// The mean of each part: an example, or of a language model a batch.
    parts: Vec<f64>,
    /// How much each part counts.
    weights: Vec<f64>,
    /// The metric that a training is judged by, where a head is fitted.
    pub metric: Option<(String, f64)>,
}

impl MeasuredLoss {
    /// The mean over the examples, or over the predicted tokens of a language model.
    pub fn mean(&self) -> f64 {
        let all: f64 = self.weights.iter().sum();
        let sum = self.parts.iter().zip(&self.weights);
        sum.map(|(part, weight)| part * weight).sum::<f64>() / all
    }

    /// By how much the loss of `other` on the same examples is higher, and the standard error of that.
    pub fn advantage_over(&self, other: &Self) -> [f64; 2] {
        let pairs = || self.parts.iter().zip(&other.parts).zip(&self.weights);
        let all: f64 = self.weights.iter().sum();
        let mean = pairs().map(|((own, other), weight)| weight * (other - own));
        let mean = mean.sum::<f64>() / all;
        let squares = pairs().map(|((own, other), weight)| (weight * (other - own - mean)).powi(2));
        let count = self.parts.len() as f64;
        let variance = squares.sum::<f64>() * count / (count - 1.0).max(1.0);
        [mean, variance.sqrt() / all]
    }

    /// That of single examples.
    pub(crate) fn of_examples(losses: &[f64]) -> Self {
        Self {
            parts: losses.to_vec(),
            weights: vec![1.0; losses.len()],
            metric: None,
        }
    }

    /// The mean of several on the same examples, part by part.
    pub(super) fn average(all: &[Self]) -> Self {
        let Some(first) = all.first() else {
            return Self::default();
        };
        let count = all.len() as f64;
        let part = |place: usize| all.iter().map(|one| one.parts[place]).sum::<f64>() / count;
        let values = all.iter().filter_map(|one| one.metric.as_ref());
        let sum: f64 = values.map(|(_, value)| value).sum();
        let metric = first.metric.as_ref();
        let metric = metric.map(|(name, _)| (name.clone(), sum / count));
        Self {
            parts: (0..first.parts.len()).map(part).collect(),
            weights: first.weights.clone(),
            metric,
        }
    }
}

/// What is the same for every update.
pub(in crate::training) struct Measurement<'a> {
    pub training: &'a NetworkTraining,
    /// The indices of the examples, ascending.
    pub chosen: &'a [usize],
    /// Without autodiff.
    pub device: &'a Device,
    pub progress: &'a dyn Fn(usize),
}

impl Measurement<'_> {
    /// Under the head of a classifier or a regression, that of a head that is fitted to the features that
    /// the update gives, on examples that the head has not seen; otherwise as the model is.
    ///
    /// # Errors
    /// If the base model cannot be loaded, or an image can't be read.
    pub fn run(&self, updates: BTreeMap<String, Update>) -> Result<MeasuredLoss, TrainerError> {
        let training = self.training;
        let targets = training.data.train.targets();
        match (training.head, targets) {
            (HeadKind::Classification { labels }, Some(targets)) => {
                self.under_fitted_head(updates, labels, &subset(targets, self.chosen))
            }
            _ => self.as_it_is(updates),
        }
    }

    fn network(
        &self,
        updates: BTreeMap<String, Update>,
        head: HeadKind,
        tensors: TrainedValues,
    ) -> Result<Network, TrainerError> {
        let adaptation = Adaptation {
            updates,
            tensors,
            ..Adaptation::default()
        };
        let options = LoadOptions {
            head,
            adaptation: &adaptation,
            train: Train::Nothing,
            dropout: 0.0,
            seed: self.training.config.seed,
        };
        let base = &self.training.base;
        let loaded = Network::load(&base.checkpoint, &base.architecture, &options, self.device)?;
        Ok(loaded.model)
    }

    fn under_fitted_head(
        &self,
        updates: BTreeMap<String, Update>,
        labels: usize,
        targets: &EncodedTargets,
    ) -> Result<MeasuredLoss, TrainerError> {
        let training = self.training;
        // With the identity as its output layer a head gives what that layer sees.
        let [weight, bias] = output_layer(&training.base);
        let shapes = training.description.head_tensors.iter();
        let width = { shapes }
            .find(|(name, _)| *name == weight)
            .and_then(|(_, shape)| shape.get(1).copied())
            .ok_or(TrainerError::NoHead)?;
        let diagonal = |place: usize| f32::from(u8::from(place.is_multiple_of(width + 1)));
        let identity = (0..width * width).map(diagonal).collect();
        let mut tensors =
            TrainedValues::from([(weight, HostTensor::new([width, width], identity))]);
        if training
            .description
            .head_tensors
            .iter()
            .any(|(name, _)| *name == bias)
        {
            tensors.insert(bias, HostTensor::new([width], vec![0.0; width]));
        }
        let head = HeadKind::Classification { labels: width };
        let model = self.network(updates, head, tensors)?;
        let mut features = vec![0.0; self.chosen.len() * width];
        for batch in self.batches(training.config.training.evaluation_batch_size) {
            let labelled = training.data.train.batch(&batch, None)?;
            let found = host_values(model.forward(&labelled.batch, self.device));
            for (example, row) in batch.iter().zip(found.chunks(width)) {
                // The chosen ones are ascending, and batches hold no others.
                let place = self.chosen.partition_point(|other| other < example);
                features[place * width..][..width].copy_from_slice(row);
            }
            (self.progress)(batch.len());
        }
        let seed = training.config.seed;
        let logits = held_out_logits(&features, targets, labels, seed);
        let parts = logits.chunks(labels).enumerate();
        let parts: Vec<f64> = parts
            .map(|(example, logits)| host_loss(logits, labels, &subset(targets, &[example])))
            .collect();
        let metric = training.data.train.default_metrics().into_iter().next();
        let values = label_metrics(metric.as_slice(), &logits, labels, targets)?;
        let metric = values.into_iter().next();
        Ok(MeasuredLoss {
            weights: vec![1.0; parts.len()],
            parts,
            metric,
        })
    }

    fn as_it_is(&self, updates: BTreeMap<String, Update>) -> Result<MeasuredLoss, TrainerError> {
        let training = self.training;
        let tensors = training.brought_tensors(self.device)?;
        let model = self.network(updates, training.head, tensors)?;
        let mut measured = MeasuredLoss::default();
        // Several batches, so that they tell how sure a difference is.
        let size = NonZeroUsize::new(self.chosen.len() / 16).unwrap_or(NonZeroUsize::MIN);
        for batch in self.batches(size.min(training.config.training.evaluation_batch_size)) {
            let labelled = training.data.train.batch(&batch, None)?;
            let hidden = model.hidden_states(&labelled.batch, self.device);
            let loss = labelled.objective.loss(&model, hidden, self.device);
            measured.parts.push(f64::from(loss.into_scalar::<f32>()));
            measured.weights.push(labelled.objective.weight());
            (self.progress)(batch.len());
        }
        Ok(measured)
    }

    fn batches(&self, size: NonZeroUsize) -> Vec<Vec<usize>> {
        batches(&*self.training.data.train, self.chosen, size)
    }
}

/// The targets of some examples.
fn subset(targets: &EncodedTargets, chosen: &[usize]) -> EncodedTargets {
    let places = 0..examples(targets);
    debug_assert!(chosen.iter().all(|example| places.contains(example)));
    match targets {
        EncodedTargets::Classes(classes) => {
            EncodedTargets::Classes(chosen.iter().map(|&example| classes[example]).collect())
        }
        EncodedTargets::Labels { outputs, threshold } => EncodedTargets::Labels {
            outputs: chosen
                .iter()
                .map(|&example| outputs[example].clone())
                .collect(),
            threshold: *threshold,
        },
        EncodedTargets::Values(values) => {
            EncodedTargets::Values(chosen.iter().map(|&example| values[example]).collect())
        }
    }
}
