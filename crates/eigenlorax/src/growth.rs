//! A subspace that grows: further adapters bring the directions that it lacks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use eigenmix_adapter::{AdapterSet, AdapterSource, ModuleMembers, known_under_other_name};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::EigenloraxError;
use crate::growing_basis::GrowingBasis;
use crate::growth_report::{AdapterGrowth, GrowthReport, ModuleGrowth};
use crate::options::ExtractOptions;
use crate::report::AdapterReport;
use crate::subspace::{ModuleSubspace, Subspace, SubspaceUpdate};

/// What of an adapter's columns may stay outside the basis, as a share of their squared norm: what
/// `--variance 0.95` leaves outside an extraction.
pub const DEFAULT_RESIDUAL: f64 = 0.05;

/// The options of an update.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrowOptions {
    /// The share of ‖X‖², from 0 to below 1, of an adapter's columns X that may stay outside the basis
    /// of a side; 0 takes in every direction that is not rounding.
    pub residual: f64,
    /// Whether an adapter may name another base model than the subspace.
    #[serde(default)]
    pub allow_base_mismatch: bool,
}

impl Default for GrowOptions {
    fn default() -> Self {
        Self {
            residual: DEFAULT_RESIDUAL,
            allow_base_mismatch: false,
        }
    }
}

impl GrowOptions {
    /// Refuses a share out of range; every update does.
    ///
    /// # Errors
    /// [`EigenloraxError::ResidualShare`].
    pub fn check(&self) -> Result<(), EigenloraxError> {
        match (0.0..1.0).contains(&self.residual) {
            true => Ok(()),
            false => Err(EigenloraxError::ResidualShare {
                found: self.residual,
            }),
        }
    }
}

/// A subspace that has grown, and the report of what came in.
#[derive(Clone, Debug)]
pub struct Growth {
    pub subspace: Subspace,
    pub report: GrowthReport,
}

