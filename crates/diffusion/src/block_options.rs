//! What a UNet's configuration says of its blocks.

use serde_json::Value;

use crate::DiffusionError;
use crate::config_reader::ConfigReader;
use crate::unet_config::{AttentionSizes, BlockSizes};

/// What the configuration says of its blocks, from the outermost to the innermost.
pub(crate) struct BlockOptions {
    down_types: Vec<bool>,
    /// From the innermost to the outermost.
    up_types: Vec<bool>,
    residual: Vec<usize>,
    heads: Vec<usize>,
    pub cross_widths: Vec<usize>,
    /// The transformer layers of each attention of a block.
    transformer_layers: Vec<LayerCounts>,
    /// The same on the way up, from the innermost to the outermost.
    up_transformer_layers: Vec<LayerCounts>,
}

/// The transformer layers of the attentions of a block.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(untagged)]
enum LayerCounts {
    Same(usize),
    Each(Vec<usize>),
}

impl LayerCounts {
    fn of(&self, attention: usize) -> Option<usize> {
        match self {
            Self::Same(count) => Some(*count),
            Self::Each(counts) => counts.get(attention).copied(),
        }
    }

    fn all(&self) -> Vec<usize> {
        match self {
            Self::Same(count) => vec![*count],
            Self::Each(counts) => counts.clone(),
        }
    }
}

impl BlockOptions {
    pub fn read(reader: &ConfigReader, channels: &[usize]) -> Result<Self, DiffusionError> {
        let count = channels.len();
        let types = |option: &'static str, names: [&str; 2], default: [&str; 2]| {
            let [usual, outermost] = default;
            let mut defaults = vec![usual.to_owned(); count];
            let place = if names[0].contains("Down") {
                count - 1
            } else {
                0
            };
            defaults[place] = outermost.to_owned();
            let found: Vec<String> = reader.or(option, defaults)?;
            if found.len() != count {
                let (types, blocks) = (found.len(), count);
                return Err(reader.problem(format!(
                    "`{option}` has {types} types for {blocks} `block_out_channels`"
                )));
            }
            let is_attention = |name: &String| match () {
                () if name == names[0] => Ok(true),
                () if name == names[1] => Ok(false),
                () => Err(DiffusionError::Option {
                    path: reader.path.clone(),
                    option,
                    found: name.clone(),
                    supported: "the blocks of Stable Diffusion are: CrossAttnDownBlock2D, DownBlock2D, CrossAttnUpBlock2D and UpBlock2D",
                }),
            };
            found
                .iter()
                .map(is_attention)
                .collect::<Result<Vec<_>, _>>()
        };
        let down = ["CrossAttnDownBlock2D", "DownBlock2D"];
        let up = ["CrossAttnUpBlock2D", "UpBlock2D"];
        let residual = reader.per_block("layers_per_block", count, 2)?;
        let heads = reader.per_block("attention_head_dim", count, 8)?;
        let option = "transformer_layers_per_block";
        let transformer_layers: Vec<LayerCounts> =
            reader.per_block(option, count, LayerCounts::Same(1))?;
        let reversed = "reverse_transformer_layers_per_block";
        let up_transformer_layers: Vec<LayerCounts> = match reader.json.get(reversed) {
            Some(Value::Array(_)) => reader.per_block(reversed, count, LayerCounts::Same(1))?,
            _ => transformer_layers.iter().rev().cloned().collect(),
        };
        reader.check_layers("layers_per_block", &residual)?;
        for counts in transformer_layers.iter().chain(&up_transformer_layers) {
            reader.check_layers(option, &counts.all())?;
        }
        for (&heads, &channels) in heads.iter().zip(channels) {
            if heads == 0 || heads > channels {
                return Err(reader.problem(format!(
                    "`attention_head_dim`, the number of heads in a UNet, is {heads} for {channels} channels"
                )));
            }
        }
        let options = Self {
            down_types: types("down_block_types", down, down)?,
            up_types: types("up_block_types", up, up)?,
            residual,
            heads,
            cross_widths: reader.per_block("cross_attention_dim", count, 1280)?,
            transformer_layers,
            up_transformer_layers,
        };
        options.check(reader, option)?;
        Ok(options)
    }

    /// Refuses lists of layers that do not have one for each attention.
    fn check(&self, reader: &ConfigReader, option: &str) -> Result<(), DiffusionError> {
        let count = self.residual.len();
        let down = (0..count).map(|index| {
            let counts = &self.transformer_layers[index];
            (self.down_types[index], counts, self.residual[index])
        });
        let up = (0..count).map(|index| {
            let counts = &self.up_transformer_layers[index];
            let attentions = self.residual[count - 1 - index] + 1;
            (self.up_types[index], counts, attentions)
        });
        for (has_attention, counts, attentions) in down.chain(up) {
            let is_short = (0..attentions).any(|index| counts.of(index).is_none());
            if has_attention && is_short {
                return Err(reader.problem(format!(
                    "`{option}` does not have a number for each of {attentions} attentions"
                )));
            }
        }
        Ok(())
    }

    fn attention(&self, block: usize, channels: usize, n_layers: usize) -> AttentionSizes {
        let n_heads = self.heads[block];
        AttentionSizes {
            n_layers,
            n_heads,
            d_head: channels / n_heads,
            cross_width: self.cross_widths[block],
        }
    }

    pub fn middle(&self, channels: usize) -> AttentionSizes {
        let last = self.heads.len() - 1;
        let counts = self.transformer_layers[last].all();
        self.attention(last, channels, counts.first().copied().unwrap_or(1))
    }

    pub fn down(&self, channels: &[usize]) -> Vec<BlockSizes> {
        let block = |block: usize| {
            let c_out = channels[block];
            let c_in = channels[block.saturating_sub(1)];
            let inputs = (0..self.residual[block]).map(|index| match index {
                0 => [c_in, c_out],
                _ => [c_out, c_out],
            });
            let counts = &self.transformer_layers[block];
            let of = |index| self.attention(block, c_out, counts.of(index).unwrap_or(1));
            BlockSizes {
                residual: inputs.collect(),
                attention: self.down_types[block]
                    .then(|| (0..self.residual[block]).map(of).collect()),
                resampled: block + 1 < channels.len(),
            }
        };
        (0..channels.len()).map(block).collect()
    }

    /// On the way up a block has one residual block more, and each takes along what the way down left:
    /// of its own block's outputs, and of what came before that.
    pub fn up(&self, channels: &[usize]) -> Vec<BlockSizes> {
        let last = channels.len() - 1;
        let block = |index: usize| {
            let level = last - index;
            let c_out = channels[level];
            let above = channels[(level + 1).min(last)];
            let below = channels[level.saturating_sub(1)];
            let layers = self.residual[level] + 1;
            let residual = (0..layers).map(|layer| {
                let c_in = if layer == 0 { above } else { c_out };
                let skip = if layer + 1 == layers { below } else { c_out };
                [c_in + skip, c_out]
            });
            let counts = &self.up_transformer_layers[index];
            let of = |layer| self.attention(level, c_out, counts.of(layer).unwrap_or(1));
            BlockSizes {
                residual: residual.collect(),
                attention: self.up_types[index].then(|| (0..layers).map(of).collect()),
                resampled: index < last,
            }
        };
        (0..channels.len()).map(block).collect()
    }
}
