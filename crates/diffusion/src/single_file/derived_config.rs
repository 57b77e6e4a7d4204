//! The configurations of parts, by what their tensors show. What they cannot show is as in every published
//! model of the kind.

use eigenmix_tensors::TensorFile;
use serde_json::{Value, json};

use super::Layout;

/// The shape of a tensor that a part must have.
fn shape<'a>(tensors: &'a TensorFile, name: &str) -> Result<&'a [usize], String> {
    let found = tensors.shape(name).ok();
    found.ok_or_else(|| format!("`{name}` (as diffusers calls it) is missing"))
}

/// A dimension of it.
fn dimension(tensors: &TensorFile, name: &str, axis: usize) -> Result<usize, String> {
    let shape = shape(tensors, name)?;
    let found = shape.get(axis).copied();
    found.ok_or_else(|| format!("`{name}` (as diffusers calls it) has the shape {shape:?}"))
}

/// How many of these names there are, from 0 on.
fn count(tensors: &TensorFile, name: impl Fn(usize) -> String) -> usize {
    (0..)
        .take_while(|&index| tensors.contains(&name(index)))
        .count()
}

/// `config.json` of a UNet.
///
/// - tensors: by diffusers' names
pub(super) fn unet(tensors: &TensorFile, layout: Layout) -> Result<Value, String> {
    let first = |block: usize| format!("down_blocks.{block}.resnets.0.conv1.weight");
    let blocks = count(tensors, first);
    let channels: Vec<usize> = (0..blocks)
        .map(|block| dimension(tensors, &first(block), 0))
        .collect::<Result<_, _>>()?;
    let attention = |block: usize| format!("down_blocks.{block}.attentions.0");
    let has_attention =
        |path: &str| tensors.contains(&format!("{path}.transformer_blocks.0.norm1.weight"));
    let depth = |path: &str| {
        count(tensors, |index| {
            format!("{path}.transformer_blocks.{index}.norm1.weight")
        })
    };
    let middle = "mid_block.attentions.0";
    let depths: Vec<usize> = (0..blocks)
        .map(|block| match has_attention(&attention(block)) {
            true => depth(&attention(block)),
            // The last one's is that of the middle as well.
            false if block + 1 == blocks => depth(middle).max(1),
            false => 1,
        })
        .collect();
    let mut all = (0..blocks).map(attention).chain([middle.to_owned()]);
    let some = all.find(|path| has_attention(path));
    let some = some.ok_or("the UNet has no attention")?;
    let is_linear = shape(tensors, &format!("{some}.proj_in.weight"))?.len() == 2;
    let key = format!("{some}.transformer_blocks.0.attn2.to_k.weight");
    let heads: Vec<usize> = channels
        .iter()
        .map(|channels| match is_linear {
            // Heads of 64 channels in models of today, 8 heads in those of 2022.
            true => (channels / 64).max(1),
            false => 8,
        })
        .collect();
    let kind = |block: usize, way: &str| match has_attention(&attention(block)) {
        true => format!("CrossAttn{way}Block2D"),
        false => format!("{way}Block2D"),
    };
    let mut config = json!({
        "_class_name": "UNet2DConditionModel",
        "in_channels": dimension(tensors, "conv_in.weight", 1)?,
        "out_channels": dimension(tensors, "conv_out.weight", 0)?,
        "block_out_channels": channels,
        "layers_per_block": count(tensors, |layer| format!("down_blocks.0.resnets.{layer}.conv1.weight")),
        "down_block_types": (0..blocks).map(|block| kind(block, "Down")).collect::<Vec<_>>(),
        "up_block_types": (0..blocks).rev().map(|block| kind(block, "Up")).collect::<Vec<_>>(),
        "transformer_layers_per_block": depths,
        "attention_head_dim": heads,
        "cross_attention_dim": dimension(tensors, &key, 1)?,
        "use_linear_projection": is_linear,
        "sample_size": layout.sample_size(),
    });
    let added = "add_embedding.linear_1.weight";
    if tensors.contains(added) {
        config["addition_embed_type"] = json!("text_time");
        config["addition_time_embed_dim"] = json!(256);
        config["projection_class_embeddings_input_dim"] = json!(dimension(tensors, added, 1)?);
    }
    Ok(config)
}

