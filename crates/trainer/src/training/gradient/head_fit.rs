//! A head on frozen features, before any gradient is taken under it.

use burn::tensor::{Device, Tensor};
use eigenmix_models::{Adaptation, LoadOptions, Network, Train};
use eigenmix_moslora::{ParameterKind, TrainedValues};

use super::super::optimizer::{AdamW, NamedGradients, accumulate, named_gradients};
use super::Training;
use super::pass::batches;
use crate::TrainerError;
use crate::tasks::Objective;

/// Steps over all examples: enough for a linear head to come to rest.
const STEPS: usize = 200;

/// The learning rate of the first step, which falls to nothing in a half cosine.
const RATE: f64 = 2e-2;

/// The decay of the weights, which keeps separable classes from growing without end.
const DECAY: f64 = 1e-2;

/// Fits the trained tensors of the head on the features of `examples`, which go through the frozen
/// model once. Gives them by name; none of a model whose head is the base model's own or that of prompts.
///
/// - fixed: tensors of the head that are given
///
/// # Errors
/// If the base model cannot be loaded, or an image can't be read.
pub(super) fn fit_head(
    training: &Training,
    fixed: &TrainedValues,
    examples: &[usize],
    device: &Device,
    progress: &dyn Fn(usize),
) -> Result<TrainedValues, TrainerError> {
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
        return Ok(TrainedValues::new());
    }

    let data = &*training.data.train;
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
    let values = names.values_of(&model).into_iter();
    Ok(values.filter(|(name, _)| is_head(name)).collect())
}
