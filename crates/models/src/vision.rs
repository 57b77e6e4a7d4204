//! The vision transformer: ViT, and the image tower of CLIP.

use burn::module::{Module, Param};
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Device, Tensor, TensorData};
use eigenmix_kernels::AttentionShape;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::activation_name::ActivationName;
use crate::block::{Block, BlockConfig, BlockContext, BlockNames, InputNames};
use crate::builder::Builder;
use crate::clip_text::ClipTextConfig;
use crate::nested_config::nested_config;
use crate::norm::{LayerNorm, NormKind};
use crate::read_rows::ReadRows;
use crate::{ImageBatch, LinearLayer, ModelError};

/// Which vision family a checkpoint belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VisionFamily {
    Vit,
    Clip,
}

/// A vision model's sizes, from its `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionConfig {
    pub family: VisionFamily,
    pub n_layers: usize,
    /// Height and width of the images it takes.
    pub image_size: usize,
    pub patch_size: usize,
    pub channels: usize,
    /// The width of CLIP's image features.
    pub projection_dim: Option<usize>,
    /// The text tower beside it, in a whole CLIP.
    pub text: Option<Box<ClipTextConfig>>,
    pub(crate) block: BlockConfig,
}

#[derive(Deserialize)]
struct VisionJson {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    image_size: usize,
    patch_size: usize,
    num_channels: Option<usize>,
    layer_norm_eps: Option<f64>,
    hidden_act: Option<ActivationName>,
    qkv_bias: Option<bool>,
    projection_dim: Option<usize>,
}

impl VisionFamily {
    /// The model's name inside its task wrapper.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Vit => "vit",
            Self::Clip => "vision_model",
        }
    }

    fn block_names(self) -> BlockNames {
        match self {
            Self::Vit => BlockNames {
                attention_norm: "layernorm_before",
                inputs: InputNames::Separate([
                    "attention.attention.query",
                    "attention.attention.key",
                    "attention.attention.value",
                ]),
                output: "attention.output.dense",
                head_norms: None,
                post_attention_norm: None,
                mlp_norm: "layernorm_after",
                gate: None,
                up: "intermediate.dense",
                down: "output.dense",
                post_mlp_norm: None,
            },
            Self::Clip => clip_block_names(),
        }
    }
}

/// CLIP's names for a block's parts, in both towers.
pub(crate) fn clip_block_names() -> BlockNames {
    BlockNames {
        attention_norm: "layer_norm1",
        inputs: InputNames::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
        output: "self_attn.out_proj",
        head_norms: None,
        post_attention_norm: None,
        mlp_norm: "layer_norm2",
        gate: None,
        up: "mlp.fc1",
        down: "mlp.fc2",
        post_mlp_norm: None,
    }
}

