//! The vision transformer: ViT, and the image towers of CLIP and SigLIP.

use burn::module::{Module, Param};
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Device, Tensor, TensorData};
use eigenmix_kernels::AttentionShape;

use crate::block::{Block, BlockContext};
use crate::builder::Builder;
use crate::norm::LayerNorm;
use crate::read_rows::ReadRows;
use crate::vision_config::{VisionConfig, VisionFamily};
use crate::{ImageBatch, ModelError};

/// Patches and blocks: an image in, one hidden state per patch and one for the class token, if there is one,
/// out.
#[derive(Module, Debug)]
pub(crate) struct Vision {
    /// `[d_model, channels, patch, patch]`
    patches: Param<Tensor<4>>,
    /// `[d_model]`
    patch_bias: Option<Param<Tensor<1>>>,
    /// `[1, 1, d_model]`
    class_token: Option<Param<Tensor<3>>>,
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
    /// - n_layers: how many of its blocks are built, from the first one
    pub fn build(
        builder: &mut Builder,
        config: &VisionConfig,
        n_layers: usize,
        dropout: f64,
    ) -> Result<Self, ModelError> {
        let (d_model, rows) = (config.d_model(), config.rows_per_image());
        let patch = config.patch_size;
        let kernel = [d_model, config.channels, patch, patch];
        let epsilon = config.block.norm_epsilon;
        let (patches, patch_bias, class_token, positions, first_norm, last_norm);
        match config.family {
            VisionFamily::Vit => {
                let projection = config.part("embeddings.patch_embeddings.projection");
                patches = builder.parameter(&format!("{projection}.weight"), kernel)?;
                patch_bias = Some(builder.parameter(&format!("{projection}.bias"), [d_model])?);
                let name = config.part("embeddings.cls_token");
                class_token = Some(builder.parameter(&name, [1, 1, d_model])?);
                let name = config.part("embeddings.position_embeddings");
                positions = builder.parameter(&name, [1, rows, d_model])?;
                first_norm = None;
                last_norm = builder.layer_norm(&config.part("layernorm"), d_model, epsilon)?;
            }
            family @ (VisionFamily::Clip | VisionFamily::Siglip) => {
                let name = |name: &str| config.part(&format!("embeddings.{name}"));
                patches = builder.parameter(&name("patch_embedding.weight"), kernel)?;
                (patch_bias, class_token) = match family.has_class_token() {
                    true => {
                        let name = name("class_embedding");
                        let token = builder.reshaped(&name, &[d_model], [1, 1, d_model])?;
                        (None, Some(token))
                    }
                    false => {
                        let bias = builder.parameter(&name("patch_embedding.bias"), [d_model])?;
                        (Some(bias), None)
                    }
                };
                positions = builder.reshaped(
                    &name("position_embedding.weight"),
                    &[rows, d_model],
                    [1, rows, d_model],
                )?;
                first_norm = match family {
                    VisionFamily::Siglip => None,
                    _ => {
                        // So it is spelt in every checkpoint.
                        let name = config.part("pre_layrnorm");
                        Some(builder.layer_norm(&name, d_model, epsilon)?)
                    }
                };
                let name = config.part("post_layernorm");
                last_norm = builder.layer_norm(&name, d_model, epsilon)?;
            }
        }
        let blocks = (0..n_layers)
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

    /// Patches of an image, and one row for the class token if there is one.
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
        let in_squares = rows - usize::from(self.class_token.is_some());
        let data = TensorData::new(batch.patches(patch), [images * in_squares, numbers]);
        let kernel = self.patches.val().reshape([d_model, numbers]);
        let mut patches = Tensor::<2>::from_data(data, device).matmul(kernel.transpose());
        if let Some(bias) = &self.patch_bias {
            patches = patches + bias.val().unsqueeze();
        }
        let mut hidden = patches.reshape([images, in_squares, d_model]);
        if let Some(token) = &self.class_token {
            let class_tokens = token.val().expand([images, 1, d_model]);
            hidden = Tensor::cat(vec![class_tokens, hidden], 1);
        }
        let hidden = hidden + self.positions.val();
        let mut hidden = hidden.reshape([images * rows, d_model]);
        if let Some(norm) = &self.first_norm {
            hidden = norm.forward(hidden);
        }
        let offsets = (0..=images).map(|image| image * rows).collect();
        let shape = AttentionShape::bidirectional(offsets, self.n_heads, d_model);
        (self.dropout.forward(hidden), shape)
    }

    /// - hidden: `[rows, d_model]`
    /// - read: which rows of the output are needed; `None`: all of them
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

    /// The norm after the last layer.
    ///
    /// - hidden, output: `[rows, d_model]`
    pub fn final_norm(&self, hidden: Tensor<2>) -> Tensor<2> {
        self.last_norm.forward(hidden)
    }
}
