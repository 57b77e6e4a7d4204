//! The projection of an adapter into a subspace, and its error.

use std::collections::BTreeMap;

use eigenmix_adapter::{Adapter, AdapterSource, LoadedAdapter, LoraModule, check_low_rank};
use rayon::prelude::*;

use crate::coefficients::Coefficients;
use crate::error::EigenloraxError;
use crate::low_rank::LowRank;
use crate::subspace::{ModuleSubspace, Subspace};

/// The options of a projection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProjectOptions {
    /// Whether the adapter may name another base model than the subspace.
    pub allow_base_mismatch: bool,
}

/// The part of an adapter that a subspace can express.
#[derive(Clone, Debug, PartialEq)]
pub struct Projection {
    /// ‖ΔW − ΔŴ‖ / ‖ΔW‖ per module that the subspace has, in Frobenius norms; 0 if ΔW is zero.
    pub modules: BTreeMap<String, f64>,
    /// The same over all modules of the adapter together. The skipped ones count as lost.
    pub overall: f64,
    /// The modules that the subspace doesn't have.
    pub skipped: Vec<String>,
    /// ΔŴ = U·Uᵀ·ΔW·V·Vᵀ as plain LoRA of the adapter's ranks (on a flattened subspace the nearest B · A of
    /// its directions, of its rank), without the skipped modules. Heads,
    /// labels and biases are the adapter's.
    pub adapter: Adapter,
}

/// Projects `adapter` into `subspace`, module by module. The errors are those of the f32 factors
/// that are returned, and are computed through factors alone: a perfect fit gives about 1e-7.
///
/// # Errors
/// If the base models or the shape of a module differ, no module is in common, or a module has a
/// DoRA magnitude or isn't finite.
pub fn project(
    adapter: &LoadedAdapter,
    subspace: &Subspace,
    options: &ProjectOptions,
) -> Result<Projection, EigenloraxError> {
    check_base_models(adapter, subspace, options)?;
    let projected: Vec<(&String, Option<ProjectedModule>, f64)> = adapter
        .adapter
        .modules
        .par_iter()
        .map(|(path, module)| {
            check_low_rank(module, path, adapter.location())?;
            let update = LowRank::of(module);
            let norm = update.norm();
            if !subspace.modules.contains_key(path) {
                return Ok((path, None, norm));
            }
            let bases = subspace.module_for(path, [module.d_out(), module.d_in()])?;
            let projected = project_module(module, &update, bases).map_err(|source| {
                EigenloraxError::Decomposition {
                    module: path.clone(),
                    source,
                }
            })?;
            Ok((path, Some(projected), norm))
        })
        .collect::<Result<_, EigenloraxError>>()?;

    let mut errors = BTreeMap::new();
    let mut modules = BTreeMap::new();
    let mut skipped = Vec::new();
    let (mut lost, mut total) = (0.0, 0.0);
    for (path, projected, norm) in projected {
        total += norm.powi(2);
        match projected {
            Some(ProjectedModule { module, residual }) => {
                lost += residual.powi(2);
                errors.insert(path.clone(), relative(residual, norm));
                modules.insert(path.clone(), module);
            }
            None => {
                lost += norm.powi(2);
                skipped.push(path.clone());
            }
        }
    }
    if modules.is_empty() {
        return Err(no_common_module(adapter, subspace));
    }
    Ok(Projection {
        modules: errors,
        overall: relative(lost.sqrt(), total.sqrt()),
        adapter: with_modules(&adapter.adapter, modules, &skipped)?,
        skipped,
    })
}

struct ProjectedModule {
    module: LoraModule,
    /// ‖ΔW − ΔŴ‖.
    residual: f64,
}

fn project_module(
    module: &LoraModule,
    update: &LowRank,
    bases: &ModuleSubspace,
) -> Result<ProjectedModule, crate::decomposition::DecompositionError> {
    let mut projected = Coefficients::of(bases, module)?
        .to_module(bases)
        .of_layer(module.layer.clone());
    let residual = update.minus(&LowRank::of(&projected)).norm();
    // The bias of B is part of the update, but not of ΔW: it is kept as it acts, s · bias.
    projected.bias = module
        .bias
        .as_ref()
        .map(|bias| bias.iter().map(|value| value * module.scaling).collect());
    Ok(ProjectedModule {
        module: projected,
        residual,
    })
}

/// `part / whole`; 0 if `whole` is 0.
fn relative(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// `adapter` with other updates; its targets are narrowed to them if some are missing.
fn with_modules(
    adapter: &Adapter,
    modules: BTreeMap<String, LoraModule>,
    skipped: &[String],
) -> Result<Adapter, EigenloraxError> {
    let config = if skipped.is_empty() {
        adapter.config.clone()
    } else {
        let targets = modules.keys().cloned().collect::<Vec<_>>();
        adapter.config.with("target_modules", targets.into())?
    };
    Ok(Adapter {
        config,
        modules,
        heads: adapter.heads.clone(),
        biases: adapter.biases.clone(),
        labels: adapter.labels.clone(),
        prompts: adapter.prompts.clone(),
    })
}

fn check_base_models(
    adapter: &LoadedAdapter,
    subspace: &Subspace,
    options: &ProjectOptions,
) -> Result<(), EigenloraxError> {
    match (adapter.base_model(), &subspace.base_model) {
        (Some(adapter_base), Some(subspace_base))
            if adapter_base != subspace_base && !options.allow_base_mismatch =>
        {
            Err(EigenloraxError::SubspaceBaseModel {
                adapter: adapter.location().to_owned(),
                adapter_base: adapter_base.to_owned(),
                subspace_base: subspace_base.clone(),
            })
        }
        _ => Ok(()),
    }
}

fn no_common_module(adapter: &LoadedAdapter, subspace: &Subspace) -> EigenloraxError {
    EigenloraxError::NoCommonModule {
        adapter: adapter.location().to_owned(),
        adapter_example: adapter
            .adapter
            .modules
            .keys()
            .next()
            .cloned()
            .unwrap_or_default(),
        subspace_example: subspace.modules.keys().next().cloned().unwrap_or_default(),
    }
}
