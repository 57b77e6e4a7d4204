//! Which adapters are worth recycling for a training, before anything is trained.
//!
//! The gradient of the task is taken once, at the base model. By it every adapter is compared, through
//! factors alone; the first ones are applied to the base model and their loss is measured.

mod linear_probe;
mod measured_loss;
mod prospect;
mod random_update;
mod usable;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use burn::tensor::Device;
use eigenmix_adapter::{AdapterFile, LoraModule};
use eigenmix_eigenlorax::{
    Alignment, PoolAlignment, PoolModule, Ranked, Share, greedy_order, pool_share,
};
use eigenmix_models::LinearLayer;
use eigenmix_moslora::Update;

use self::random_update::random_update;
use super::NetworkTraining;
use super::gradient::GradientOptions;
use crate::TrainerError;
use crate::methods::whole_modules_note;

pub use self::measured_loss::MeasuredLoss;
pub(super) use self::measured_loss::Measurement;
pub use self::prospect::Prospect;
pub use self::usable::{Unusable, UsableAdapter};

/// How many random updates the loss is measured under, to compare with.
const CONTROLS: usize = 2;

/// How adapters are selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectionOptions {
    pub gradient: GradientOptions,
    /// On how many examples a loss is measured, at most.
    pub loss_examples: NonZeroUsize,
    /// For how many adapters the loss is measured, at most.
    pub measured: NonZeroUsize,
    /// How many adapters are chosen, at most.
    pub top: NonZeroUsize,
}

impl Default for SelectionOptions {
    fn default() -> Self {
        let number = |value| NonZeroUsize::new(value).expect("not zero");
        Self {
            gradient: GradientOptions {
                examples: number(512),
                ..GradientOptions::default()
            },
            loss_examples: number(192),
            measured: number(20),
            top: number(8),
        }
    }
}

/// Adapters in the order in which they are worth recycling.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The best first.
    pub adapters: Vec<SelectedAdapter>,
    /// How many of the first ones are chosen.
    pub chosen: usize,
    /// How many examples the gradient is the mean over.
    pub gradient_examples: usize,
    /// How far the gradients of two halves of these examples agree.
    pub agreement: f64,
    /// On how many examples the losses were measured.
    pub loss_examples: usize,
    /// Of the base model alone.
    pub base: MeasuredLoss,
    /// Of the base model under random updates with the singular values of the first adapter.
    pub control: MeasuredLoss,
    /// The share of the gradient in the directions of the chosen adapters together.
    pub share: Share,
}

/// What was found of an adapter.
#[derive(Clone, Debug)]
pub struct SelectedAdapter {
    /// Its place among the adapters that were given.
    pub index: usize,
    pub alignment: Alignment,
    /// What it adds to those before it.
    pub rank: Ranked,
    /// With the adapter applied; `None` of those after the first.
    pub loss: Option<MeasuredLoss>,
}

impl NetworkTraining {
    /// How many examples go through the model for a selection among `adapters`.
    pub fn selection_work(&self, options: &SelectionOptions, adapters: usize) -> usize {
        let examples = self.data.train.len().min(options.loss_examples.get());
        let losses = 1 + CONTROLS + adapters.min(options.measured.get());
        self.gradient_work(&options.gradient) + losses * examples
    }

    /// What to say of modules that adapters bring beside their updates, which are not compared.
    pub fn whole_modules_note(&self, adapters: &[UsableAdapter]) -> Option<String> {
        let adapters = adapters.iter().map(|one| {
            let names = one.file.head_names().collect::<Vec<_>>();
            (one.file.location(), names)
        });
        whole_modules_note(&self.base, &self.description, adapters)
    }

