//! Module paths of Stable Diffusion models in kohya's names, which write `_` for `.`.
//!
//! `lora_unet_mid_block_attentions_0_proj_in` does not say where its dots were. The modules of these
//! models are known, though, so a name that is one of them in exactly one way is read as its path;
//! any other name stays as it is. A name may follow diffusers (`down_blocks`) or the original code
//! (`input_blocks`), whose blocks number two resnets a level, as in every published model.

/// What stands before the name of a module, and the part of the pipeline that it means.
const PREFIXES: [(&str, &str); 4] = [
    ("lora_unet_", "unet"),
    ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"),
    ("lora_te_", "text_encoder"),
];

/// The layers of a transformer block and around it; `#` is a number.
const ATTENTION: [&str; 12] = [
    "proj_in",
    "proj_out",
    "transformer_blocks.#.attn1.to_q",
    "transformer_blocks.#.attn1.to_k",
    "transformer_blocks.#.attn1.to_v",
    "transformer_blocks.#.attn1.to_out.0",
    "transformer_blocks.#.attn2.to_q",
    "transformer_blocks.#.attn2.to_k",
    "transformer_blocks.#.attn2.to_v",
    "transformer_blocks.#.attn2.to_out.0",
    "transformer_blocks.#.ff.net.0.proj",
    "transformer_blocks.#.ff.net.2",
];

/// The layers of a resnet block, and their names in the original code.
const RESNET: [(&str, &str); 4] = [
    ("conv1", "in_layers.2"),
    ("conv2", "out_layers.3"),
    ("time_emb_proj", "emb_layers.1"),
    ("conv_shortcut", "skip_connection"),
];

/// The layers outside the blocks, and their names in the original code.
const OUTER: [(&str, &str); 6] = [
    ("conv_in", "input_blocks.0.0"),
    ("conv_out", "out.2"),
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
    ("add_embedding.linear_1", "label_emb.0.0"),
    ("add_embedding.linear_2", "label_emb.0.2"),
];

const BLOCKS: [&str; 3] = ["down_blocks.#", "up_blocks.#", "mid_block"];

const CLIP: [&str; 9] = [
    "text_model.encoder.layers.#.self_attn.q_proj",
    "text_model.encoder.layers.#.self_attn.k_proj",
    "text_model.encoder.layers.#.self_attn.v_proj",
    "text_model.encoder.layers.#.self_attn.out_proj",
    "text_model.encoder.layers.#.mlp.fc1",
    "text_model.encoder.layers.#.mlp.fc2",
    "text_model.embeddings.token_embedding",
    "text_model.embeddings.position_embedding",
    "text_projection",
];

/// The path of the module that a name means, if it surely means one.
pub(super) fn path_of(name: &str) -> Option<String> {
    let (prefix, part) = PREFIXES
        .iter()
        .find(|(prefix, _)| name.starts_with(prefix))?;
    let rest = &name[prefix.len()..];
    let mut paths = match *part {
        "unet" => unet_paths(rest),
        _ => CLIP
            .iter()
            .filter_map(|pattern| Some(matched(rest, pattern)?.path))
            .collect(),
    };
    match paths.len() {
        1 => Some(format!("{part}.{}", paths.pop()?)),
        _ => None,
    }
}

/// The name of the module at `path`, if reading it gives that path again. Text encoders are named
/// as where there may be two of them.
pub(super) fn name_of(path: &str) -> Option<String> {
    let (part, inner) = path.split_once('.')?;
    let (prefix, _) = PREFIXES.iter().find(|(_, known)| *known == part)?;
    let name = format!("{prefix}{}", inner.replace('.', "_"));
    (path_of(&name).as_deref() == Some(path)).then_some(name)
}

