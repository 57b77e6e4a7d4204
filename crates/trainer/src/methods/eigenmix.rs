//! eigenmix: ΔW = s · U · M · Vᵀ with a full mixer M on a frozen basis.

use eigenmix_moslora::{Update, eigenmix_scaling};

use super::definition::{BasisLayer, Definition, LayerSizes, Recipe, Started};
use crate::TrainerError;

pub(super) const EIGENMIX: Definition = Definition {
    name: "eigenmix",
    recipe: Recipe::Basis {
        update,
        starts_randomly: false,
    },
    trained,
    has_mixer: false,
};

/// p · q
fn trained(sizes: &LayerSizes) -> usize {
    sizes.p * sizes.q
}

fn update(layer: BasisLayer) -> Result<Update, TrainerError> {
    let (config, module) = (layer.config, layer.module);
    let (left, right) = (
        module.left.vectors().clone(),
        module.right.vectors().clone(),
    );
    let (rank, d_out) = (config.rank.unwrap_or(1), left.rows());
    let scaling = eigenmix_scaling(config.scaling(), d_out, rank, left.cols(), right.cols());
    Ok(eigenmix_moslora::eigenmix(
        left,
        right,
        scaling,
        config.dropout,
        match layer.started {
            Some(Started::Mixer(mixer)) => Some(mixer),
            Some(Started::Directions(_)) | None => None,
        },
    ))
}
