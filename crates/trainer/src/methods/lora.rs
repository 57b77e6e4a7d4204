//! LoRA: ΔW = s · B · A (arXiv 2106.09685).

use super::definition::{Definition, FactorLayer, LayerSizes, Recipe};

pub(super) const LORA: Definition = Definition {
    name: "lora",
    recipe: Recipe::Factors { update },
    trained,
    has_mixer: false,
};

/// r(d_in + d_out)
fn trained(sizes: &LayerSizes) -> usize {
    sizes.rank * (sizes.d_in + sizes.d_out)
}

fn update(layer: &FactorLayer) -> eigenmix_moslora::Update {
    let config = layer.config;
    let (rank, scaling) = (config.rank.unwrap_or(1), config.scaling());
    let update = eigenmix_moslora::lora(
        layer.path,
        layer.seed,
        layer.shape,
        rank,
        scaling,
        config.dropout,
    );
    layer.started(update)
}
