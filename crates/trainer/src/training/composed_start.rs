//! The composition that a training starts from: `adapter.init = "compose"`. Its weights are found once,
//! before the first step, and it is kept in the run, so that a resumed training has the same start.
//!
//! The head that is fitted along is kept beside it, but not started from: from a head that separates a few
//! examples already, the training learns less.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;

use burn::tensor::Device;
use eigenmix_adapter::{Adapter, Provenance, SaveOptions};
use eigenmix_models::{Adaptation, LoadOptions, Loaded, Network, Train};
use eigenmix_moslora::{ParameterKind, TrainedValues, trained_parameters};
use serde_json::json;

use super::backward_pass::BackwardPass;
use super::composition_weights::CompositionWeights;
use super::optimizer::{AdamW, NamedGradients, accumulate, clip};
use super::plain_adapter::plain_adapter;
use super::result::head_tensors;
use super::{NetworkTraining, Observer, RunOptions};
use crate::TrainerError;
use crate::config::TrainConfig;
use crate::init::Init;
use crate::methods::{BasisSource, MethodStart, read, start};
use crate::run::Run;
use crate::run_output;

/// Steps until the weights are found: twice as many start a training no better.
const STEPS: usize = 30;

/// A composition whose weights were just found.
pub(super) struct Composed {
    adapter: Adapter,
    weights: CompositionWeights,
    /// The loss of the last step.
    loss: f64,
    parameters: usize,
}

impl NetworkTraining {
    /// Finds the weights of the composition to start from, if the configuration asks for one. Gives one that
    /// is not kept in the run yet.
    ///
    /// # Errors
    /// If the run exists already, or the composition can't be read or found.
    pub(super) fn compose_start(
        &mut self,
        options: &RunOptions,
        observer: &mut dyn Observer,
    ) -> Result<Option<Composed>, TrainerError> {
        if self.config.adapter.init() != Init::Compose {
            return Ok(None);
        }
        let output = Path::new(&self.config.output);
        let kept = output.join(Run::COMPOSITION);
        let is_kept = options
            .processes
            .as_first_finds(|| options.resume && kept.is_dir())?;
        let composed = match is_kept {
            true => {
                self.composition = Some(read(&kept.display().to_string(), None)?.adapter);
                None
            }
            false => {
                run_output::refuse_existing(output, options)?;
                let found = self.find_weights(&options.device.clone().inner(), observer)?;
                self.notes.push(format!(
                    "the training starts from a composition of the recycled adapters, {}",
                    found.weights
                ));
                self.composition = Some(found.adapter.clone());
                Some(found)
            }
        };
        if self.config.adapter.gradient_config().is_none() {
            self.put_into_basis(None)?;
        }
        Ok(composed)
    }

    /// Trains the weights of the recycled adapters in their sum, with a head of their own, for some steps.
    ///
    /// - device: without autodiff
    fn find_weights(
        &self,
        device: &Device,
        observer: &mut dyn Observer,
    ) -> Result<Composed, TrainerError> {
        let names = self.sources.iter().map(|source| source.location.clone());
        let adapter = self.config.adapter.composition_of(names.collect());
        let MethodStart {
            mut updates,
            members,
            ..
        } = start(&BasisSource {
            config: &adapter,
            base: &self.base,
            description: &self.description,
            seed: self.config.seed,
            gradient: None,
            composition: None,
        })?;
        updates.retain(|path, _| self.updates.contains_key(path));
        let mut config = self.config.clone();
        config.adapter = adapter;
        config.base.dropout = 0.0;
        let adaptation = Adaptation {
            updates,
            tensors: self.brought_tensors(device)?,
            ..Adaptation::default()
        };
        let load = LoadOptions {
            head: self.head,
            adaptation: &adaptation,
            train: Train::Head,
            dropout: 0.0,
            seed: config.seed,
        };
        let device = device.clone().autodiff();
        let base = &self.base;
        let loaded = Network::load(&base.checkpoint, &base.architecture, &load, &device)?;
        let head = loaded.names.clone();
        let (values, loss) = self.descend(&config, loaded, &device, observer)?;
        let updates = adaptation.updates;
        let mut modules = BTreeMap::new();
        for (path, update) in &updates {
            let update = update.clone().with_values(path, &values)?;
            modules.insert(path.clone(), update.fold());
        }
        let heads = head_tensors(&values, &head);
        Ok(Composed {
            adapter: plain_adapter(
                &config,
                base,
                &self.description,
                &self.data,
                modules,
                heads,
                &[],
            )?,
            weights: CompositionWeights::new(&updates, &values, &members, &self.sources)?,
            loss,
            parameters: trained_parameters(&updates),
        })
    }

    /// Some steps of AdamW at the learning rates of the training, which fall to nothing. Gives what was
    /// trained, and the last loss.
    fn descend(
        &self,
        config: &TrainConfig,
        loaded: Loaded,
        device: &Device,
        observer: &mut dyn Observer,
    ) -> Result<(TrainedValues, f64), TrainerError> {
        let Loaded {
            mut model, names, ..
        } = loaded;
        let training = &config.training;
        let mut optimizer = AdamW::new(training);
        let (mut step, mut last) = (0, 0.0);
        let parts = training.micro_batches.map_or(1, NonZeroUsize::get);
        for epoch in 0.. {
            let plan = self.data.batches.plan(epoch);
            for group in plan.batches().chunks(training.gradient_accumulation.get()) {
                if step == STEPS {
                    return Ok((names.values_of(&model), last));
                }
                let group = self.data.batches.micro_batches(group, parts);
                let batches = group.iter();
                let batches: Vec<_> = batches
                    .map(|batch| self.data.train.batch(batch, None))
                    .collect::<Result<_, _>>()?;
                let targets: f64 = batches.iter().map(|batch| batch.objective.weight()).sum();
                let pass = BackwardPass {
                    config,
                    model: &model,
                    names: &names,
                    device,
                    step,
                };
                let (mut gradients, mut loss) = (NamedGradients::new(), 0.0);
                for (number, batch) in batches.iter().enumerate() {
                    let weight = batch.objective.weight() / targets;
                    let (mean, found) = pass.run(batch, number, weight);
                    loss += weight * mean;
                    accumulate(&mut gradients, found);
                }
                if !loss.is_finite() {
                    let (step, loss) = (step + 1, loss as f32);
                    return Err(TrainerError::Diverged { step, loss });
                }
                clip(&mut gradients, 1.0, training.gradient_clip);
                let scale = 1.0 - step as f64 / STEPS as f64;
                let rate = |name: &str| match (names.kind(name), training.head_learning_rate) {
                    (Some(ParameterKind::Tensor), Some(head)) => scale * head,
                    _ => scale * training.learning_rate,
                };
                model = optimizer.step(model, &names, gradients, rate);
                (step, last) = (step + 1, loss);
                observer.composed(step, STEPS);
            }
        }
        Ok((names.values_of(&model), last))
    }
}

impl Composed {
    /// Keeps it in the run, as an adapter with its weights and the head that was fitted along.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn save(&self, training: &NetworkTraining, path: &Path) -> Result<(), TrainerError> {
        let provenance = Provenance {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            method: "composition".to_owned(),
            sources: training.sources.clone(),
            options: json!({
                "steps": STEPS,
                "loss": self.loss,
                "parameters": self.parameters,
                "found_weights": self.weights,
            }),
            input: Some(training.input_contract()),
        };
        let save = SaveOptions {
            force: true,
            provenance: Some(provenance),
            companions: Vec::new(),
        };
        Ok(self.adapter.save(path, &save)?)
    }
}