/// Every module of the UNet that `name` may mean, by its path in diffusers.
fn unet_paths(name: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (ours, original) in OUTER {
        if [ours, original]
            .iter()
            .any(|pattern| matched(name, pattern).is_some())
        {
            paths.push(ours.to_owned());
        }
    }
    for block in BLOCKS {
        let inner = ATTENTION.map(|layer| format!("{block}.attentions.#.{layer}"));
        let resnets = RESNET.map(|(layer, _)| format!("{block}.resnets.#.{layer}"));
        let sampling = ["downsamplers", "upsamplers"].map(|kind| format!("{block}.{kind}.#.conv"));
        let patterns = inner.iter().chain(&resnets).chain(&sampling);
        paths.extend(patterns.filter_map(|pattern| Some(matched(name, pattern)?.path)));
    }
    for block in ["input_blocks.#.#", "middle_block.#", "output_blocks.#.#"] {
        for layer in ATTENTION {
            let found = matched(name, &format!("{block}.{layer}"));
            paths.extend(found.and_then(|found| found.in_original(block, "attentions", layer)));
        }
        for (layer, original) in RESNET {
            let found = matched(name, &format!("{block}.{original}"));
            paths.extend(found.and_then(|found| found.in_original(block, "resnets", layer)));
        }
    }
    for (pattern, kind) in [
        ("input_blocks.#.0.op", "downsamplers"),
        ("output_blocks.#.#.conv", "upsamplers"),
    ] {
        let found = matched(name, pattern);
        paths.extend(found.and_then(|found| found.sampling(kind)));
    }
    paths
}

/// A name that fits a pattern: with its dots, and the numbers in it.
struct Matched {
    path: String,
    numbers: Vec<usize>,
}

fn matched(name: &str, pattern: &str) -> Option<Matched> {
    let mut rest = name;
    let mut path = Vec::new();
    let mut numbers = Vec::new();
    for (position, component) in pattern.split('.').enumerate() {
        if position > 0 {
            rest = rest.strip_prefix('_')?;
        }
        let length = match component {
            "#" => number_length(rest)?,
            literal if rest.starts_with(literal) => literal.len(),
            _ => return None,
        };
        let (found, after) = rest.split_at(length);
        if component == "#" {
            numbers.push(found.parse().ok()?);
        }
        path.push(found);
        rest = after;
    }
    let path = path.join(".");
    rest.is_empty().then_some(Matched { path, numbers })
}

/// The length of the number at the beginning, of at most four digits and written in one way.
fn number_length(text: &str) -> Option<usize> {
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    let is_number = (1..=4).contains(&length) && (length == 1 || !text.starts_with('0'));
    is_number.then_some(length)
}

impl Matched {
    /// The path in diffusers of a layer of a resnet or an attention.
    fn in_original(&self, block: &str, kind: &str, layer: &str) -> Option<String> {
        let position = usize::from(kind == "attentions");
        let (block, index, count) = match (block, self.numbers.as_slice()) {
            ("middle_block.#", &[1, ..]) if position == 1 => ("mid_block".to_owned(), 0, 1),
            ("middle_block.#", &[at @ (0 | 2), ..]) if position == 0 => {
                ("mid_block".to_owned(), at / 2, 1)
            }
            ("input_blocks.#.#", &[at, within, ..]) if at > 0 && within == position => {
                // The third of a level is where it is sampled down.
                let index = (at - 1) % 3;
                if index == 2 {
                    return None;
                }
                (format!("down_blocks.{}", (at - 1) / 3), index, 2)
            }
            ("output_blocks.#.#", &[at, within, ..]) if within == position => {
                (format!("up_blocks.{}", at / 3), at % 3, 2)
            }
            _ => return None,
        };
        let layer = match self.numbers.get(count) {
            Some(number) => layer.replacen('#', &number.to_string(), 1),
            None => layer.to_owned(),
        };
        Some(format!("{block}.{kind}.{index}.{layer}"))
    }

