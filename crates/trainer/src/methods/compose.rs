//! Composition: ΔW = Σ_t w_t ΔW_t, of which only the weights of the adapters are trained.

use std::collections::BTreeMap;

use eigenmix_adapter::{AdapterSet, LoadedAdapter, LoraModule};
use eigenmix_eigenlorax::EigenloraxError;
use eigenmix_moslora::{Update, compose};

use super::basis_source::{BasisSource, read};
use super::definition::{Definition, LayerSizes, Recipe};
use super::on_basis::check_base;
use super::start::MethodStart;
use super::target_layers::on_modules;
use crate::TrainerError;
use crate::adapter_config::AdapterConfig;
use crate::composition_config::WeightScope;
use crate::init::Init;

/// The scaling of the update, in units of which the weights are trained.
const SCALING: f32 = 5.0;

pub(super) const COMPOSE: Definition = Definition {
    name: "compose",
    recipe: Recipe::Composition,
    trained,
    has_mixer: false,
};

/// One for each adapter.
fn trained(sizes: &LayerSizes) -> usize {
    sizes.adapters
}

/// The updates of every module of the adapters that the base model has and the targets name.
///
/// # Errors
/// If an adapter cannot be read, they do not belong together, or they do not fit the base model.
pub(super) fn start(source: &BasisSource) -> Result<MethodStart, TrainerError> {
    let BasisSource {
        config,
        base,
        description,
        ..
    } = *source;
    let names = config.adapters.iter();
    let adapters: Vec<LoadedAdapter> = names
        .map(|name| read(name, Some(base)))
        .collect::<Result<_, _>>()?;
    let set =
        AdapterSet::new(&adapters, config.allow_base_mismatch).map_err(EigenloraxError::from)?;
    let mut notes = Vec::new();
    check_base(config, base, set.base_model(), &mut notes)?;
    let modules = set.modules().iter().map(|(path, _)| path.as_str());
    let targets = on_modules(config, description, modules)?;
    let weights = vec![initial_weight(config); adapters.len()];
    let mut members_of = BTreeMap::new();
    let (mut updates, mut foreign, mut biased) = (BTreeMap::new(), Vec::new(), Vec::new());
    for (path, members) in set.modules() {
        let Some(layer) = description.layer(path) else {
            foreign.push(path.as_str());
            continue;
        };
        if !targets.iter().any(|target| target.path == layer.path) {
            continue;
        }
        if members.shape != [layer.d_out, layer.d_in] {
            return Err(TrainerError::AdapterShape {
                adapter: adapters[members.adapters[0]].source.location.clone(),
                module: path.clone(),
                found: members.shape,
                expected: [layer.d_out, layer.d_in],
            });
        }
        let found = set.updates(path, members);
        let found: Vec<_> = found
            .collect::<Result<_, _>>()
            .map_err(EigenloraxError::from)?;
        let found: Vec<(usize, &LoraModule)> = found
            .iter()
            .map(|(index, module)| (*index, &**module))
            .collect();
        let with_bias = found.iter().filter(|(_, module)| {
            let mut bias = module.bias.iter().flatten();
            bias.any(|value| *value != 0.0)
        });
        biased.extend(with_bias.map(|(index, _)| *index));
        let own = match config.composition() {
            WeightScope::Adapter => (0..adapters.len()).collect(),
            WeightScope::Module => members.adapters.clone(),
        };
        members_of.insert(layer.path.clone(), own);
        updates.insert(layer.path.clone(), update(config, &found, &weights));
    }
    if updates.is_empty() {
        let own = description.layers.first();
        return Err(TrainerError::ForeignAdapters {
            found: foreign.first().copied().unwrap_or_default().to_owned(),
            expected: own.map_or_else(String::new, |layer| layer.path.clone()),
        });
    }
    if let Some(first) = foreign.first() {
        notes.push(format!(
            "{} of the adapters' modules, such as `{first}`, are not in the base model",
            foreign.len()
        ));
    }
    biased.sort_unstable();
    biased.dedup();
    for index in biased {
        notes.push(format!(
            "the biases that `{}` adds to its updates are left out of the composition",
            adapters[index].source.location
        ));
    }
    notes.extend(source.whole_modules_note(&adapters));
    let sources: Vec<_> = adapters.into_iter().map(|adapter| adapter.source).collect();
    Ok(MethodStart {
        updates,
        basis: sources.clone(),
        sources,
        members: members_of,
        notes,
        ..MethodStart::default()
    })
}

/// The composition of one module: of the weights those of all adapters if modules share them, otherwise
/// those of the adapters that have it.
///
/// - members: the updates, with the index of their adapter
/// - weights: of all adapters
fn update(config: &AdapterConfig, members: &[(usize, &LoraModule)], weights: &[f32]) -> Update {
    match config.composition() {
        WeightScope::Adapter => compose(members, weights, true, SCALING, config.dropout),
        WeightScope::Module => {
            let own: Vec<f32> = members
                .iter()
                .map(|(adapter, _)| weights[*adapter])
                .collect();
            let modules = members.iter().map(|(_, module)| *module);
            let members: Vec<_> = modules.enumerate().collect();
            compose(&members, &own, false, SCALING, config.dropout)
        }
    }
}

/// What every weight starts at.
fn initial_weight(config: &AdapterConfig) -> f32 {
    match config.init() {
        Init::Merge => 1.0 / config.adapters.len() as f32,
        _ => 0.0,
    }
}