    /// Orders adapters by what each adds to those before it, for this training.
    ///
    /// - device: without autodiff
    /// - progress: is called with the number of further examples that went through the model
    ///
    /// # Errors
    /// If there are no adapters, the base model cannot be loaded, an adapter or an image can't be read, or
    /// the gradient is not finite.
    pub fn select(
        &mut self,
        adapters: &[UsableAdapter],
        options: &SelectionOptions,
        device: &Device,
        progress: &dyn Fn(usize),
    ) -> Result<Selection, TrainerError> {
        // A model is made of them for the gradient and for every adapter.
        self.base.checkpoint.share_tensors();
        let adapted: BTreeSet<&String> = { adapters.iter() }
            .flat_map(|adapter| adapter.layers.keys())
            .collect();
        let layers = self.description.layers.iter();
        let layers: Vec<LinearLayer> = layers
            .filter(|layer| adapted.contains(&layer.path))
            .cloned()
            .collect();
        if layers.is_empty() {
            return Err(TrainerError::NothingToSelect);
        }
        let gradient = self.leading_gradient(&layers, &options.gradient, device, progress)?;
        let pool = Pool {
            adapters,
            layers: &layers,
            gradient: &gradient.updates,
        };
        let all: Vec<usize> = (0..adapters.len()).collect();
        let found = PoolAlignment::new(adapters.len(), layers.len(), |layer| {
            pool.module(layer, &all)
        })?;
        let cosines: Vec<f64> = found.adapters.iter().map(|one| one.cosine).collect();
        let equal = vec![1.0; adapters.len()];
        let by_gradient = greedy_order(&found.cosines, &cosines, &equal, adapters.len());

        let chosen = self.drawn_examples(options.loss_examples.get());
        let measurement = Measurement {
            training: self,
            chosen: &chosen,
            device,
            progress,
        };
        let base = measurement.run(BTreeMap::new())?;
        let mut losses: BTreeMap<usize, MeasuredLoss> = BTreeMap::new();
        for ranked in by_gradient.iter().take(options.measured.get()) {
            let updates = pool.updates(ranked.adapter)?;
            losses.insert(ranked.adapter, measurement.run(updates)?);
        }
        let weights = weights(&losses, adapters.len());
        let order = greedy_order(&found.cosines, &cosines, &weights, adapters.len());
        let controls = (0..CONTROLS as u64).map(|number| {
            let first = pool.updates_like(order[0].adapter, self.config.seed + number)?;
            measurement.run(first)
        });
        let controls: Vec<MeasuredLoss> = controls.collect::<Result<_, TrainerError>>()?;

        let stands_out = |ranked: &&Ranked| {
            let chance = found.adapters[ranked.adapter].cosine_chance;
            ranked.score > STANDS_OUT * chance && ranked.novelty > REDUNDANT
        };
        let best: Vec<usize> = { order.iter().take(options.top.get()) }
            .take_while(stands_out)
            .map(|ranked| ranked.adapter)
            .collect();
        let share = pool_share(layers.len(), |layer| pool.module(layer, &best))?;
        let selected = order.into_iter().map(|rank| SelectedAdapter {
            index: rank.adapter,
            alignment: found.adapters[rank.adapter],
            loss: losses.remove(&rank.adapter),
            rank,
        });
        Ok(Selection {
            adapters: selected.collect(),
            chosen: best.len(),
            gradient_examples: gradient.examples,
            agreement: gradient.agreement(),
            loss_examples: chosen.len(),
            base,
            control: MeasuredLoss::average(&controls),
            share,
        })
    }
}

/// An adapter stands out if it is aligned with the gradient by this many standard deviations of random
/// updates: of a hundred of these, none is in nine of ten selections.
const STANDS_OUT: f64 = 3.0;

/// An adapter with no more than this share of its update of its own is redundant.
pub(super) const REDUNDANT: f64 = 0.01;

/// How much the alignment of each adapter counts: less, the higher its loss is above the lowest. Those
/// that were not measured come after all that were.
fn weights(losses: &BTreeMap<usize, MeasuredLoss>, count: usize) -> Vec<f64> {
    let means = losses.values().map(MeasuredLoss::mean);
    let lowest = means
        .filter(|mean| mean.is_finite())
        .fold(f64::INFINITY, f64::min);
    let weight = |adapter| match losses.get(&adapter) {
        Some(loss) if loss.mean().is_finite() && loss.mean() > 0.0 => lowest / loss.mean(),
        _ => UNMEASURED,
    };
    (0..count).map(weight).collect()
}

/// So little that whatever was measured and points downhill comes first, and the others in their own order.
const UNMEASURED: f64 = 1e-6;

/// Adapters, and the gradient in the layers that any of them adapts.
struct Pool<'a> {
    adapters: &'a [UsableAdapter<'a>],
    layers: &'a [LinearLayer],
    gradient: &'a BTreeMap<String, LoraModule>,
}

impl Pool<'_> {
    /// A layer in some of the adapters.
    ///
    /// - chosen: their indices, ascending or not
    fn module(&self, layer: usize, chosen: &[usize]) -> Result<PoolModule<'_>, TrainerError> {
        let path = &self.layers[layer].path;
        let mut updates = Vec::new();
        for &index in chosen {
            let adapter = &self.adapters[index];
            if let Some(own) = adapter.layers.get(path) {
                updates.push((index, std::borrow::Cow::Owned(adapter.file.module(own)?)));
            }
        }
        Ok(PoolModule {
            path: path.clone(),
            gradient: &self.gradient[path],
            updates,
        })
    }

    /// All updates of an adapter, frozen.
    fn updates(&self, index: usize) -> Result<BTreeMap<String, Update>, TrainerError> {
        self.of_modules(index, |_, module| Ok(Update::from_lora(&module)))
    }

    /// Random updates in the place and with the singular values of those of an adapter.
    fn updates_like(
        &self,
        index: usize,
        seed: u64,
    ) -> Result<BTreeMap<String, Update>, TrainerError> {
        self.of_modules(index, |path, module| random_update(path, &module, seed))
    }

    fn of_modules(
        &self,
        index: usize,
        update: impl Fn(&str, LoraModule) -> Result<Update, TrainerError>,
    ) -> Result<BTreeMap<String, Update>, TrainerError> {
        let adapter = &self.adapters[index];
        let file: &AdapterFile = adapter.file;
        let modules = adapter.layers.iter();
        modules
            .map(|(path, own)| Ok((path.clone(), update(path, file.module(own)?)?)))
            .collect()
    }
}
