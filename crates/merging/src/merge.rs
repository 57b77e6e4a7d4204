//! From adapters to one adapter.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use eigenmix_adapter::{Adapter, AdapterSet, LoraModule, ModuleMembers};
use eigenmix_eigenlorax::decomposition::DecompositionError;
use rayon::prelude::*;

use crate::coordinates::Coordinates;
use crate::dare;
use crate::election::{Election, MODEL_PASSES};
use crate::entries::{Entries, EntrySetting};
use crate::error::MergeError;
use crate::factors::{self, Factors};
use crate::merged_config::merged_config;
use crate::method::{Combination, EntryMethod, Recipe};
use crate::options::{MergeOptions, Scope};
use crate::report::{MergeReport, MergedModule};
use crate::robust;
use crate::source::MergeSource;
use crate::space::{Frame, ReducedFactors};
use crate::update::{MergedRepresentation, Update, WayBack};

/// A merged adapter and the report of its merge.
#[derive(Clone, Debug)]
pub struct Merge {
    /// Plain LoRA with scaling 1. It has heads, biases and labels only if exactly one adapter has
    /// heads or biases.
    pub adapter: Adapter,
    pub report: MergeReport,
}

/// Merges `adapters` into one, module by module.
///
/// A module that only some adapters have is merged from those: an average is divided by their
/// number. Modules whose merged update is zero are left out. Without `options.rank` the result has
/// the rank that it needs and is exact to f32 rounding; entrywise methods in the full space have a
/// result of full rank, of which an SVD is made only to truncate or isotropize it.
///
/// `progress` is called with the number of modules that are done and their total, from the thread
/// that finished one; where TIES looks at the whole model, every pass over the modules counts. The
/// result is the same bit for bit on any number of threads.
///
/// # Errors
/// Before anything is computed: if the adapters don't belong together, as [`AdapterSet::new`] says, or
/// if an option is out of range or doesn't fit the number of adapters. Then: if a
/// module can't be read, isn't finite, has a DoRA magnitude or a bias of B, or if the merge changes
/// nothing.
pub fn merge<S: MergeSource>(
    adapters: &[S],
    options: &MergeOptions,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Merge, MergeError> {
    let set = AdapterSet::new(adapters, options.allow_base_mismatch)?;
    options.check(adapters.len())?;
    factors::refuse_biases(adapters)?;
    let merger = Merger::new(&set, options, progress);
    let election = merger.model_election()?;
    let merged: Vec<(Option<LoraModule>, MergedModule)> = set
        .modules()
        .par_iter()
        .map(|(path, members)| {
            let merged = merger.module(path, members, election.as_ref())?;
            merger.advance();
            Ok(merged)
        })
        .collect::<Result<_, MergeError>>()?;

    let mut modules = BTreeMap::new();
    let mut reports = BTreeMap::new();
    for ((path, _), (module, report)) in set.modules().iter().zip(merged) {
        modules.extend(module.map(|module| (path.clone(), module)));
        reports.insert(path.clone(), report);
    }
    if modules.is_empty() {
        return Err(MergeError::NothingLeft {
            adapters: adapters.len(),
        });
    }
    let report = MergeReport::new(adapters, &merger.weights, reports)?;
    let config = merged_config(
        adapters,
        set.base_model(),
        &modules,
        report.heads_of,
        modules.len() == set.modules().len(),
    )?;
    let adapter = match report.heads_of {
        None => Adapter::new(config, modules),
        Some(index) => Adapter {
            config,
            modules,
            ..adapters[index].without_modules()?
        },
    };
    Ok(Merge { adapter, report })
}

/// The inputs of the merge of a module besides the module.
struct Merger<'a, S> {
    set: &'a AdapterSet<'a, S>,
    options: &'a MergeOptions,
    recipe: Recipe,
    /// w, of all adapters.
    weights: Vec<f64>,
    progress: &'a (dyn Fn(usize, usize) + Sync),
    done: AtomicUsize,
}

impl<'a, S: MergeSource> Merger<'a, S> {
    fn new(
        set: &'a AdapterSet<'a, S>,
        options: &'a MergeOptions,
        progress: &'a (dyn Fn(usize, usize) + Sync),
    ) -> Self {
        Self {
            set,
            options,
            recipe: options.method.recipe(),
            weights: options.all_weights(set.adapters().len()),
            progress,
            done: AtomicUsize::new(0),
        }
    }

    fn advance(&self) {
        // The reduced factors that the passes share are a pass themselves.
        let passes = match self.model_density() {
            Some(_) => MODEL_PASSES + 2,
            None => 1,
        };
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        (self.progress)(done, passes * self.set.modules().len());
    }

    /// The method and density of an election over all modules.
    fn model_density(&self) -> Option<(EntryMethod, f64)> {
        match (&self.recipe, self.options.scope) {
            (Recipe::Entries(method), Scope::Model) => match method.combination {
                Combination::Election { density } => Some((*method, density)),
                Combination::Sum | Combination::Complement { .. } => None,
            },
            _ => None,
        }
    }

