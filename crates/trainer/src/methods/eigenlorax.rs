//! EigenLoRAx: ΔW = s · U · C_B · C_Aᵀ · Vᵀ, coefficients on a frozen basis (arXiv 2502.04700).

use eigenmix_adapter::LoraModule;
use eigenmix_eigenlorax::{Coefficients, EigenloraxError};
use eigenmix_moslora::{EigenloraxStart, Update, eigenlorax_scaling};

use super::definition::{BasisLayer, Definition, LayerSizes, Recipe};
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

/// r(p + q)
fn trained(sizes: &LayerSizes) -> usize {
    sizes.rank * (sizes.p + sizes.q)
}

fn update(layer: BasisLayer) -> Result<Update, TrainerError> {
    let (config, module) = (layer.config, layer.module);
    let (left, right) = (
        module.left.vectors().clone(),
        module.right.vectors().clone(),
    );
    let (rank, d_out, p) = (config.rank.unwrap_or(1), left.rows(), left.cols());
    let init = config.init();
    let scaling = match init {
        // The authors' start has a size of its own, which a scaling would change.
        Init::Random => config.scaling(),
        _ => eigenlorax_scaling(config.scaling(), d_out, p),
    };
    let start = match (&init, layer.started) {
        (Init::Random, _) => EigenloraxStart::Random,
        (_, None) => EigenloraxStart::Zero,
        (_, Some(mixer)) => {
            let folded: LoraModule = module.fold_mixer(&mixer);
            let coefficients = Coefficients::of(module, &folded).map_err(|source| {
                EigenloraxError::Decomposition {
                    module: layer.path.to_owned(),
                    source,
                }
            })?;
            EigenloraxStart::Coefficients {
                left: coefficients.left.scaled(1.0 / scaling.sqrt()),
                right: coefficients.right.scaled(1.0 / scaling.sqrt()),
            }
        }
    };
    Ok(eigenmix_moslora::eigenlorax(
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
