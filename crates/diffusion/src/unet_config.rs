//! The sizes of a UNet2DConditionModel, from its `config.json`.

use std::path::Path;

use serde_json::{Value, json};

use crate::block_options::BlockOptions;
use crate::config_reader::ConfigReader;
use crate::layers::Layers;
use crate::{DiffusionError, Kind};

/// The configuration of a UNet.
#[derive(Clone, Debug, PartialEq)]
pub struct UnetConfig {
    pub in_channels: usize,
    pub out_channels: usize,
    /// The width of the hidden states of texts.
    pub cross_attention_dim: usize,
    /// SDXL's conditions besides: pooled text and the sizes of the image.
    pub added: Option<AddedConditions>,
    /// The height and width of latents that it was trained for.
    pub sample_size: Option<[usize; 2]>,
    pub(crate) down: Vec<BlockSizes>,
    pub(crate) mid: Option<MidSizes>,
    /// Towards the output.
    pub(crate) up: Vec<BlockSizes>,
    pub(crate) channels: Vec<usize>,
    pub(crate) groups: usize,
    pub(crate) norm_epsilon: f64,
    pub(crate) linear_projection: bool,
    pub(crate) kernels: [usize; 2],
    pub(crate) centred_input: bool,
    pub(crate) time: SinusoidShape,
    pub(crate) time_width: usize,
    /// What the sums of the residual blocks in the middle are divided by.
    pub(crate) mid_scale: f64,
}

/// SDXL's conditions.
#[derive(Clone, Debug, PartialEq)]
pub struct AddedConditions {
    /// The width of the pooled text.
    pub text_width: usize,
    /// How many numbers describe the image.
    pub numbers: usize,
    pub(crate) sinusoids: SinusoidShape,
}

/// Sines and cosines of a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SinusoidShape {
    pub width: usize,
    /// Whether cosines come first.
    pub flipped: bool,
    pub shift: f64,
}

/// A block of the way down or up.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BlockSizes {
    /// Input and output channels of each residual block.
    pub residual: Vec<[usize; 2]>,
    /// Behind each residual block, if the block has attention.
    pub attention: Option<Vec<AttentionSizes>>,
    pub resampled: bool,
}

/// The block in the middle.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MidSizes {
    pub channels: usize,
    pub attention: Option<AttentionSizes>,
}

/// A stack of transformer blocks over pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct AttentionSizes {
    pub n_layers: usize,
    pub n_heads: usize,
    pub d_head: usize,
    pub cross_width: usize,
}

impl UnetConfig {
    /// - json: the UNet's `config.json`
    /// - directory: where that is, for messages
    ///
    /// # Errors
    /// If something is missing, does not fit, or asks for a kind of layer that is not built here.
    pub fn from_json(json: &Value, directory: &Path) -> Result<Self, DiffusionError> {
        let reader = ConfigReader::new(json, directory);
        refuse_other_kinds(&reader)?;
        let channels: Vec<usize> = reader.or("block_out_channels", vec![320, 640, 1280, 1280])?;
        let groups = reader.or("norm_num_groups", 32)?;
        reader.check_channels(&channels, groups)?;
        let count = channels.len();
        let blocks = BlockOptions::read(&reader, &channels)?;
        if blocks
            .cross_widths
            .iter()
            .any(|width| *width != blocks.cross_widths[0])
        {
            let problem =
                "`cross_attention_dim` differs between blocks, which would need several texts";
            return Err(reader.problem(problem.to_owned()));
        }
        let mid_type: Option<String> = match json.get("mid_block_type") {
            Some(Value::Null) => None,
            _ => Some(reader.or("mid_block_type", "UNetMidBlock2DCrossAttn".to_owned())?),
        };
        let last = count - 1;
        let mid = match mid_type.as_deref() {
            None => None,
            Some("UNetMidBlock2DCrossAttn") => Some(MidSizes {
                channels: channels[last],
                attention: Some(blocks.middle(channels[last])),
            }),
            Some("UNetMidBlock2D") => Some(MidSizes {
                channels: channels[last],
                attention: None,
            }),
            Some(found) => {
                return Err(DiffusionError::Option {
                    path: reader.path,
                    option: "mid_block_type",
                    found: found.to_owned(),
                    supported: "UNetMidBlock2DCrossAttn, UNetMidBlock2D and none are",
                });
            }
        };
        let time = SinusoidShape {
            width: channels[0],
            flipped: reader.or("flip_sin_to_cos", true)?,
            shift: reader.or("freq_shift", 0.0)?,
        };
        let added = match Kind::of_unet(json) {
            Kind::Sd => None,
            Kind::Xl => Some(added_conditions(&reader, time)?),
        };
        Ok(Self {
            in_channels: reader.or("in_channels", 4)?,
            out_channels: reader.or("out_channels", 4)?,
            cross_attention_dim: blocks.cross_widths[0],
            added,
            sample_size: sample_size(&reader)?,
            down: blocks.down(&channels),
            mid,
            up: blocks.up(&channels),
            groups,
            norm_epsilon: reader.or("norm_eps", 1e-5)?,
            linear_projection: reader.or("use_linear_projection", false)?,
            kernels: [
                reader.or("conv_in_kernel", 3)?,
                reader.or("conv_out_kernel", 3)?,
            ],
            centred_input: reader.or("center_input_sample", false)?,
            time_width: reader
                .optional("time_embedding_dim")?
                .unwrap_or(4 * channels[0]),
            time,
            mid_scale: reader.or("mid_block_scale_factor", 1.0)?,
            channels,
        })
    }