    /// TIES over all modules; between passes only their small sides are kept.
    fn model_election(&self) -> Result<Option<Election>, MergeError> {
        let Some((method, density)) = self.model_density() else {
            return Ok(None);
        };
        let reduced: Vec<ReducedFactors> = self
            .set
            .modules()
            .par_iter()
            .map(|(path, members)| {
                let factors = factors::load(self.set, path, members)?;
                let reduced = self.reduced(&factors).map_err(in_module(path))?;
                self.advance();
                Ok(reduced)
            })
            .collect::<Result<_, MergeError>>()?;
        let each_module = |visit: &(dyn Fn(&Entries<'_>) + Sync)| {
            let modules = self.set.modules().par_iter().zip(&reduced);
            modules.try_for_each(|((path, members), reduced)| {
                let factors = factors::load(self.set, path, members)?;
                let setting = self.entry_setting(method, path, members);
                visit(&Entries::new(reduced, &factors, &setting));
                self.advance();
                Ok(())
            })
        };
        Election::of_model(&each_module, self.set.adapters().len(), density).map(Some)
    }

    fn reduced(&self, factors: &[Factors<'_>]) -> Result<ReducedFactors, DecompositionError> {
        let coordinates = self.compressed(Coordinates::new(factors)?)?;
        Ok(self.frame(&coordinates)?.reduced_factors(&coordinates))
    }

    /// The updates in the shared subspace, if one is asked for.
    fn compressed(&self, coordinates: Coordinates) -> Result<Coordinates, DecompositionError> {
        match self.options.compress {
            Some(rank) => coordinates.compressed(rank),
            None => Ok(coordinates),
        }
    }

    fn frame(&self, coordinates: &Coordinates) -> Result<Frame, DecompositionError> {
        self.options
            .space
            .frame(coordinates, self.options.knots_rows)
    }

    fn entry_setting<'b>(
        &'b self,
        method: EntryMethod,
        path: &'b str,
        members: &'b ModuleMembers,
    ) -> EntrySetting<'b> {
        EntrySetting {
            method,
            path,
            members,
            weights: &self.weights,
            seed: self.options.seed,
        }
    }

    fn module(
        &self,
        path: &str,
        members: &ModuleMembers,
        election: Option<&Election>,
    ) -> Result<(Option<LoraModule>, MergedModule), MergeError> {
        let factors = factors::load(self.set, path, members)?;
        let coordinates = Coordinates::new(&factors).map_err(in_module(path))?;
        let input_norms = coordinates.norms();
        let coordinates = self.compressed(coordinates).map_err(in_module(path))?;
        let kept = self.options.compress.map(|_| {
            let norms = input_norms.iter().zip(coordinates.norms());
            let share = |(&before, after): (&f64, f64)| match before > 0.0 {
                // A projection is no longer than what it is of but for rounding.
                true => (after / before).powi(2).min(1.0),
                false => 1.0,
            };
            norms.map(share).collect()
        });
        let update = if input_norms.iter().all(|&norm| norm == 0.0) {
            Update::ZERO
        } else {
            let norms = input_norms.iter().zip(&members.adapters);
            let inputs = norms.map(|(norm, &adapter)| norm * self.weights[adapter].abs());
            let (frame, merged) = self
                .merged(path, members, &factors, &coordinates, election)
                .map_err(in_module(path))?;
            let way = WayBack {
                frame: &frame,
                bases: &coordinates,
                options: self.options,
                inputs: inputs.sum(),
            };
            Update::new(merged, &way).map_err(in_module(path))?
        };
        let report = MergedModule {
            adapters: members.adapters.clone(),
            shape: members.shape,
            columns: members.columns,
            rank: update.rank,
            energy_kept: update.energy_kept,
            input_norms,
            kept,
            norm: update.norm,
        };
        let layer = || members.layer.clone();
        let module = update.module.map(|module| module.of_layer(layer()));
        Ok((module, report))
    }

    /// The merged representation, and the frame in which it is one.
    fn merged(
        &self,
        path: &str,
        members: &ModuleMembers,
        factors: &[Factors<'_>],
        coordinates: &Coordinates,
        election: Option<&Election>,
    ) -> Result<(Frame, MergedRepresentation), DecompositionError> {
        let frame = self.frame(coordinates)?;
        let merged = match &self.recipe {
            Recipe::Matrices(method) => {
                let weights: Vec<f64> = members
                    .adapters
                    .iter()
                    .map(|&adapter| self.weights[adapter])
                    .collect();
                let tasks = frame.matrices(coordinates, &weights);
                MergedRepresentation::Coordinates(method.combine(&tasks, frame.size(coordinates))?)
            }
            Recipe::Entries(method) => {
                let reduced = frame.reduced_factors(coordinates);
                let setting = self.entry_setting(*method, path, members);
                let entries = Entries::new(&reduced, factors, &setting);
                MergedRepresentation::Dense(match (method.combination, election) {
                    (Combination::Sum, _) => dare::sum(&entries),
                    (Combination::Complement { prune }, _) => robust::merge(&entries, prune),
                    (Combination::Election { .. }, Some(election)) => election.merge(&entries),
                    (Combination::Election { density }, None) => {
                        Election::of_layer(&entries, self.set.adapters().len(), density)
                            .merge(&entries)
                    }
                })
            }
        };
        Ok((frame, merged))
    }
}

fn in_module(path: &str) -> impl Fn(DecompositionError) -> MergeError {
    move |source| MergeError::Decomposition {
        module: path.to_owned(),
        source,
    }
}
