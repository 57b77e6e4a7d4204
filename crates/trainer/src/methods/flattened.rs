//! EigenLoRAx on a flattened subspace, whose directions are whole factors.

use eigenmix_eigenlorax::{Flattened, Subspace};

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
    let flattened = subspace
        .modules
        .values()
        .find_map(|module| module.flattened);
    let Some(Flattened { rank, .. }) = flattened else {
        return Ok(());
    };
    let ranks = subspace.modules.values().map(|module| module.flattened);
    let own = config.rank.unwrap_or(1);
    let ranks = ranks.flatten().map(|flattened| flattened.rank);
    let other = ranks.into_iter().find(|rank| *rank != own);
    let rules = [
        (
            config.method != AdapterMethod::Eigenlorax,
            "adapter.subspace",
            "it is flattened, without directions for a mixer to stand between; train eigenlorax on it, or \
             extract one of columns"
                .to_owned(),
        ),
        (
            other.is_some(),
            "adapter.rank",
            format!(
                "the directions of a flattened subspace are factors of a rank of their own; it is {}, not {own}",
                other.unwrap_or(rank)
            ),
        ),
        (
            config.gradient_config().is_some(),
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
