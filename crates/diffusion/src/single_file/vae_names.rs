//! The names of a VAE's tensors: in files of the original layout, and in diffusers' form.

/// What diffusers calls a tensor.
///
/// - name: in the original layout, without `first_stage_model.`
/// - levels: of sizes
pub(super) fn diffusers_name(name: &str, levels: usize) -> Option<String> {
    let (path, tensor) = name.rsplit_once('.')?;
    let found = match path {
        "quant_conv" | "post_quant_conv" => path.to_owned(),
        _ => {
            let (side, rest) = path.split_once('.')?;
            let inner = match (side, rest) {
                (_, "conv_in" | "conv_out") => rest.to_owned(),
                (_, "norm_out") => "conv_norm_out".to_owned(),
                _ => path_in_block(side, rest, levels)?,
            };
            match side {
                "encoder" | "decoder" => format!("{side}.{inner}"),
                _ => return None,
            }
        }
    };
    Some(format!("{found}.{tensor}"))
}

fn path_in_block(side: &str, path: &str, levels: usize) -> Option<String> {
    let (way, rest) = path.split_once('.')?;
    if way == "mid" {
        let (place, layer) = rest.split_once('.')?;
        return match place {
            "block_1" => Some(format!("mid_block.resnets.0.{}", residual(layer))),
            "block_2" => Some(format!("mid_block.resnets.1.{}", residual(layer))),
            "attn_1" => Some(format!("mid_block.attentions.0.{}", attention(layer)?)),
            _ => None,
        };
    }
    let (level, rest) = rest.split_once('.')?;
    let level: usize = level.parse().ok()?;
    let block = match (side, way) {
        ("encoder", "down") => format!("down_blocks.{level}"),
        // Counted from the output on.
        ("decoder", "up") => format!("up_blocks.{}", levels.checked_sub(level + 1)?),
        _ => return None,
    };
    match rest {
        "downsample.conv" => Some(format!("{block}.downsamplers.0.conv")),
        "upsample.conv" => Some(format!("{block}.upsamplers.0.conv")),
        _ => {
            let (index, layer) = rest.strip_prefix("block.")?.split_once('.')?;
            Some(format!("{block}.resnets.{index}.{}", residual(layer)))
        }
    }
}

fn residual(layer: &str) -> &str {
    match layer {
        "nin_shortcut" => "conv_shortcut",
        _ => layer,
    }
}

fn attention(layer: &str) -> Option<&'static str> {
    Some(match layer {
        "norm" => "group_norm",
        "q" => "to_q",
        "k" => "to_k",
        "v" => "to_v",
        "proj_out" => "to_out.0",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_kind_are_those_of_diffusers() {
        for (original, expected) in [
            ("encoder.norm_out.bias", "encoder.conv_norm_out.bias"),
            (
                "encoder.down.2.block.1.nin_shortcut.weight",
                "encoder.down_blocks.2.resnets.1.conv_shortcut.weight",
            ),
            (
                "encoder.down.0.downsample.conv.bias",
                "encoder.down_blocks.0.downsamplers.0.conv.bias",
            ),
            (
                "decoder.up.3.upsample.conv.weight",
                "decoder.up_blocks.0.upsamplers.0.conv.weight",
            ),
            (
                "decoder.mid.attn_1.proj_out.weight",
                "decoder.mid_block.attentions.0.to_out.0.weight",
            ),
            ("quant_conv.bias", "quant_conv.bias"),
        ] {
            assert_eq!(diffusers_name(original, 4).as_deref(), Some(expected));
        }
        assert_eq!(diffusers_name("loss.discriminator.main.0.weight", 4), None);
    }
}
