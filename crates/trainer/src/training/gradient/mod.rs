//! The gradient of a task at the base model, as an adapter: one more source for a subspace.
//!
//! For every module that the training adapts, `G = ∂L/∂W` at ΔW = 0, L the mean loss over the training
//! examples, under a head that was fitted on the frozen features before (under a random one the gradient
//! would be noise). −G in its leading singular directions is an update like that of any adapter, and a
//! training on a subspace that contains it can take the steps that its task asks for.
//!
//! G is never formed. A frozen update of which one factor is zero and trained gets the gradient `G · Ω`,
//! and one with the other factor zero `Gᵀ · Q`: two passes over the examples give the best approximation
//! (see [`LeadingPart`]).

mod head_fit;
mod pass;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use burn::tensor::Device;
use eigenmix_adapter::{Adapter, Companion, LoraModule};
use eigenmix_eigenlorax::{LeadingPart, OVERSAMPLING, range_of, test_matrix};
use eigenmix_models::{HeadKind, LinearLayer};
use eigenmix_moslora::{Factor, Mixer, TrainedValues, Update};
use eigenmix_tensors::Matrix;
use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use self::head_fit::fit_head;
use self::pass::GradientPass;
pub(super) use self::pass::batches;
use super::NetworkTraining;
use super::plain_adapter::plain_adapter;
use super::result::companions;
use crate::TrainerError;

/// How the gradient is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GradientOptions {
    /// The most directions that are kept of a module.
    pub rank: NonZeroUsize,
    /// The most examples that it is the mean over, drawn by the seed of the training.
    pub examples: NonZeroUsize,
}

impl Default for GradientOptions {
    fn default() -> Self {
        Self {
            rank: NonZeroUsize::new(24).expect("not zero"),
            examples: NonZeroUsize::new(2048).expect("not zero"),
        }
    }
}

/// The gradient of a task, in its leading directions.
#[derive(Clone, Debug)]
pub struct TaskGradient {
    /// −G as an adapter, with the fitted head.
    pub adapter: Adapter,
    pub modules: BTreeMap<String, ModuleGradient>,
    /// How many examples it is the mean over.
    pub examples: usize,
    /// The mean loss under the fitted head.
    pub loss: f64,
    /// The fitted head for the start of a training: scaled down to where its loss is two thirds of that
    /// of a head that knows nothing.
    pub(super) softened_head: TrainedValues,
}

/// The gradient of a task in some layers, not an adapter yet.
pub(super) struct LeadingGradient {
    /// −G in its leading directions, by the paths of the layers.
    pub updates: BTreeMap<String, LoraModule>,
    /// The fitted head, and the same for the start of a training.
    pub heads: TrainedValues,
    pub softened_head: TrainedValues,
    pub modules: BTreeMap<String, ModuleGradient>,
    pub examples: usize,
    pub loss: f64,
}

impl LeadingGradient {
    /// How far two halves of the examples agree, over all modules.
    pub fn agreement(&self) -> f64 {
        agreement(&self.modules)
    }
}

/// The agreement of the halves over all modules, weighted by their energy.
fn agreement(modules: &BTreeMap<String, ModuleGradient>) -> f64 {
    let energy: f64 = modules.values().map(|module| module.energy).sum();
    let weighted = modules.values();
    let sum: f64 = weighted
        .map(|module| module.energy * module.agreement)
        .sum();
    if energy > 0.0 { sum / energy } else { 0.0 }
}

/// The gradient of one module.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleGradient {
    /// The singular values that are kept.
    pub values: Vec<f64>,
    /// ‖G‖², estimated from the sketch.
    pub energy: f64,
    /// How far the gradients of two halves of the examples agree: the cosine between them in the
    /// directions of the sketch; 1 if they are equal, about 0 if there is nothing but noise.
    pub agreement: f64,
}

impl ModuleGradient {
    /// The share of ‖G‖² that the kept directions have, at most 1.
    pub fn kept(&self) -> f64 {
        let kept: f64 = self.values.iter().map(|value| value * value).sum();
        match self.energy > 0.0 {
            true => (kept / self.energy).min(1.0),
            false => 0.0,
        }
    }
}

impl TaskGradient {
    /// The agreement of the halves over all modules, weighted by their energy.
    pub fn agreement(&self) -> f64 {
        agreement(&self.modules)
    }
}

impl NetworkTraining {
    /// What the user has to know of the data and the model.
    pub fn notes(&self) -> impl Iterator<Item = &String> {
        self.notes.iter().chain(&self.start_notes)
    }

    /// How many examples go through the model for the gradient: in two passes, and in one more where a
    /// head is fitted.
    pub fn gradient_work(&self, options: &GradientOptions) -> usize {
        let passes = match self.head {
            HeadKind::Classification { .. } => 3,
            _ => 2,
        };
        passes * self.data.train.len().min(options.examples.get())
    }

    /// How rows become inputs, as `eigenmix.json` says it.
    pub fn input_contract(&self) -> serde_json::Value {
        serde_json::json!(self.data.input)
    }