    /// Every layer, by path and shape.
    pub(crate) fn layers(&self) -> Layers {
        let mut layers = Layers::default();
        let (first, time) = (self.channels[0], self.time_width);
        let [kernel_in, kernel_out] = self.kernels;
        layers.convolution("conv_in".into(), [first, self.in_channels], kernel_in);
        layers.linear("time_embedding.linear_1".into(), [time, self.time.width]);
        layers.linear("time_embedding.linear_2".into(), [time, time]);
        if let Some(added) = &self.added {
            let width = added.text_width + added.numbers * added.sinusoids.width;
            layers.linear("add_embedding.linear_1".into(), [time, width]);
            layers.linear("add_embedding.linear_2".into(), [time, time]);
        }
        for (way, blocks, sampler) in [
            ("down_blocks", &self.down, "downsamplers"),
            ("up_blocks", &self.up, "upsamplers"),
        ] {
            for (index, block) in blocks.iter().enumerate() {
                let path = format!("{way}.{index}");
                for (index, &[c_in, c_out]) in block.residual.iter().enumerate() {
                    let path = format!("{path}.resnets.{index}");
                    residual_layers(&mut layers, &path, [c_out, c_in], Some(time));
                }
                let c_out = block.residual.last().map_or(0, |&[_, c_out]| c_out);
                for (index, sizes) in block.attention.iter().flatten().enumerate() {
                    self.attention_layers(
                        &mut layers,
                        &format!("{path}.attentions.{index}"),
                        c_out,
                        sizes,
                    );
                }
                if block.resampled {
                    layers.convolution(format!("{path}.{sampler}.0.conv"), [c_out; 2], 3);
                }
            }
        }
        if let Some(mid) = &self.mid {
            for index in 0..mid.residual_blocks() {
                let path = format!("mid_block.resnets.{index}");
                residual_layers(&mut layers, &path, [mid.channels; 2], Some(time));
            }
            if let Some(sizes) = &mid.attention {
                self.attention_layers(&mut layers, "mid_block.attentions.0", mid.channels, sizes);
            }
        }
        layers.convolution("conv_out".into(), [self.out_channels, first], kernel_out);
        layers
    }

    fn attention_layers(
        &self,
        layers: &mut Layers,
        path: &str,
        channels: usize,
        sizes: &AttentionSizes,
    ) {
        let width = sizes.n_heads * sizes.d_head;
        let mut projection = |name: &str, shape: [usize; 2]| {
            let path = format!("{path}.{name}");
            match self.linear_projection {
                true => layers.linear(path, shape),
                false => layers.convolution(path, shape, 1),
            }
        };
        projection("proj_in", [width, channels]);
        projection("proj_out", [channels, width]);
        for index in 0..sizes.n_layers {
            let block = format!("{path}.transformer_blocks.{index}");
            for (attention, key_width) in [("attn1", width), ("attn2", sizes.cross_width)] {
                let path = format!("{block}.{attention}");
                layers.linear_without_bias(format!("{path}.to_q"), [width, width]);
                layers.linear_without_bias(format!("{path}.to_k"), [width, key_width]);
                layers.linear_without_bias(format!("{path}.to_v"), [width, key_width]);
                layers.linear(format!("{path}.to_out.0"), [width, width]);
            }
            // Value and gate side by side.
            layers.linear(format!("{block}.ff.net.0.proj"), [8 * width, width]);
            layers.linear(format!("{block}.ff.net.2"), [width, 4 * width]);
        }
    }
}