    /// The path in diffusers of the convolution that samples a level up or down.
    fn sampling(&self, kind: &str) -> Option<String> {
        match (kind, self.numbers.as_slice()) {
            ("downsamplers", &[at]) if at > 0 && at % 3 == 0 => {
                Some(format!("down_blocks.{}.downsamplers.0.conv", at / 3 - 1))
            }
            // Behind the resnet, and the attention where there is one.
            ("upsamplers", &[at, 1 | 2]) if at % 3 == 2 => {
                Some(format!("up_blocks.{}.upsamplers.0.conv", at / 3))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_after_diffusers_get_their_dots_back() {
        for (name, path) in [
            (
                "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0",
                "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0",
            ),
            (
                "lora_unet_mid_block_resnets_1_time_emb_proj",
                "unet.mid_block.resnets.1.time_emb_proj",
            ),
            (
                "lora_unet_up_blocks_0_upsamplers_0_conv",
                "unet.up_blocks.0.upsamplers.0.conv",
            ),
            (
                "lora_te1_text_model_encoder_layers_11_self_attn_q_proj",
                "text_encoder.text_model.encoder.layers.11.self_attn.q_proj",
            ),
            ("lora_te2_text_projection", "text_encoder_2.text_projection"),
        ] {
            assert_eq!(path_of(name).as_deref(), Some(path));
            assert_eq!(name_of(path).as_deref(), Some(name));
        }
        assert_eq!(
            path_of("lora_te_text_model_encoder_layers_0_mlp_fc1").as_deref(),
            Some("text_encoder.text_model.encoder.layers.0.mlp.fc1")
        );
    }

    #[test]
    fn names_after_the_original_code_are_those_of_diffusers() {
        // As diffusers' own conversion has them, for SDXL.
        for (name, path) in [
            (
                "lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_k",
                "unet.down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k",
            ),
            (
                "lora_unet_middle_block_1_proj_in",
                "unet.mid_block.attentions.0.proj_in",
            ),
            (
                "lora_unet_middle_block_2_in_layers_2",
                "unet.mid_block.resnets.1.conv1",
            ),
            (
                "lora_unet_output_blocks_5_1_transformer_blocks_0_ff_net_0_proj",
                "unet.up_blocks.1.attentions.2.transformer_blocks.0.ff.net.0.proj",
            ),
            (
                "lora_unet_output_blocks_2_2_conv",
                "unet.up_blocks.0.upsamplers.0.conv",
            ),
            (
                "lora_unet_input_blocks_3_0_op",
                "unet.down_blocks.0.downsamplers.0.conv",
            ),
            (
                "lora_unet_input_blocks_7_0_skip_connection",
                "unet.down_blocks.2.resnets.0.conv_shortcut",
            ),
        ] {
            assert_eq!(path_of(name).as_deref(), Some(path), "{name}");
        }
    }

    #[test]
    fn every_module_of_a_small_model_is_found_where_diffusers_finds_it() {
        // tests/golden/dialects/make.py says how it was made.
        let text = include_str!("../../tests/golden/dialects/names.json");
        let known: std::collections::BTreeMap<String, String> = serde_json::from_str(text).unwrap();
        for (name, path) in known {
            assert_eq!(path_of(&name), Some(path), "{name}");
        }
    }

    #[test]
    fn a_name_of_another_model_is_not_guessed() {
        for name in [
            "lora_unet_double_blocks_0_img_attn_qkv",
            "lora_unet_input_blocks_3_1_proj_in",
            "lora_unet_down_blocks_01_attentions_0_proj_in",
            "lora_unet_down_blocks_0_attentions_0_proj_in_extra",
            "lora_te3_encoder_block_0_layer_0",
            "lora_unet_",
        ] {
            assert_eq!(path_of(name), None, "{name}");
        }
        assert_eq!(name_of("unet.down_blocks.0.custom_layer"), None);
        assert_eq!(
            name_of("transformer.single_transformer_blocks.0.attn.to_q"),
            None
        );
    }
}
