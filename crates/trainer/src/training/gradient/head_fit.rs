//! A head on frozen features, before any gradient is taken under it.

use std::collections::BTreeSet;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor};
use eigenmix_data::Targets;
use eigenmix_models::{Adaptation, LoadOptions, Network, Train};
use eigenmix_moslora::{ParameterKind, ParameterNames, TrainedValues};

use super::super::optimizer::{AdamW, NamedGradients, accumulate, named_gradients};
use super::NetworkTraining;
use super::pass::batches;
use crate::TrainerError;
use crate::tasks::Objective;

/// Steps over all examples: enough for a linear head to come to rest.
const STEPS: usize = 200;

/// The learning rate of the first step, which falls to nothing in a half cosine.
const RATE: f64 = 2e-2;

/// The decay of the weights, which keeps separable classes from growing without end.
const DECAY: f64 = 1e-2;

/// The share of the loss of a head that knows nothing that a training is to start from. The fitted head
/// explains a few examples a class without a rest, and nothing would be learnt from a loss near 0; a
/// fresh head says nothing of where the features are to go.
const STARTING_LOSS: f64 = 2.0 / 3.0;

/// How often the interval of the scale is halved.
const HALVINGS: usize = 20;

/// The trained tensors of a head by name; none of a model whose head is the base model's own or that of
/// prompts.
#[derive(Default)]
pub(super) struct FittedHead {
    /// As they were fitted.
    pub tensors: TrainedValues,
    /// With the output layer scaled down for the start of a training.
    pub softened: TrainedValues,
}

/// Fits the trained tensors of the head on the features of `examples`, which go through the frozen
/// model once.
///
/// - fixed: tensors of the head that are given
///
/// # Errors
/// If the base model cannot be loaded, or an image can't be read.
pub(super) fn fit_head(
    training: &NetworkTraining,
    fixed: &TrainedValues,
    examples: &[usize],
    device: &Device,
    progress: &dyn Fn(usize),
) -> Result<FittedHead, TrainerError> {
    let adaptation = Adaptation {
        tensors: fixed.clone(),
        ..Adaptation::default()
    };
    let options = LoadOptions {
        head: training.head,
        adaptation: &adaptation,
        train: Train::Head,
        dropout: 0.0,
        seed: training.config.seed,
    };
    let device = device.clone().autodiff();
    let base = &training.base;
    let loaded = Network::load(&base.checkpoint, &base.architecture, &options, &device)?;
    let (mut model, names) = (loaded.model, loaded.names);
    let is_head = |name: &String| names.kind(name) == Some(ParameterKind::Tensor);
    if !names.values_of(&model).keys().any(is_head) {
        return Ok(FittedHead::default());
    }

    let data = &*training.data.train;
    let targets = training.data.targets.as_ref();
    let outputs = targets.map_or(0, Targets::outputs);
    let predicts_classes = targets.is_some_and(|targets| targets.labels().is_some());
    let size = training.config.training.evaluation_batch_size;
    let mut features: Vec<(Tensor<2>, Box<dyn Objective>)> = Vec::new();
    let mut all = 0.0;
    for batch in batches(data, examples, size) {
        let labelled = data.batch(&batch, None)?;
        let hidden = model.hidden_states(&labelled.batch, &device).detach();
        all += labelled.objective.weight();
        features.push((hidden, labelled.objective));
        progress(batch.len());
    }
    let mut config = training.config.training.clone();
    config.weight_decay = DECAY;
    let mut optimizer = AdamW::new(&config);
    for step in 0..STEPS {
        let mut gradients = NamedGradients::new();
        for (hidden, objective) in &features {
            let weight = objective.weight() / all;
            let loss = objective.loss(&model, hidden.clone(), &device) * weight;
            let found = named_gradients(&model, &names, &mut loss.backward());
            accumulate(&mut gradients, found);
        }
        let part = step as f64 / STEPS as f64;
        let rate = RATE * (1.0 + (std::f64::consts::PI * part).cos()) / 2.0;
        model = optimizer.step(model, &names, gradients, |_| rate);
    }
    let mut tensors = names.values_of(&model);
    tensors.retain(|name, _| is_head(name));
    // Where numbers are predicted, a head that knows nothing predicts their mean, which is in its bias.
    let is_scaled = |shape: &[usize]| predicts_classes || shape.len() > 1;
    let is_output = |shape: &[usize]| shape.first() == Some(&outputs) && is_scaled(shape);
    let output: BTreeSet<&str> = tensors
        .iter()
        .filter(|(_, tensor)| is_output(&tensor.shape))
        .map(|(name, _)| name.as_str())
        .collect();
    // One batch after the other, as the features are: [examples, width].
    let loss = |factor: f64| -> f64 {
        let scaled = model.clone().map(&mut Scaled {
            names: &names,
            of: &output,
            factor,
        });
        let losses = features.iter().map(|(hidden, objective)| {
            let loss = objective.loss(&scaled, hidden.clone(), &device);
            f64::from(loss.into_scalar::<f32>()) * objective.weight() / all
        });
        losses.sum()
    };
    let factor = softening(loss) as f32;
    let mut softened = tensors.clone();
    for (name, tensor) in &mut softened {
        if output.contains(name.as_str()) {
            tensor.values.iter_mut().for_each(|value| *value *= factor);
        }
    }
    Ok(FittedHead { tensors, softened })
}

/// The factor s in (0, 1] of the outputs at which the loss is [`STARTING_LOSS`] of that at 0; 1 where the
/// fitted head leaves more of it. The loss falls from 0 on, since it is convex in s.
fn softening(loss: impl Fn(f64) -> f64) -> f64 {
    let wanted = STARTING_LOSS * loss(0.0);
    // A loss that is no number is no reason to change anything.
    let whole = loss(1.0);
    if whole >= wanted || whole.is_nan() || wanted.is_nan() {
        return 1.0;
    }
    let (mut above, mut below) = (0.0, 1.0);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(above, below);
        match loss(middle) > wanted {
            true => above = middle,
            false => below = middle,
        }
    }
    below
}

/// Multiplies some of the parameters.
struct Scaled<'a> {
    names: &'a ParameterNames,
    of: &'a BTreeSet<&'a str>,
    factor: f64,
}

impl ModuleMapper for Scaled<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.names.get(param.id) {
            Some(name) if self.of.contains(name) => {
                let factor = self.factor;
                param.map(|tensor| tensor.detach() * factor)
            }
            _ => param,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_softened_to_two_thirds_of_the_loss_of_one_that_knows_nothing() {
        // 9 at 0, 1 at 1.
        let loss = |factor: f64| 1.0 + 8.0 * (1.0 - factor).powi(2);
        let factor = softening(loss);
        assert!((loss(factor) - 6.0).abs() < 1e-4, "{factor}");
    }

    #[test]
    fn a_head_that_explains_little_stays_as_it_is() {
        assert_eq!(softening(|factor| 3.0 - 0.5 * factor), 1.0);
        assert_eq!(softening(|_| f64::NAN), 1.0);
        assert_eq!(softening(|_| 0.0), 1.0);
    }
}
