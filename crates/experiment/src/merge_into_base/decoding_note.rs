//! What it means that the weights of a base model were decoded, or were not those of the training.

use eigenmix_adapter::PeftConfig;
use eigenmix_tensors::Dtype;

use super::base_checkpoint::BaseCheckpoint;

/// What a merge into decoded weights means; nothing if none were quantised.
pub(super) fn decoding_note(base: &BaseCheckpoint) -> Option<String> {
    let dtype = base.decoded_dtype()?;
    let kept = match dtype {
        Dtype::F32 => "f32, in which they are exact",
        Dtype::F16 => "f16",
        _ => "bf16",
    };
    Some(format!(
        "the weights of `{}` were decoded to {kept}, and the update was added to them: an adapter that was trained on this model acts as it did there, up to rounding to that dtype (--dtype chooses another). To have the quality of the model before its quantisation, merge into that: --merge-into-base ORIGINAL",
        base.path().display()
    ))
}

/// Says that an adapter was trained on quantised weights, where it is merged into others.
///
/// - weights: how the training says that it quantised the weights of its base model: the name of a precision,
///   "stored" if its file was quantised already
pub fn quantised_training_note(
    config: &PeftConfig,
    weights: Option<&str>,
    base: &BaseCheckpoint,
) -> Option<String> {
    if base.decoded_dtype().is_some() {
        return None;
    }
    let name = config.base_model().unwrap_or_default();
    let lower = name.to_lowercase();
    let marks = [".gguf", "bnb-4bit", "-4bit", "-8bit"];
    let is_named_so = marks.iter().any(|mark| lower.ends_with(mark));
    let how = match weights {
        Some("stored") => "weights in the form of its quantised file".to_owned(),
        Some(weights) => format!("weights in {weights}"),
        None if is_named_so => format!("the quantised `{name}`"),
        None => return None,
    };
    Some(format!(
        "the adapter was trained on {how} and is merged into weights that are not quantised: it makes up for errors of the quantisation that they do not have, so that results differ slightly from those of the training; measure before you rely on it"
    ))
}