impl VisionConfig {
    /// - json: the `config.json` of a ViT, of a CLIP vision tower, or of a whole CLIP
    ///
    /// # Errors
    /// What is missing or makes no sense, in words.
    pub(crate) fn from_json(family: VisionFamily, json: &Value) -> Result<Self, String> {
        let sizes = match json.get("vision_config") {
            Some(_) => {
                let defaults = json!({
                    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
                    "num_attention_heads": 12, "image_size": 224, "patch_size": 32,
                });
                VisionJson::deserialize(nested_config(json, "vision_config", defaults))
                    .map_err(|error| format!("`vision_config`: {error}"))?
            }
            None => VisionJson::deserialize(json).map_err(|error| error.to_string())?,
        };
        let (d_model, n_heads) = (sizes.hidden_size, sizes.num_attention_heads);
        if n_heads == 0 || !d_model.is_multiple_of(n_heads) {
            return Err(format!(
                "a hidden size of {d_model} cannot be split into {n_heads} heads"
            ));
        }
        if sizes.patch_size == 0 || !sizes.image_size.is_multiple_of(sizes.patch_size) {
            return Err(format!(
                "images of size {} cannot be cut into squares of {}",
                sizes.image_size, sizes.patch_size
            ));
        }
        let (activation, epsilon) = match family {
            VisionFamily::Vit => (ActivationName::Gelu, 1e-12),
            VisionFamily::Clip => (ActivationName::QuickGelu, 1e-5),
        };
        let projection_dim = json
            .get("projection_dim")
            .and_then(Value::as_u64)
            .map(|width| width as usize)
            .or(sizes.projection_dim);
        let projection_dim = match family {
            VisionFamily::Vit => None,
            VisionFamily::Clip => Some(projection_dim.unwrap_or(512)),
        };
        let is_whole = json.get("model_type").and_then(Value::as_str) == Some("clip");
        let text = projection_dim
            .filter(|_| is_whole)
            .map(|width| ClipTextConfig::from_json(json, width).map(Box::new))
            .transpose()?;
        Ok(Self {
            family,
            n_layers: sizes.num_hidden_layers,
            image_size: sizes.image_size,
            patch_size: sizes.patch_size,
            channels: sizes.num_channels.unwrap_or(3),
            projection_dim,
            text,
            block: BlockConfig {
                d_model,
                d_ff: sizes.intermediate_size,
                n_heads,
                n_key_heads: n_heads,
                d_head: d_model / n_heads,
                activation: sizes.hidden_act.unwrap_or(activation).into(),
                norm: NormKind::Layer,
                norm_epsilon: sizes.layer_norm_eps.unwrap_or(epsilon),
                input_bias: sizes.qkv_bias.unwrap_or(true),
                output_bias: true,
                mlp_bias: true,
                transposed: false,
                names: family.block_names(),
            },
        })
    }

    /// The width of a patch's vector.
    pub fn d_model(&self) -> usize {
        self.block.d_model
    }

    /// Patches of an image, and one for the class token.
    pub fn rows_per_image(&self) -> usize {
        (self.image_size / self.patch_size).pow(2) + 1
    }

    fn block_path(&self, layer: usize) -> String {
        match self.family {
            VisionFamily::Vit => format!("vit.encoder.layer.{layer}"),
            VisionFamily::Clip => format!("vision_model.encoder.layers.{layer}"),
        }
    }

    /// Every linear layer of the blocks, first to last.
    pub(crate) fn layers(&self) -> Vec<LinearLayer> {
        (0..self.n_layers)
            .flat_map(|layer| self.block.layers(&self.block_path(layer)))
            .collect()
    }

    /// How many numbers it has, head and projection excluded.
    pub(crate) fn parameters(&self) -> usize {
        let d_model = self.d_model();
        let patch = self.channels * self.patch_size * self.patch_size;
        let (norms, bias) = match self.family {
            VisionFamily::Vit => (1, 1),
            VisionFamily::Clip => (2, 0),
        };
        d_model * (patch + bias + 1 + self.rows_per_image() + 2 * norms)
            + self.n_layers * self.block.parameters()
    }
}

/// Patches and blocks: an image in, one vector a patch and one for the whole out.
#[derive(Module, Debug)]
pub(crate) struct Vision {
    /// `[d_model, channels, patch, patch]`
    patches: Param<Tensor<4>>,
    /// `[d_model]`
    patch_bias: Option<Param<Tensor<1>>>,
    /// `[1, 1, d_model]`
    class_token: Param<Tensor<3>>,
    /// `[1, rows, d_model]`
    positions: Param<Tensor<3>>,
    /// CLIP's, before the blocks.
    first_norm: Option<LayerNorm>,
    blocks: Vec<Block>,
    last_norm: LayerNorm,
    dropout: Dropout,
    n_heads: usize,
}

