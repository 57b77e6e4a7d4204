//! The initial updates of a training.

use std::collections::BTreeMap;

use eigenmix_adapter::Source;
use eigenmix_eigenlorax::ModuleSpectra;
use eigenmix_models::{Architecture, Description};
use eigenmix_moslora::Update;

use super::definition::{FactorLayer, Recipe};
use super::on_basis::on_basis;
use super::target_layers::targeted;
use crate::TrainerError;
use crate::adapter_config::AdapterConfig;

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