/// Takes `adapters` into `subspace`, one after the other: per module and side, where more of an
/// adapter's columns lies outside the basis than `options.residual` allows, the basis grows by the
/// leading directions of that part (Share, arXiv 2602.06043). Modules that the subspace lacks are
/// added in the same way, from nothing, with as many random columns as the others have.
///
/// The columns that were there stay bit for bit; what comes in stands after the principal ones, and
/// before the mean and the random columns. So the coefficients of an earlier adapter are what they
/// were, with zeros for the new directions. Variances add the new adapter's share; of a centred
/// subspace its columns count as they are, because the mean cannot move without the coefficients of
/// the others. Where the adapters of the subspace have weights, a new one counts as the heaviest.
///
/// `progress` is called as in [`crate::extract`]; the result does not depend on the number of threads.
///
/// # Errors
/// Before anything is computed: if the options are out of range, if the adapters don't belong
/// together, are for another base model than the subspace, have other shapes or names, or are sources
/// of it already. Then as [`crate::extract`].
pub fn grow<S: AdapterSource>(
    subspace: &Subspace,
    adapters: &[S],
    options: &GrowOptions,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Growth, EigenloraxError> {
    options.check()?;
    if !subspace.options.kind.is_columns() {
        return Err(EigenloraxError::FlattenedGrowth);
    }
    let set = AdapterSet::new(adapters, options.allow_base_mismatch)?;
    check_belongs(subspace, &set, options)?;
    let recorded = ExtractOptions {
        weights: Some(subspace.options.weights().extended(adapters.len())),
        ..subspace.options.clone()
    };
    let done = AtomicUsize::new(0);
    let grown: Vec<GrownModule> = set
        .modules()
        .par_iter()
        .map(|(path, members)| {
            let module = grow_module(subspace, &set, path, members, &recorded, options.residual)?;
            progress(
                done.fetch_add(1, Ordering::Relaxed) + 1,
                set.modules().len(),
            );
            Ok(module)
        })
        .collect::<Result<_, EigenloraxError>>()?;

    let reports: Vec<AdapterReport> = adapters
        .par_iter()
        .map(AdapterReport::of)
        .collect::<Result<_, EigenloraxError>>()?;
    let mut report = GrowthReport {
        adapters: reports
            .into_iter()
            .map(|adapter| AdapterGrowth {
                adapter,
                growth: BTreeMap::new(),
            })
            .collect(),
        new_modules: Vec::new(),
        left_out: Vec::new(),
    };
    let mut modules = subspace.modules.clone();
    for ((path, _), module) in set.modules().iter().zip(grown) {
        for taken in module.taken {
            let adapter = &mut report.adapters[taken.adapter];
            if taken.is_without_effect {
                adapter.adapter.without_effect.push(path.clone());
            }
            if taken.is_biased {
                adapter.adapter.biased.push(path.clone());
            }
            adapter.growth.insert(path.clone(), taken.growth);
        }
        match module.subspace {
            Some(bases) => {
                if modules.insert(path.clone(), bases).is_none() {
                    report.new_modules.push(path.clone());
                }
            }
            None => report.left_out.push(path.clone()),
        }
    }
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let new_sources = report
        .adapters
        .iter()
        .map(|adapter| &adapter.adapter.source);
    let update = SubspaceUpdate {
        adapters: adapters.len(),
        options: *options,
        version,
    };
    let subspace = Subspace {
        base_model: subspace
            .base_model
            .clone()
            .or_else(|| set.base_model().map(str::to_owned)),
        sources: subspace
            .sources
            .iter()
            .chain(new_sources)
            .cloned()
            .collect(),
        options: recorded,
        version: subspace.version.clone(),
        updates: subspace.updates.iter().cloned().chain([update]).collect(),
        modules,
    };
    Ok(Growth { subspace, report })
}

/// The result for one module.
struct GrownModule {
    /// None if it is new and no adapter changes it.
    subspace: Option<ModuleSubspace>,
    taken: Vec<TakenIn>,
}

/// What one adapter brought.
struct TakenIn {
    adapter: usize,
    is_without_effect: bool,
    is_biased: bool,
    growth: ModuleGrowth,
}

/// - options: those of the extraction, with weights for the new adapters
fn grow_module<S: AdapterSource>(
    subspace: &Subspace,
    set: &AdapterSet<'_, S>,
    path: &str,
    members: &ModuleMembers,
    options: &ExtractOptions,
    residual: f64,
) -> Result<GrownModule, EigenloraxError> {
    let [d_out, d_in] = members.shape;
    let known = subspace.modules.get(path);
    let (mut left, mut right) = match known {
        Some(known) => (
            GrowingBasis::of(&known.left),
            GrowingBasis::of(&known.right),
        ),
        None => (GrowingBasis::empty(d_out), GrowingBasis::empty(d_in)),
    };
    let (before, weights) = (subspace.sources.len(), options.weights());
    let failed = |source| EigenloraxError::Decomposition {
        module: path.to_owned(),
        source,
    };
    let mut taken = Vec::new();
    for update in set.updates(path, members) {
        let (adapter, module) = update?;
        let weighted = weights.weighted(before + adapter, &module);
        let factors = options.factors.of(weighted).map_err(failed)?;
        let growth = ModuleGrowth {
            left: left
                .take_in(factors.left.as_ref(), residual)
                .map_err(failed)?,
            right: right
                .take_in(factors.right.as_ref(), residual)
                .map_err(failed)?,
        };
        taken.push(TakenIn {
            adapter,
            is_without_effect: module.has_no_effect(),
            is_biased: module.bias.is_some(),
            growth,
        });
    }
    let is_empty = left.columns() == 0 || right.columns() == 0;
    let into_basis = |basis: GrowingBasis, side| {
        let augmentation = options.augmentation(path, side);
        basis.into_basis(known.is_none().then_some(&augmentation))
    };
    let subspace = (!is_empty)
        .then(|| ModuleSubspace::of_columns(into_basis(left, "left"), into_basis(right, "right")));
    Ok(GrownModule { subspace, taken })
}

/// Refuses adapters that are not for the model of the subspace, or in it already.
fn check_belongs<S: AdapterSource>(
    subspace: &Subspace,
    set: &AdapterSet<'_, S>,
    options: &GrowOptions,
) -> Result<(), EigenloraxError> {
    let mut sources = subspace.sources.clone();
    for adapter in set.adapters() {
        let source = adapter.source();
        let is_same = |known: &&eigenmix_adapter::Source| {
            !source.sha256.is_empty() && known.sha256 == source.sha256
        };
        if let Some(known) = sources.iter().find(is_same) {
            return Err(EigenloraxError::SourceTwice {
                adapter: adapter.location().to_owned(),
                source_location: known.location.clone(),
            });
        }
        sources.push(source);
        if let (Some(adapter_base), Some(subspace_base)) =
            (adapter.base_model(), &subspace.base_model)
            && adapter_base != subspace_base
            && !options.allow_base_mismatch
        {
            return Err(EigenloraxError::SubspaceBaseModel {
                adapter: adapter.location().to_owned(),
                adapter_base: adapter_base.to_owned(),
                subspace_base: subspace_base.clone(),
            });
        }
    }
    let mut in_common = false;
    for (path, members) in set.modules() {
        if subspace.modules.contains_key(path) {
            subspace.module_for(path, members.shape)?;
            in_common = true;
            continue;
        }
        let known = subspace.modules.keys().map(String::as_str);
        if let Some(known) = known_under_other_name(path, known) {
            return Err(EigenloraxError::OtherName {
                module: path.clone(),
                adapter: set.adapters()[members.adapters[0]].location().to_owned(),
                known: known.to_owned(),
            });
        }
    }
    // Without a module in common only the name of the base model shows that they are for the same.
    let are_both_named = subspace.base_model.is_some() && set.base_model().is_some();
    let is_known_same = are_both_named && !options.allow_base_mismatch;
    if !in_common && !is_known_same {
        let first = |paths: &mut dyn Iterator<Item = &String>| paths.next().cloned();
        return Err(EigenloraxError::NoCommonModule {
            adapter: set.adapters()[0].location().to_owned(),
            adapter_example: first(&mut set.modules().iter().map(|(path, _)| path))
                .unwrap_or_default(),
            subspace_example: first(&mut subspace.modules.keys()).unwrap_or_default(),
        });
    }
    Ok(())
}
