//! From adapters to the subspace that they share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use eigenmix_adapter::{AdapterSet, AdapterSource, ModuleMembers};
use rayon::prelude::*;

use crate::error::EigenloraxError;
use crate::flattened::Flattened;
use crate::options::{ExtractOptions, SubspaceKind};
use crate::principal::{Columns, PrincipalBasis};
use crate::report::{AdapterReport, ExtractReport, ModuleReport, SideReport};
use crate::subspace::{ModuleSubspace, Subspace};

/// A subspace and the report of its extraction.
#[derive(Clone, Debug)]
pub struct Extraction {
    pub subspace: Subspace,
    pub report: ExtractReport,
}

/// Extracts the subspace that `adapters` share, per module and side: the principal components of
/// the stacked columns `[B₁ … B_T]` `[d_out, Σr]` and `[A₁ᵀ … A_Tᵀ]` `[d_in, Σr]`
/// (EigenLoRAx, arXiv 2502.04700, the column stack); or with [`SubspaceKind::Flattened`] those of whole
/// factors ([`Flattened`]).
///
/// A module counts the adapters that have it. `progress` is called with the number of modules that
/// are done and their total, from whichever thread finished one. The result is the same bit for bit
/// on any number of threads.
///
/// # Errors
/// Before anything is computed: if there is nothing to extract, if an option is out of range, if
/// the adapters don't belong together, as [`AdapterSet::new`] says. Then: if a module can't be read,
/// isn't finite, or has a DoRA magnitude.
pub fn extract<S: AdapterSource>(
    adapters: &[S],
    options: &ExtractOptions,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Extraction, EigenloraxError> {
    options.components.check()?;
    let options = &ExtractOptions {
        weights: Some(options.weights()),
        ..options.clone()
    };
    options.weights().check(adapters.len())?;
    let set = AdapterSet::new(adapters, options.allow_base_mismatch)?;
    let done = AtomicUsize::new(0);
    let extracted: Vec<ExtractedModule> = set
        .modules()
        .par_iter()
        .map(|(path, members)| {
            let module = extract_module(&set, path, members, options)?;
            progress(
                done.fetch_add(1, Ordering::Relaxed) + 1,
                set.modules().len(),
            );
            Ok(module)
        })
        .collect::<Result<_, EigenloraxError>>()?;

    let mut report = ExtractReport::of_adapters(
        adapters
            .par_iter()
            .map(AdapterReport::of)
            .collect::<Result<_, EigenloraxError>>()?,
    );
    let mut modules = BTreeMap::new();
    for ((path, _), module) in set.modules().iter().zip(extracted) {
        for adapter in module.without_effect {
            report.adapters[adapter].without_effect.push(path.clone());
        }
        for adapter in module.biased {
            report.adapters[adapter].biased.push(path.clone());
        }
        // Random columns alone would recycle nothing.
        let sides = [&module.subspace.left, &module.subspace.right];
        if sides.iter().any(|side| side.columns() == side.augmented()) {
            report.left_out.push(path.clone());
            continue;
        }
        report.add(path.clone(), module.report, &module.subspace);
        modules.insert(path.clone(), module.subspace);
    }
    if modules.is_empty() {
        return Err(EigenloraxError::NothingToExtract {
            adapters: adapters.len(),
        });
    }
    let subspace = Subspace {
        base_model: set.base_model().map(str::to_owned),
        sources: report
            .adapters
            .iter()
            .map(|adapter| adapter.source.clone())
            .collect(),
        options: options.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        updates: Vec::new(),
        modules,
    };
    Ok(Extraction { subspace, report })
}

/// The result for one module.
struct ExtractedModule {
    subspace: ModuleSubspace,
    report: ModuleReport,
    /// Indices of the adapters whose update of this module is zero.
    without_effect: Vec<usize>,
    /// Indices of the adapters in which B has a bias.
    biased: Vec<usize>,
}

/// The rank that all adapters have in a module.
fn equal_rank<S: AdapterSource>(
    set: &AdapterSet<'_, S>,
    path: &str,
    members: &ModuleMembers,
) -> Result<usize, EigenloraxError> {
    let mut first: Option<(usize, usize)> = None;
    for update in set.updates(path, members) {
        let (index, module) = update?;
        let rank = module.rank();
        let (other, other_rank) = *first.get_or_insert((index, rank));
        if rank != other_rank {
            let name = |index: usize| set.adapters()[index].location().to_owned();
            return Err(EigenloraxError::UnequalRanks {
                module: path.to_owned(),
                adapter: name(index),
                rank,
                other: name(other),
                other_rank,
            });
        }
    }
    Ok(first.map_or(1, |(_, rank)| rank))
}

fn extract_module<S: AdapterSource>(
    set: &AdapterSet<'_, S>,
    path: &str,
    members: &ModuleMembers,
    options: &ExtractOptions,
) -> Result<ExtractedModule, EigenloraxError> {
    let flattened = match options.kind {
        SubspaceKind::Columns => None,
        SubspaceKind::Flattened => Some(Flattened {
            rank: equal_rank(set, path, members)?,
            factors: options.factors,
        }),
    };
    let rows = flattened.map_or(1, |flattened| flattened.rank);
    let columns = match flattened {
        Some(_) => members.adapters.len(),
        None => members.columns,
    };
    let [d_out, d_in] = members.shape;
    let mut left = Columns::new(d_out * rows, columns);
    let mut right = Columns::new(d_in * rows, columns);
    let (mut without_effect, mut biased) = (Vec::new(), Vec::new());
    let failed = |source| EigenloraxError::Decomposition {
        module: path.to_owned(),
        source,
    };
    let weights = options.weights();
    for update in set.updates(path, members) {
        let (index, module) = update?;
        if module.has_no_effect() {
            without_effect.push(index);
        }
        if module.bias.is_some() {
            biased.push(index);
        }
        let update = weights.weighted(index, &module);
        // It would not count in a sum of squares, but in a mean.
        if update.norm() == 0.0 {
            continue;
        }
        let factors = match flattened {
            Some(flattened) => flattened.vectors(update),
            None => options.factors.of(update),
        };
        let factors = factors.map_err(failed)?;
        left.push(factors.left.as_ref());
        right.push(factors.right.as_ref());
    }
    let basis = |columns: Columns, side| {
        let augmentation = options.augmentation(path, side);
        columns.into_basis(options.components, options.center, Some(&augmentation))
    };
    let (left, right) = rayon::join(|| basis(left, "left"), || basis(right, "right"));
    let (left, right) = (left.map_err(failed)?, right.map_err(failed)?);
    let side_report = |side: &PrincipalBasis| {
        SideReport::of(&side.basis, options.components.asked(), side.available)
    };
    Ok(ExtractedModule {
        report: ModuleReport {
            adapters: members.adapters.len(),
            columns,
            left: side_report(&left),
            right: side_report(&right),
        },
        subspace: ModuleSubspace {
            left: left.basis,
            right: right.basis,
            flattened,
        },
        without_effect,
        biased,
    })
}
