//! The initial updates of a training.

use std::collections::BTreeMap;

use eigenmix_adapter::Source;
use eigenmix_eigenlorax::ModuleSpectra;
use eigenmix_moslora::Update;

use super::basis_source::BasisSource;
use super::compose;
use super::definition::{FactorLayer, Recipe};
use super::initial_adapter::InitialAdapter;
use super::on_basis::on_basis;
use super::target_layers::{is_of_tower, targeted};
use crate::TrainerError;
use crate::adapter_config::AdapterConfig;

/// The initial updates of a method, by module path of the base model.
#[derive(Default)]
pub(crate) struct MethodStart {
    pub updates: BTreeMap<String, Update>,
    /// The adapters that were recycled.
    pub sources: Vec<Source>,
    /// The files that the frozen basis is made of.
    pub basis: Vec<Source>,
    /// The adapter whose factors or whose projection the updates are.
    pub started_from: Option<Source>,
    /// Of a composition: the adapters of the weights of every module, as indices into `sources`.
    pub members: BTreeMap<String, Vec<usize>>,
    /// The variances of the components in use, by module; for methods with a basis.
    pub spectra: BTreeMap<String, ModuleSpectra>,
    /// Notes for the user: fewer components than requested, modules left out.
    pub notes: Vec<String>,
    /// The adapter that the training goes on from, for its head and its input.
    pub initial: Option<InitialAdapter>,
    /// The options of the training, where some come from that adapter.
    pub settled: Option<AdapterConfig>,
}

/// Prepares the updates of every adapted module.
///
/// # Errors
/// If the targets match no layer, or the subspace or an adapter does not fit the base model.
pub(crate) fn start(source: &BasisSource) -> Result<MethodStart, TrainerError> {
    let BasisSource {
        config,
        base,
        description,
        seed,
        ..
    } = *source;
    match config.method.definition().recipe {
        Recipe::Everything => Ok(MethodStart::default()),
        Recipe::Factors { update } => {
            if let Some(initial) = InitialAdapter::open(&config.init(), base)? {
                return initial.start(config, (base, description), seed, update);
            }
            let layers = targeted(config, base, description)?;
            let tower = config.vision.as_ref().map(|vision| vision.of(config));
            if tower.is_some() && !layers.iter().any(|layer| is_of_tower(&layer.path)) {
                return Err(TrainerError::Method {
                    key: "adapter.vision",
                    method: config.method.name(),
                    reason:
                        "no layer of a tower is adapted; name some in adapter.target_modules, or \
                             leave it out"
                            .to_owned(),
                });
            }
            let updates = layers.into_iter().map(|layer| {
                let (config, update) = match &tower {
                    Some(tower) if is_of_tower(&layer.path) => {
                        let recipe = tower.method.definition().recipe;
                        let Recipe::Factors { update } = recipe else {
                            unreachable!("the options of a tower are checked")
                        };
                        (tower, update)
                    }
                    _ => (config, update),
                };
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
        Recipe::Basis { update, .. } => on_basis(source, update),
        Recipe::Composition => compose::start(source),
    }
}
