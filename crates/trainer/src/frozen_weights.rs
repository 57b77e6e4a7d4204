//! What the frozen weights of a base model take in memory.

use eigenmix_models::{
    Architecture, Checkpoint, Description, HeadKind, LinearLayer, ModelError, ModelPart, Precision,
    TensorSizes,
};
use serde_json::Value;

/// Bytes of a value in f32.
const WIDE: u64 = size_of::<f32>() as u64;

/// The bytes of everything that is frozen on the CPU.
///
/// Without weights at hand, by what the configuration says of them.
///
/// - is_built: whether a layer or a tensor is in the model
pub(crate) fn frozen_weights(
    checkpoint: &Checkpoint,
    architecture: &Architecture,
    head: HeadKind,
    description: &Description,
    precision: Precision,
    is_built: &dyn Fn(&str) -> bool,
) -> Result<u64, ModelError> {
    let is_frozen =
        |layer: &&LinearLayer| !(layer.head && head.is_of_task()) && is_built(&layer.path);
    let layers = || description.layers.iter().filter(is_frozen);
    if checkpoint.names().next().is_none() {
        let of_layers: usize = layers().map(LinearLayer::parameters).sum();
        let heads = description.layers.iter().filter(|layer| !is_frozen(layer));
        let trained: usize = heads.map(LinearLayer::parameters).sum();
        let rest = description.parameters - of_layers - trained;
        return Ok(Said::of(checkpoint.config(), precision).bytes(layers(), rest));
    }
    let sizes = TensorSizes::of(checkpoint, architecture, head)?;
    let of_task = |part| part == ModelPart::Head && head.is_of_task();
    let tensors = sizes.0.iter().filter(|tensor| !of_task(tensor.part));
    let tensors = tensors.filter(|tensor| is_built(&tensor.name));
    let held: u64 = tensors.map(|tensor| tensor.held(precision)).sum();
    // What an adapter brings or a copy of a tied table, both in f32.
    let is_missing = |layer: &&LinearLayer| {
        let name = format!("{}.weight", layer.path);
        checkpoint.find(&name, description.prefix).is_none()
    };
    let missing: usize = layers()
        .filter(is_missing)
        .map(LinearLayer::parameters)
        .sum();
    Ok(held + WIDE * missing as u64)
}

/// What a configuration says of weights that are not at hand.
pub(crate) struct Said {
    /// Bytes of a value of what is not quantised.
    value: u64,
    /// How layers are quantised, there or while they are loaded.
    layers: Option<Precision>,
}

impl Said {
    pub fn of(json: &Value, precision: Precision) -> Self {
        let field = |name: &str| json.get(name).filter(|found| !found.is_null());
        let dtype = field("dtype").or_else(|| field("torch_dtype"));
        let is_half = matches!(dtype.and_then(Value::as_str), Some("bfloat16" | "float16"));
        let scheme = field("quantization_config").or_else(|| field("quantization"));
        let stored = scheme.map(|scheme| {
            let has = |name: &str| scheme.get(name).and_then(Value::as_bool) == Some(true);
            let is_eight =
                has("load_in_8bit") || scheme.get("bits").and_then(Value::as_u64) == Some(8);
            if is_eight {
                Precision::Int8
            } else {
                Precision::Nf4
            }
        });
        let layers = match precision {
            Precision::Float32 => None,
            Precision::Auto | Precision::Stored => stored,
            Precision::Nf4 | Precision::Int8 => Some(stored.unwrap_or(precision)),
        };
        let keeps_halves = match precision {
            Precision::Float32 => false,
            Precision::Auto => stored.is_some(),
            Precision::Stored | Precision::Nf4 | Precision::Int8 => true,
        };
        let value = if is_half && keeps_halves {
            WIDE / 2
        } else {
            WIDE
        };
        Self { value, layers }
    }

    /// - rest: parameters outside of linear layers
    pub fn bytes<'a>(&self, layers: impl Iterator<Item = &'a LinearLayer>, rest: usize) -> u64 {
        let of_layer = |layer: &LinearLayer| {
            let shape = [layer.d_out, layer.d_in];
            let quantised = match (self.layers, layer.head) {
                (Some(precision), false) => precision.quantised_size(shape),
                _ => None,
            };
            match quantised {
                Some(bytes) => {
                    let bias = layer.parameters() - layer.d_out * layer.d_in;
                    bytes as u64 + WIDE * bias as u64
                }
                None => self.value * layer.parameters() as u64,
            }
        };
        layers.map(of_layer).sum::<u64>() + self.value * rest as u64
    }
}
