//! The sizes of an AutoencoderKL, from its `config.json`.

use std::path::Path;

use serde_json::{Value, json};

use crate::DiffusionError;
use crate::config_reader::ConfigReader;
use crate::layers::Layers;
use crate::unet_config::residual_layers;

/// The configuration of a VAE.
#[derive(Clone, Debug, PartialEq)]
pub struct VaeConfig {
    pub in_channels: usize,
    pub out_channels: usize,
    pub latent_channels: usize,
    /// What latents are multiplied by before a UNet sees them.
    pub scaling_factor: f64,
    /// What is subtracted from them before, if anything is.
    pub shift_factor: f64,
    pub(crate) channels: Vec<usize>,
    pub(crate) layers_per_block: usize,
    pub(crate) groups: usize,
    pub(crate) mid_attention: bool,
    pub(crate) quant_conv: bool,
    pub(crate) post_quant_conv: bool,
}

impl VaeConfig {
    /// - json: the VAE's `config.json`
    /// - directory: where that is, for messages
    ///
    /// # Errors
    /// If something does not fit, or asks for a kind of layer that is not built here.
    pub fn from_json(json: &Value, directory: &Path) -> Result<Self, DiffusionError> {
        let reader = ConfigReader::new(json, directory);
        reader.require("act_fn", &[json!("silu"), json!("swish")], "silu is")?;
        let class = [json!("AutoencoderKL")];
        reader.require("_class_name", &class, "AutoencoderKL is")?;
        for option in ["latents_mean", "latents_std"] {
            reader.require(option, &[], "one `scaling_factor` for all channels is")?;
        }
        let channels: Vec<usize> = reader.or("block_out_channels", vec![64])?;
        let groups = reader.or("norm_num_groups", 32)?;
        reader.check_channels(&channels, groups)?;
        for (option, known) in [
            ("down_block_types", "DownEncoderBlock2D"),
            ("up_block_types", "UpDecoderBlock2D"),
        ] {
            let types: Vec<String> = reader.or(option, vec![known.to_owned(); channels.len()])?;
            let other = types.iter().find(|found| *found != known);
            if other.is_some() || types.len() != channels.len() {
                let blocks = channels.len();
                return Err(reader.problem(format!(
                    "`{option}` should be {known} for each of {blocks} `block_out_channels`, found {types:?}"
                )));
            }
        }
        let layers_per_block = reader.or("layers_per_block", 1)?;
        reader.check_layers("layers_per_block", &[layers_per_block])?;
        Ok(Self {
            in_channels: reader.or("in_channels", 3)?,
            out_channels: reader.or("out_channels", 3)?,
            latent_channels: reader.or("latent_channels", 4)?,
            scaling_factor: reader.or("scaling_factor", 0.18215)?,
            shift_factor: reader.or("shift_factor", 0.0)?,
            layers_per_block,
            groups,
            mid_attention: reader.or("mid_block_add_attention", true)?,
            quant_conv: reader.or("use_quant_conv", true)?,
            post_quant_conv: reader.or("use_post_quant_conv", true)?,
            channels,
        })
    }

    /// How many pixels of an image a pixel of the latents stands for, in each direction.
    pub fn reduction(&self) -> usize {
        1 << (self.channels.len() - 1)
    }

    /// Every layer, by path and shape.
    ///
    /// - attention: the names of query, key, value and output of its attention
    pub(crate) fn layers(&self, attention: [&str; 4]) -> Layers {
        let mut layers = Layers::default();
        let last = self.channels[self.channels.len() - 1];
        let moments = 2 * self.latent_channels;
        layers.convolution(
            "encoder.conv_in".into(),
            [self.channels[0], self.in_channels],
            3,
        );
        let mut c_in = self.channels[0];
        for (block, &c_out) in self.channels.iter().enumerate() {
            let path = format!("encoder.down_blocks.{block}");
            for index in 0..self.layers_per_block {
                let path = format!("{path}.resnets.{index}");
                residual_layers(&mut layers, &path, [c_out, c_in], None);
                c_in = c_out;
            }
            if block + 1 < self.channels.len() {
                layers.convolution(format!("{path}.downsamplers.0.conv"), [c_out; 2], 3);
            }
        }
        layers.convolution("encoder.conv_out".into(), [moments, last], 3);
        layers.convolution("decoder.conv_in".into(), [last, self.latent_channels], 3);
        let mut c_in = last;
        for (block, &c_out) in self.channels.iter().rev().enumerate() {
            let path = format!("decoder.up_blocks.{block}");
            for index in 0..=self.layers_per_block {
                let path = format!("{path}.resnets.{index}");
                residual_layers(&mut layers, &path, [c_out, c_in], None);
                c_in = c_out;
            }
            if block + 1 < self.channels.len() {
                layers.convolution(format!("{path}.upsamplers.0.conv"), [c_out; 2], 3);
            }
        }
        layers.convolution(
            "decoder.conv_out".into(),
            [self.out_channels, self.channels[0]],
            3,
        );
        for side in ["encoder", "decoder"] {
            for index in 0..2 {
                let path = format!("{side}.mid_block.resnets.{index}");
                residual_layers(&mut layers, &path, [last; 2], None);
            }
            if self.mid_attention {
                for name in attention {
                    layers.linear(format!("{side}.mid_block.attentions.0.{name}"), [last; 2]);
                }
            }
        }
        if self.quant_conv {
            layers.convolution("quant_conv".into(), [moments; 2], 1);
        }
        if self.post_quant_conv {
            layers.convolution("post_quant_conv".into(), [self.latent_channels; 2], 1);
        }
        layers
    }
}
