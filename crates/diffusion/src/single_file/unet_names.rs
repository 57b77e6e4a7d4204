//! The names of a UNet's tensors: in files of the original layout, and in diffusers' form.

/// What diffusers calls a tensor.
///
/// - name: in the original layout, without `model.diffusion_model.`
/// - layers: residual blocks of each block on the way down
pub(super) fn diffusers_name(name: &str, layers: usize) -> Option<String> {
    const WHOLE: [(&str, &str); 7] = [
        ("time_embed.0", "time_embedding.linear_1"),
        ("time_embed.2", "time_embedding.linear_2"),
        ("label_emb.0.0", "add_embedding.linear_1"),
        ("label_emb.0.2", "add_embedding.linear_2"),
        ("input_blocks.0.0", "conv_in"),
        ("out.0", "conv_norm_out"),
        ("out.2", "conv_out"),
    ];
    let (path, tensor) = name.rsplit_once('.')?;
    let whole = WHOLE.iter().find(|(original, _)| *original == path);
    let found = match whole {
        Some((_, found)) => (*found).to_owned(),
        None => path_in_block(path, layers)?,
    };
    Some(format!("{found}.{tensor}"))
}

fn path_in_block(path: &str, layers: usize) -> Option<String> {
    let (way, rest) = path.split_once('.')?;
    let (index, rest) = rest.split_once('.')?;
    let index: usize = index.parse().ok()?;
    if way == "middle_block" {
        return match index {
            0 | 2 => residual(&format!("mid_block.resnets.{}", index / 2), rest),
            1 => Some(format!("mid_block.attentions.0.{rest}")),
            _ => None,
        };
    }
    let (place, inner) = rest.split_once('.')?;
    // Each block has its residual blocks and a change of size.
    let (block, layer) = match way {
        "input_blocks" => {
            let index = index.checked_sub(1)?;
            (index / (layers + 1), index % (layers + 1))
        }
        "output_blocks" => (index / (layers + 1), index % (layers + 1)),
        _ => return None,
    };
    match (way, place, inner) {
        ("input_blocks", "0", "op") => Some(format!("down_blocks.{block}.downsamplers.0.conv")),
        // Behind the attention, if the block has it.
        ("output_blocks", "1" | "2", "conv") => {
            Some(format!("up_blocks.{block}.upsamplers.0.conv"))
        }
        ("input_blocks", "0", _) => {
            residual(&format!("down_blocks.{block}.resnets.{layer}"), inner)
        }
        ("output_blocks", "0", _) => residual(&format!("up_blocks.{block}.resnets.{layer}"), inner),
        ("input_blocks", "1", _) => Some(format!("down_blocks.{block}.attentions.{layer}.{inner}")),
        ("output_blocks", "1", _) => Some(format!("up_blocks.{block}.attentions.{layer}.{inner}")),
        _ => None,
    }
}

fn residual(path: &str, inner: &str) -> Option<String> {
    let layer = match inner {
        "in_layers.0" => "norm1",
        "in_layers.2" => "conv1",
        "emb_layers.1" => "time_emb_proj",
        "out_layers.0" => "norm2",
        "out_layers.3" => "conv2",
        "skip_connection" => "conv_shortcut",
        _ => return None,
    };
    Some(format!("{path}.{layer}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_kind_are_those_of_diffusers() {
        for (original, expected) in [
            ("input_blocks.0.0.weight", "conv_in.weight"),
            (
                "input_blocks.4.0.in_layers.2.bias",
                "down_blocks.1.resnets.0.conv1.bias",
            ),
            (
                "input_blocks.5.1.transformer_blocks.0.attn2.to_k.weight",
                "down_blocks.1.attentions.1.transformer_blocks.0.attn2.to_k.weight",
            ),
            (
                "input_blocks.6.0.op.weight",
                "down_blocks.1.downsamplers.0.conv.weight",
            ),
            (
                "middle_block.2.emb_layers.1.bias",
                "mid_block.resnets.1.time_emb_proj.bias",
            ),
            (
                "output_blocks.2.1.conv.weight",
                "up_blocks.0.upsamplers.0.conv.weight",
            ),
            (
                "output_blocks.5.2.conv.bias",
                "up_blocks.1.upsamplers.0.conv.bias",
            ),
            (
                "output_blocks.11.0.skip_connection.bias",
                "up_blocks.3.resnets.2.conv_shortcut.bias",
            ),
            ("label_emb.0.2.weight", "add_embedding.linear_2.weight"),
        ] {
            assert_eq!(diffusers_name(original, 2).as_deref(), Some(expected));
        }
        assert_eq!(diffusers_name("input_hint_block.0.weight", 2), None);
    }
}