/// `config.json` of a VAE.
///
/// - tensors: by diffusers' names
pub(super) fn vae(tensors: &TensorFile, layout: Layout) -> Result<Value, String> {
    let first = |level: usize| format!("encoder.down_blocks.{level}.resnets.0.conv1.weight");
    let levels = count(tensors, first);
    let channels: Vec<usize> = (0..levels)
        .map(|level| dimension(tensors, &first(level), 0))
        .collect::<Result<_, _>>()?;
    Ok(json!({
        "_class_name": "AutoencoderKL",
        "in_channels": dimension(tensors, "encoder.conv_in.weight", 1)?,
        "out_channels": dimension(tensors, "decoder.conv_out.weight", 0)?,
        "latent_channels": dimension(tensors, "decoder.conv_in.weight", 1)?,
        "block_out_channels": channels,
        "layers_per_block": count(tensors, |layer| format!("encoder.down_blocks.0.resnets.{layer}.conv1.weight")),
        "down_block_types": vec!["DownEncoderBlock2D"; levels],
        "up_block_types": vec!["UpDecoderBlock2D"; levels],
        "mid_block_add_attention": tensors.contains("encoder.mid_block.attentions.0.to_q.weight"),
        "use_quant_conv": tensors.contains("quant_conv.weight"),
        "use_post_quant_conv": tensors.contains("post_quant_conv.weight"),
        "scaling_factor": match layout {
            Layout::One | Layout::Two => 0.18215,
            Layout::Xl => 0.13025,
        },
    }))
}

/// `config.json` of a CLIP text encoder.
///
/// - tensors: by diffusers' names
/// - is_open: whether it is OpenCLIP's
pub(super) fn text(tensors: &TensorFile, is_open: bool) -> Result<Value, String> {
    let at = |name: &str| {
        let name = format!("text_model.{name}");
        match tensors.contains(&name) {
            true => name,
            false => name.trim_start_matches("text_model.").to_owned(),
        }
    };
    let [tokens, positions] =
        ["token", "position"].map(|which| at(&format!("embeddings.{which}_embedding.weight")));
    let width = dimension(tensors, &tokens, 1)?;
    let projection = "text_projection.weight";
    let projected = match tensors.contains(projection) {
        true => dimension(tensors, projection, 0)?,
        false => width,
    };
    Ok(json!({
        "model_type": "clip_text_model",
        "vocab_size": dimension(tensors, &tokens, 0)?,
        "hidden_size": width,
        "intermediate_size": dimension(tensors, &at("encoder.layers.0.mlp.fc1.weight"), 0)?,
        "num_hidden_layers": count(tensors, |layer| at(&format!("encoder.layers.{layer}.mlp.fc1.weight"))),
        "num_attention_heads": (width / 64).max(1),
        "max_position_embeddings": dimension(tensors, &positions, 0)?,
        "hidden_act": if is_open { "gelu" } else { "quick_gelu" },
        "layer_norm_eps": 1e-5,
        // The largest id ends a text.
        "eos_token_id": 2,
        "projection_dim": projected,
    }))
}

/// `scheduler_config.json` of the kind of model.
///
/// - velocity: whether it predicts the velocity
/// - zero_snr: whether its last time has no signal
pub(super) fn scheduler(layout: Layout, velocity: bool, zero_snr: bool) -> Value {
    let class = match layout {
        Layout::One => "PNDMScheduler",
        Layout::Two => "DDIMScheduler",
        Layout::Xl => "EulerDiscreteScheduler",
    };
    json!({
        "_class_name": class,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "steps_offset": 1,
        "set_alpha_to_one": false,
        "clip_sample": false,
        // Without signal at the last time, sampling has to begin there (arXiv 2305.08891).
        "timestep_spacing": if zero_snr { "trailing" } else { "leading" },
        "prediction_type": if velocity { "v_prediction" } else { "epsilon" },
        "rescale_betas_zero_snr": zero_snr,
    })
}
