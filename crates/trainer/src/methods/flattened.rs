//! EigenLoRAx on a flattened subspace, whose directions are whole factors.

use std::collections::BTreeSet;

use eigenmix_eigenlorax::Subspace;

use crate::adapter_config::AdapterConfig;
use crate::basis_config::BasisKind;
use crate::init::Init;
use crate::{AdapterMethod, TrainerError};

/// Refuses what a flattened subspace does not go with: coefficients on it are numbers for whole factors of
/// its rank.
///
/// # Errors
/// [`TrainerError::Method`], with the key that is at odds with it.
pub(super) fn check(config: &AdapterConfig, subspace: &Subspace) -> Result<(), TrainerError> {
    let modules = subspace.modules.values();
    let ranks: BTreeSet<usize> = modules
        .filter_map(|module| Some(module.flattened?.rank))
        .collect();
    if ranks.is_empty() {
        return Ok(());
    }
    let own = config.rank.unwrap_or(1);
    let names: Vec<String> = ranks.iter().map(usize::to_string).collect();
    let rules = [
        (
            config.method != AdapterMethod::Eigenlorax,
            "adapter.subspace",
            "it is flattened, without directions for a mixer to stand between; train eigenlorax on it, or \
             extract one of columns"
                .to_owned(),
        ),
        (
            !ranks.contains(&own),
            "adapter.rank",
            format!(
                "the directions of a flattened subspace are factors of a rank of their own; it is {}, not {own}",
                names.join(" or ")
            ),
        ),
        (
            config.gradient_config().is_some() && config.basis != BasisKind::Gradient,
            "adapter.gradient",
            "it joins directions of columns, and the subspace is flattened".to_owned(),
        ),
        (
            matches!(config.basis, BasisKind::Weights | BasisKind::Gradient),
            "adapter.basis",
            "the control of a flattened subspace is \"random\"".to_owned(),
        ),
        (
            config.init() == Init::Compose,
            "adapter.init",
            "a composition has no factors of the rank of a flattened subspace; start from \"zero\" or \"merge\""
                .to_owned(),
        ),
    ];
    match rules.into_iter().find(|(is_at_odds, ..)| *is_at_odds) {
        Some((_, key, reason)) => Err(TrainerError::Method {
            key,
            method: config.method.name(),
            reason,
        }),
        None => Ok(()),
    }
}