impl Vision {
    pub fn build(
        builder: &mut Builder,
        config: &VisionConfig,
        dropout: f64,
    ) -> Result<Self, ModelError> {
        let (d_model, rows) = (config.d_model(), config.rows_per_image());
        let patch = config.patch_size;
        let kernel = [d_model, config.channels, patch, patch];
        let epsilon = config.block.norm_epsilon;
        let (patches, patch_bias, class_token, positions, first_norm, last_norm);
        match config.family {
            VisionFamily::Vit => {
                let projection = "vit.embeddings.patch_embeddings.projection";
                patches = builder.parameter(&format!("{projection}.weight"), kernel)?;
                patch_bias = Some(builder.parameter(&format!("{projection}.bias"), [d_model])?);
                class_token = builder.parameter("vit.embeddings.cls_token", [1, 1, d_model])?;
                positions =
                    builder.parameter("vit.embeddings.position_embeddings", [1, rows, d_model])?;
                first_norm = None;
                last_norm = builder.layer_norm("vit.layernorm", d_model, epsilon)?;
            }
            VisionFamily::Clip => {
                let name = |name: &str| format!("vision_model.embeddings.{name}");
                patches = builder.parameter(&name("patch_embedding.weight"), kernel)?;
                patch_bias = None;
                class_token =
                    builder.reshaped(&name("class_embedding"), &[d_model], [1, 1, d_model])?;
                positions = builder.reshaped(
                    &name("position_embedding.weight"),
                    &[rows, d_model],
                    [1, rows, d_model],
                )?;
                // So it is spelt in every checkpoint.
                let name = "vision_model.pre_layrnorm";
                first_norm = Some(builder.layer_norm(name, d_model, epsilon)?);
                last_norm = builder.layer_norm("vision_model.post_layernorm", d_model, epsilon)?;
            }
        }
        let blocks = (0..config.n_layers)
            .map(|layer| Block::build(builder, &config.block, &config.block_path(layer), dropout))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            patches,
            patch_bias,
            class_token,
            positions,
            first_norm,
            blocks,
            last_norm,
            dropout: DropoutConfig::new(dropout).init(),
            n_heads: config.block.n_heads,
        })
    }

    pub fn n_layers(&self) -> usize {
        self.blocks.len()
    }

    /// Patches of an image, and one row for the class token.
    pub fn rows_per_image(&self) -> usize {
        let [_, rows, _] = self.positions.val().dims();
        rows
    }

    /// The vectors that the blocks start from, the class token's first, and which image has which.
    pub fn embed(&self, batch: &ImageBatch, device: &Device) -> (Tensor<2>, AttentionShape) {
        let [d_model, channels, patch, _] = self.patches.val().dims();
        let rows = self.rows_per_image();
        let images = batch.images();
        let numbers = channels * patch * patch;
        let data = TensorData::new(batch.patches(patch), [images * (rows - 1), numbers]);
        let kernel = self.patches.val().reshape([d_model, numbers]);
        let mut patches = Tensor::<2>::from_data(data, device).matmul(kernel.transpose());
        if let Some(bias) = &self.patch_bias {
            patches = patches + bias.val().unsqueeze();
        }
        let patches = patches.reshape([images, rows - 1, d_model]);
        let class_tokens = self.class_token.val().expand([images, 1, d_model]);
        let hidden = Tensor::cat(vec![class_tokens, patches], 1) + self.positions.val();
        let mut hidden = hidden.reshape([images * rows, d_model]);
        if let Some(norm) = &self.first_norm {
            hidden = norm.forward(hidden);
        }
        let offsets = (0..=images).map(|image| image * rows).collect();
        let shape = AttentionShape::bidirectional(offsets, self.n_heads, d_model);
        (self.dropout.forward(hidden), shape)
    }

    /// - hidden: `[rows, d_model]`
    /// - read: which rows of the output are wanted; `None`: all of them
    pub fn layer(
        &self,
        layer: usize,
        hidden: Tensor<2>,
        shape: &AttentionShape,
        read: Option<&ReadRows>,
    ) -> Tensor<2> {
        let context = BlockContext {
            shape,
            rotary: None,
            read,
        };
        self.blocks[layer].forward(hidden, &context, None)
    }

    /// - hidden, output: `[rows, d_model]`
    pub fn finish(&self, hidden: Tensor<2>) -> Tensor<2> {
        self.last_norm.forward(hidden)
    }
}
