//! MoSLoRA: ΔW = s · B · W · A with a mixer W (arXiv 2406.11909).

use super::definition::{Definition, FactorLayer, LayerSizes, Recipe};

pub(super) const MOSLORA: Definition = Definition {
    name: "moslora",
    recipe: Recipe::Factors { update },
    trained,
    has_mixer: true,
};

/// r(d_in + d_out + r)
fn trained(sizes: &LayerSizes) -> usize {
    sizes.rank * (sizes.d_in + sizes.d_out + sizes.rank)
}

fn update(layer: &FactorLayer) -> eigenmix_moslora::Update {
    let config = layer.config;
    let (rank, scaling) = (config.rank.unwrap_or(1), config.scaling());
    let mixer = config.mixer.unwrap_or_default();
    let update = eigenmix_moslora::moslora(
        layer.path,
        layer.seed,
        layer.shape,
        rank,
        scaling,
        config.dropout,
        mixer,
    );
    layer.started(update)
}
