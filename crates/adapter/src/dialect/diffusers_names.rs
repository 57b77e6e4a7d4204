//! The spellings that diffusers has had for the tensors of a LoRA.

/// The parts of pipelines that adapters are made for.
pub(super) const PARTS: [&str; 9] = [
    "unet",
    "transformer",
    "transformer_2",
    "text_encoder",
    "text_encoder_2",
    "text_encoder_3",
    "prior",
    "controlnet",
    "vae",
];

/// Blocks with which a path begins in the oldest files, which are of a UNet alone.
const BARE_UNET: [&str; 3] = ["down_blocks", "mid_block", "up_blocks"];

/// The layers of an attention that the oldest files name with `_lora`: there, in a UNet, and in a
/// text encoder.
const OLD_LAYERS: [(&str, &str, &str); 4] = [
    ("to_q", "to_q", "q_proj"),
    ("to_k", "to_k", "k_proj"),
    ("to_v", "to_v", "v_proj"),
    ("to_out", "to_out.0", "out_proj"),
];

/// What a tensor is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Down,
    Up,
    Alpha,
    /// Another method, or an extra that it has.
    Other(&'static str),
}

const ENDINGS: [(&str, Kind); 12] = [
    (".lora_A.weight", Kind::Down),
    (".lora_B.weight", Kind::Up),
    (".lora.down.weight", Kind::Down),
    (".lora.up.weight", Kind::Up),
    (".lora_linear_layer.down.weight", Kind::Down),
    (".lora_linear_layer.up.weight", Kind::Up),
    ("_lora.down.weight", Kind::Down),
    ("_lora.up.weight", Kind::Up),
    (".alpha", Kind::Alpha),
    (".lora_magnitude_vector", Kind::Other("DoRA")),
    (".lora_magnitude_vector.weight", Kind::Other("DoRA")),
    (".lora_B.bias", Kind::Other("LoRA with a bias of B")),
];

/// The path of the module of a tensor, with the part of the pipeline in front, and what the tensor
/// is; nothing, if it is no name of diffusers.
pub(super) fn parse(key: &str) -> Option<(String, Kind)> {
    let first = key.split('.').next()?;
    let key = match () {
        () if PARTS.contains(&first) => key.to_owned(),
        () if BARE_UNET.contains(&first) => format!("unet.{key}"),
        () => return None,
    };
    let (ending, kind) = ENDINGS.iter().find(|(ending, _)| key.ends_with(ending))?;
    let stem = &key[..key.len() - ending.len()];
    let path = stem.replace(".processor.", ".");
    if !ending.starts_with('_') {
        return Some((path, *kind));
    }
    let (attention, layer) = path.rsplit_once('.')?;
    let (_, in_unet, in_text) = OLD_LAYERS.iter().find(|(old, _, _)| *old == layer)?;
    let layer = match path.starts_with("text_encoder") {
        true => in_text,
        false => in_unet,
    };
    Some((format!("{attention}.{layer}"), *kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_the_same_module() {
        let query = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q";
        let output = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0";
        let block = "mid_block.attentions.0.transformer_blocks.0.attn1";
        let text = "text_encoder.text_model.encoder.layers.0.self_attn";
        let text_query = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj";
        let text_output = "text_encoder.text_model.encoder.layers.0.self_attn.out_proj";
        for (key, path, kind) in [
            (format!("{query}.lora_A.weight"), query, Kind::Down),
            (format!("{query}.lora.up.weight"), query, Kind::Up),
            (
                format!("unet.{block}.processor.to_q_lora.down.weight"),
                query,
                Kind::Down,
            ),
            (
                format!("{block}.processor.to_out_lora.up.weight"),
                output,
                Kind::Up,
            ),
            (format!("{output}.lora.down.weight"), output, Kind::Down),
            (format!("{text}.to_q_lora.up.weight"), text_query, Kind::Up),
            (
                format!("{text}.to_out_lora.down.weight"),
                text_output,
                Kind::Down,
            ),
            (
                format!("{text}.q_proj.lora_linear_layer.up.weight"),
                text_query,
                Kind::Up,
            ),
            (format!("{query}.alpha"), query, Kind::Alpha),
        ] {
            assert_eq!(parse(&key), Some((path.to_owned(), kind)), "{key}");
        }
    }

    #[test]
    fn names_of_other_programs_are_not_taken_for_diffusers() {
        for key in [
            "base_model.model.unet.to_q.lora_A.weight",
            "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight",
            "model.layers.0.self_attn.q_proj.lora_a",
            "unet.conv_in.weight",
        ] {
            assert_eq!(parse(key), None, "{key}");
        }
    }
}
