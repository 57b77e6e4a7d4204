//! EigenLoRAx: ΔW = s · U · C_B · C_Aᵀ · Vᵀ, coefficients on a frozen basis (arXiv 2502.04700).

use eigenmix_adapter::LoraModule;
use eigenmix_eigenlorax::decomposition::DecompositionError;
use eigenmix_eigenlorax::{Coefficients, EigenloraxError};
use eigenmix_moslora::{EigenloraxStart, Update, eigenlorax_scaling, flattened_scaling};

use super::definition::{BasisLayer, Definition, LayerSizes, Recipe, Started};
use crate::TrainerError;
use crate::init::Init;

pub(super) const EIGENLORAX: Definition = Definition {
    name: "eigenlorax",
    recipe: Recipe::Basis {
        update,
        starts_randomly: true,
    },
    trained,
    has_mixer: false,
};

/// r(p + q); on a flattened subspace p + q
fn trained(sizes: &LayerSizes) -> usize {
    let of_direction = sizes.flattened.map_or(sizes.rank, |_| 1);
    of_direction * (sizes.p + sizes.q)
}

pub(super) fn decomposition(path: &str, source: DecompositionError) -> TrainerError {
    let module = path.to_owned();
    EigenloraxError::Decomposition { module, source }.into()
}

fn update(layer: BasisLayer) -> Result<Update, TrainerError> {
    let (config, module) = (layer.config, layer.module);
    let [left, right] = module.side_by_side();
    let rank = match module.flattened {
        Some(flattened) => flattened.rank,
        None => config.rank.unwrap_or(1),
    };
    let (d_out, p) = (left.rows(), module.left.columns());
    let init = config.init();
    let scaling = match (&init, module.flattened) {
        // The authors' start has a size of its own, which a scaling would change.
        (Init::Random, _) => config.scaling(),
        (_, None) => eigenlorax_scaling(config.scaling(), d_out, p),
        (_, Some(_)) => flattened_scaling(config.scaling(), d_out, rank, p),
    };
    let given = |coefficients: Coefficients| EigenloraxStart::Coefficients {
        left: coefficients.left.scaled(1.0 / scaling.sqrt()),
        right: coefficients.right.scaled(1.0 / scaling.sqrt()),
    };
    let start = match (&init, layer.started) {
        (Init::Random, _) => EigenloraxStart::Random,
        (_, None) => EigenloraxStart::Zero,
        (_, Some(Started::Directions(coefficients))) => given(coefficients),
        (_, Some(Started::Mixer(mixer))) => {
            let folded: LoraModule = module.fold_mixer(&mixer);
            let coefficients = Coefficients::of(module, &folded);
            given(coefficients.map_err(|source| decomposition(layer.path, source))?)
        }
    };
    let made = match module.flattened {
        None => eigenmix_moslora::eigenlorax,
        Some(_) => eigenmix_moslora::flattened_eigenlorax,
    };
    Ok(made(
        layer.path,
        layer.seed,
        left,
        right,
        rank,
        scaling,
        config.dropout,
        start,
    ))
}
