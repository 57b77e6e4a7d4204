//! One pass over the examples: the gradients of the zero factors of updates, half by half.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use burn::tensor::Device;
use eigenmix_data::BatchPlan;
use eigenmix_models::{Adaptation, LoadOptions, Network, Train};
use eigenmix_moslora::{TrainedValues, Update};
use eigenmix_tensors::Matrix;

use super::super::backward_pass::BackwardPass;
use super::super::optimizer::{NamedGradients, accumulate};
use super::NetworkTraining;
use crate::TrainerError;
use crate::host_values::host_values;
use crate::tasks::Examples;

/// What every pass has in common.
pub(super) struct GradientPass<'a> {
    pub training: &'a NetworkTraining,
    /// The tensors of the head.
    pub head: &'a TrainedValues,
    /// The indices of the examples.
    pub examples: &'a [usize],
    /// Without autodiff.
    pub device: &'a Device,
    pub progress: &'a dyn Fn(usize),
}

/// The sums of two halves of the examples, by the name of the factor.
pub(super) struct Gradients {
    halves: [BTreeMap<String, Vec<f32>>; 2],
    /// The sum of the weights of the targets of each half.
    weights: [f64; 2],
    /// The mean loss over all.
    pub loss: f64,
}

/// The mean gradients of one factor over each of the halves.
pub(super) struct Halves {
    means: [Matrix; 2],
    weights: [f64; 2],
}

/// Some examples in batches, those of a length together.
pub(in crate::training) fn batches(
    all: &dyn Examples,
    chosen: &[usize],
    size: NonZeroUsize,
) -> Vec<Vec<usize>> {
    let lengths = all.lengths();
    let own: Vec<usize> = chosen.iter().map(|&example| lengths[example]).collect();
    let plan = BatchPlan::evaluation(&own, size);
    let batches = plan.batches().iter();
    batches
        .map(|batch| batch.iter().map(|&place| chosen[place]).collect())
        .collect()
}

impl GradientPass<'_> {
    /// # Errors
    /// If the base model cannot be loaded, an image can't be read, or a gradient is not finite.
    pub(super) fn run(&self, updates: BTreeMap<String, Update>) -> Result<Gradients, TrainerError> {
        let training = self.training;
        let adaptation = Adaptation {
            updates,
            tensors: self.head.clone(),
            ..Adaptation::default()
        };
        let options = LoadOptions {
            head: training.head,
            adaptation: &adaptation,
            train: Train::Nothing,
            dropout: 0.0,
            seed: training.config.seed,
        };
        let device = self.device.clone().autodiff();
        let base = &training.base;
        let loaded = Network::load(&base.checkpoint, &base.architecture, &options, &device)?;
        let mut config = training.config.clone();
        (config.base.dropout, config.adapter.dropout) = (0.0, 0.0);
        let pass = BackwardPass {
            config: &config,
            model: &loaded.model,
            names: &loaded.names,
            device: &device,
            step: 0,
        };
        let mut sums = [NamedGradients::new(), NamedGradients::new()];
        let (mut weights, mut loss) = ([0.0; 2], 0.0);
        for (number, batch) in self.batches().into_iter().enumerate() {
            let half = number % 2;
            let labelled = training.data.train.batch(&batch, None)?;
            // The loss of a batch is the weighted mean over its targets.
            let weight = labelled.objective.weight();
            let (mean, gradients) = pass.run(&labelled, 0, weight);
            accumulate(&mut sums[half], gradients);
            loss += mean * weight;
            weights[half] += weight;
            (self.progress)(batch.len());
        }
        let all: f64 = weights.iter().sum();
        let mut halves = [BTreeMap::new(), BTreeMap::new()];
        for (half, sums) in halves.iter_mut().zip(sums) {
            for (name, sum) in sums {
                let values = host_values(sum);
                if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                    return Err(TrainerError::GradientNotFinite {
                        module: name,
                        found: *value,
                    });
                }
                half.insert(name, values);
            }
        }
        Ok(Gradients {
            halves,
            weights,
            loss: loss / all,
        })
    }

    /// Batches of the examples, each half of which sees every second.
    fn batches(&self) -> Vec<Vec<usize>> {
        // Of few examples there are several batches too, so that the halves are alike.
        let most = self.training.config.training.evaluation_batch_size;
        let size = NonZeroUsize::new(self.examples.len() / 8);
        let size = size.map_or(NonZeroUsize::MIN, |size| size.min(most));
        batches(&*self.training.data.train, self.examples, size)
    }
}

impl Gradients {
    /// Those of the factor of a module, `[rows, columns]`.
    pub(super) fn of(&self, module: &str, factor: &str, rows: usize) -> Halves {
        let name = format!("{module}/{factor}");
        let columns = self.halves.iter().find_map(|half| half.get(&name));
        let columns = columns.map_or(0, |values| values.len() / rows);
        let mean = |half: usize| match self.halves[half].get(&name) {
            None => Matrix::zeros(rows, columns),
            Some(values) => {
                let weight = self.weights[half] as f32;
                let values = values.iter().map(|value| value / weight).collect();
                Matrix::new(rows, columns, values)
            }
        };
        Halves {
            means: [mean(0), mean(1)],
            weights: self.weights,
        }
    }
}

impl Halves {
    /// The mean over all examples.
    pub(super) fn mean(&self) -> Matrix {
        let [first, second] = self.weights.map(|weight| weight as f32);
        let all = first + second;
        let [rows, columns] = self.means[0].shape();
        Matrix::from_fn(rows, columns, |row, col| {
            (first * self.means[0].get(row, col) + second * self.means[1].get(row, col)) / all
        })
    }

    /// The cosine between the two; 0 where one is zero.
    pub(super) fn cosine(&self) -> f64 {
        let [first, second] = &self.means;
        let pairs = first.values().iter().zip(second.values());
        let product: f64 = pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        let norms = first.norm() * second.norm();
        if norms > 0.0 { product / norms } else { 0.0 }
    }
}
