//! The initial updates of a training.

use std::collections::BTreeMap;

use eigenmix_adapter::{PeftConfig, Source, TargetModules};
use eigenmix_eigenlorax::ModuleSpectra;
use eigenmix_models::{Architecture, Description, LinearLayer};
use eigenmix_moslora::Update;

use super::definition::{FactorLayer, Recipe};
use super::on_basis::on_basis;
use crate::TrainerError;
use crate::adapter_config::{AdapterConfig, TargetModulesConfig};

/// The initial updates of a method, by module path of the base model.
#[derive(Default)]
pub(crate) struct MethodStart {
    pub updates: BTreeMap<String, Update>,
    /// The adapters that were recycled.
    pub sources: Vec<Source>,
    /// The variances of the components in use, by module; for methods with a basis.
    pub spectra: BTreeMap<String, ModuleSpectra>,
    /// Notes for the user: fewer components than requested, modules left out.
    pub notes: Vec<String>,
}

/// Prepares the updates of every adapted module.
///
/// # Errors
/// If the targets match no layer, or the subspace or an adapter does not fit the base model.
pub(crate) fn start(
    config: &AdapterConfig,
    base_model: &str,
    architecture: &Architecture,
    description: &Description,
    seed: u64,
) -> Result<MethodStart, TrainerError> {
    match config.method.definition().recipe {
        Recipe::Everything => Ok(MethodStart::default()),
        Recipe::Factors { update } => {
            let layers = targeted(config, architecture, description)?;
            let updates = layers.into_iter().map(|layer| {
                let update = update(&FactorLayer {
                    config,
                    path: &layer.path,
                    shape: [layer.d_out, layer.d_in],
                    seed,
                });
                (layer.path.clone(), update)
            });
            Ok(MethodStart {
                updates: updates.collect(),
                ..MethodStart::default()
            })
        }
        Recipe::Basis { update, .. } => on_basis(config, base_model, description, seed, update),
    }
}

/// What PEFT calls the targets of a training file.
pub(super) fn target_modules(targets: &TargetModulesConfig) -> TargetModules {
    match targets {
        TargetModulesConfig::Names(names) => TargetModules::Names(names.clone()),
        TargetModulesConfig::Pattern(pattern) if pattern == "all-linear" => {
            TargetModules::AllLinear
        }
        TargetModulesConfig::Pattern(pattern) => TargetModules::Regex(pattern.clone()),
    }
}

/// The layers that the configuration names; by default queries and values, as in PEFT.
pub(crate) fn targeted<'d>(
    config: &AdapterConfig,
    architecture: &Architecture,
    description: &'d Description,
) -> Result<Vec<&'d LinearLayer>, TrainerError> {
    let targets = match &config.target_modules {
        Some(targets) => target_modules(targets),
        None => {
            let names = architecture.default_targets().iter();
            TargetModules::Names(names.map(|name| (*name).to_owned()).collect())
        }
    };
    let matcher = PeftConfig::lora("", 1, targets.clone(), &[], None, &BTreeMap::new())?;
    let layers: Vec<_> = description
        .layers
        .iter()
        .filter(|layer| matcher.targets(&layer.path, layer.head))
        .collect();
    if layers.is_empty() {
        return Err(TrainerError::NoTargets {
            targets: format!("{targets:?}"),
            example: description
                .layers
                .first()
                .map_or_else(String::new, |layer| layer.path.clone()),
        });
    }
    Ok(layers)
}