    /// The tokenizer and the chat template of the training.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn text_companions(&self) -> Result<Vec<Companion>, TrainerError> {
        companions(&self.base, &self.data)
    }

    /// The gradient of the task in the modules that this training adapts.
    ///
    /// - device: without autodiff
    /// - progress: is called with the number of further examples that went through the model
    ///
    /// # Errors
    /// If the base model cannot be loaded, an image can't be read, or the gradient is not finite.
    pub fn gradient(
        &self,
        options: &GradientOptions,
        device: &Device,
        progress: &dyn Fn(usize),
    ) -> Result<TaskGradient, TrainerError> {
        let layers = self.adapted_layers();
        if layers.is_empty() {
            return Err(TrainerError::NoGradient {
                method: self.config.adapter.method.name(),
            });
        }
        let found = self.leading_gradient(&layers, options, device, progress)?;
        let (config, base) = (&self.config, &self.base);
        let (updates, heads) = (found.updates, found.heads);
        let adapter = plain_adapter(
            config,
            base,
            &self.description,
            &self.data,
            updates,
            heads,
            &[],
        )?;
        Ok(TaskGradient {
            adapter,
            modules: found.modules,
            examples: found.examples,
            loss: found.loss,
            softened_head: found.softened_head,
        })
    }

    /// The gradient of the task in some layers.
    ///
    /// # Errors
    /// As [`NetworkTraining::gradient`].
    pub(super) fn leading_gradient(
        &self,
        layers: &[LinearLayer],
        options: &GradientOptions,
        device: &Device,
        progress: &dyn Fn(usize),
    ) -> Result<LeadingGradient, TrainerError> {
        let examples = self.drawn_examples(options.examples.get());
        let mut tensors = self.brought_tensors(device)?;
        let fitted = fit_head(self, &tensors, &examples, device, progress)?;
        tensors.extend(fitted.tensors.clone());
        let pass = GradientPass {
            training: self,
            head: &tensors,
            examples: &examples,
            device,
            progress,
        };

        let sketches = pass.run(
            layers
                .iter()
                .map(|layer| {
                    (
                        layer.path.clone(),
                        seeing_columns(layer, options, self.config.seed),
                    )
                })
                .collect(),
        )?;
        let ranges: BTreeMap<&str, Matrix> = layers
            .iter()
            .map(|layer| {
                let sketch = sketches.of(&layer.path, "left", layer.d_out);
                (layer.path.as_str(), range_of(&sketch.mean()))
            })
            .collect();
        let seen = pass.run(
            layers
                .iter()
                .map(|layer| {
                    let range = &ranges[layer.path.as_str()];
                    (layer.path.clone(), seeing_rows(layer, range))
                })
                .collect(),
        )?;

        let (mut modules, mut updates) = (BTreeMap::new(), BTreeMap::new());
        for layer in layers {
            let path = &layer.path;
            let sketch = sketches.of(path, "left", layer.d_out).mean();
            let halves = seen.of(path, "right", layer.d_in);
            let range = &ranges[path.as_str()];
            let part =
                LeadingPart::new(range, &halves.mean(), options.rank.get()).map_err(|source| {
                    TrainerError::Gradient {
                        module: path.clone(),
                        source,
                    }
                })?;
            modules.insert(
                path.clone(),
                ModuleGradient {
                    energy: sketch.norm().powi(2) / sketch.cols() as f64,
                    agreement: halves.cosine(),
                    values: part.values.clone(),
                },
            );
            updates.insert(path.clone(), part.to_module(-1.0));
        }
        Ok(LeadingGradient {
            updates,
            heads: fitted.tensors,
            softened_head: fitted.softened,
            modules,
            examples: examples.len(),
            loss: seen.loss,
        })
    }

    /// As many examples of the training split, drawn by the seed, ascending.
    pub(super) fn drawn_examples(&self, most: usize) -> Vec<usize> {
        let count = self.data.train.len();
        if count <= most {
            return (0..count).collect();
        }
        let mut random = ChaCha8Rng::seed_from_u64(self.config.seed);
        let mut drawn = index::sample(&mut random, count, most).into_vec();
        drawn.sort_unstable();
        drawn
    }

    /// The layers that the training adapts.
    fn adapted_layers(&self) -> Vec<LinearLayer> {
        let layers = self.description.layers.iter();
        layers
            .filter(|layer| self.updates.contains_key(&layer.path))
            .cloned()
            .collect()
    }
}

/// How many columns the sketch of a layer has.
fn width(layer: &LinearLayer, options: &GradientOptions) -> usize {
    (options.rank.get() + OVERSAMPLING)
        .min(layer.d_in)
        .min(layer.d_out)
}

/// An update `L · Ωᵀ` with L = 0: the gradient of L is G · Ω.
fn seeing_columns(layer: &LinearLayer, options: &GradientOptions, seed: u64) -> Update {
    let columns = width(layer, options);
    Update {
        left: Factor::trained(Matrix::zeros(layer.d_out, columns)),
        mixer: Mixer::Identity,
        right: Factor::frozen(test_matrix(&layer.path, layer.d_in, columns, seed)),
        scaling: 1.0,
        dropout: 0.0,
    }
}

/// An update `Q · Rᵀ` with R = 0: the gradient of R is Gᵀ · Q.
fn seeing_rows(layer: &LinearLayer, range: &Matrix) -> Update {
    Update {
        left: Factor::frozen(range.clone()),
        mixer: Mixer::Identity,
        right: Factor::trained(Matrix::zeros(layer.d_in, range.cols())),
        scaling: 1.0,
        dropout: 0.0,
    }
}