impl MidSizes {
    pub fn residual_blocks(&self) -> usize {
        match self.attention {
            Some(_) => 2,
            None => 1,
        }
    }
}

/// The layers of a residual block.
///
/// - time: the width of the time embedding, if the block takes it
pub(crate) fn residual_layers(
    layers: &mut Layers,
    path: &str,
    [c_out, c_in]: [usize; 2],
    time: Option<usize>,
) {
    layers.convolution(format!("{path}.conv1"), [c_out, c_in], 3);
    layers.convolution(format!("{path}.conv2"), [c_out; 2], 3);
    if let Some(width) = time {
        layers.linear(format!("{path}.time_emb_proj"), [c_out, width]);
    }
    if c_in != c_out {
        layers.convolution(format!("{path}.conv_shortcut"), [c_out, c_in], 1);
    }
}

/// One number for both sides, or height and width.
fn sample_size(reader: &ConfigReader) -> Result<Option<[usize; 2]>, DiffusionError> {
    let option = "sample_size";
    match reader.json.get(option) {
        Some(Value::Array(_)) => reader.optional(option),
        _ => Ok(reader.optional(option)?.map(|side: usize| [side; 2])),
    }
}

fn added_conditions(
    reader: &ConfigReader,
    time: SinusoidShape,
) -> Result<AddedConditions, DiffusionError> {
    let missing = |option: &str| reader.problem(format!("`{option}` is missing"));
    let option = "addition_time_embed_dim";
    let width: usize = reader.optional(option)?.ok_or_else(|| missing(option))?;
    let option = "projection_class_embeddings_input_dim";
    let all: usize = reader.optional(option)?.ok_or_else(|| missing(option))?;
    // Original size, crop and target size, two numbers each.
    let numbers = 6;
    let text_width = all.checked_sub(numbers * width).ok_or_else(|| {
        reader.problem(format!(
            "`{option}` is {all}, less than {numbers} times {width}"
        ))
    })?;
    Ok(AddedConditions {
        text_width,
        numbers,
        sinusoids: SinusoidShape { width, ..time },
    })
}

/// Refuses what would be another network than the one built here.
fn refuse_other_kinds(reader: &ConfigReader) -> Result<(), DiffusionError> {
    let no = || vec![json!(false)];
    let options: [(&'static str, Vec<Value>, &'static str); 19] = [
        ("act_fn", vec![json!("silu"), json!("swish")], "silu is"),
        (
            "addition_embed_type",
            vec![json!("text_time")],
            "text_time and none are",
        ),
        ("attention_type", vec![json!("default")], "default is"),
        ("class_embed_type", vec![], "none is"),
        ("class_embeddings_concat", no(), "false is"),
        ("cross_attention_norm", vec![], "none is"),
        ("dropout", vec![json!(0.0), json!(0)], "0 is"),
        ("dual_cross_attention", no(), "false is"),
        ("encoder_hid_dim", vec![], "none is"),
        ("encoder_hid_dim_type", vec![], "none is"),
        ("mid_block_only_cross_attention", no(), "none is"),
        (
            "num_attention_heads",
            vec![],
            "`attention_head_dim` is, which is the number of heads",
        ),
        ("num_class_embeds", vec![], "none is"),
        ("only_cross_attention", no(), "false is"),
        ("resnet_skip_time_act", no(), "false is"),
        (
            "resnet_time_scale_shift",
            vec![json!("default")],
            "default is",
        ),
        ("time_cond_proj_dim", vec![], "none is"),
        ("time_embedding_act_fn", vec![], "none is"),
        ("timestep_post_act", vec![], "none is"),
    ];
    for (option, known, supported) in options {
        reader.require(option, &known, supported)?;
    }
    let class = [json!("UNet2DConditionModel")];
    reader.require("_class_name", &class, "UNet2DConditionModel is")?;
    // Some blocks of diffusers obey these and some do not.
    let one = [json!(1), json!(1.0)];
    reader.require("resnet_out_scale_factor", &one, "1 is")?;
    reader.require("downsample_padding", &one, "1 is")?;
    reader.require(
        "time_embedding_type",
        &[json!("positional")],
        "positional is",
    )
}

#[cfg(test)]
#[path = "unet_config_tests.rs"]
mod tests;
