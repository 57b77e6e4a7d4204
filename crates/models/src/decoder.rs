//! The decoder: tokens in, one hidden state per token out, each seeing only the tokens before it.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Device, Tensor};
use eigenmix_kernels::{AttentionShape, Visibility, Weight};

use crate::block::{Block, BlockContext};
use crate::builder::Builder;
use crate::cache::Cache;
use crate::decoder_config::DecoderConfig;
use crate::norm::Norm;
use crate::read_rows::ReadRows;
use crate::rotary::{RotaryAngles, RotaryConfig};
use crate::{ModelError, TokenBatch};

/// Embeddings, blocks and the final norm.
#[derive(Module, Debug)]
pub(crate) struct Decoder {
    /// Of tokens: `[vocab_size, d_model]`.
    pub token_embeddings: Weight,
    position_embeddings: Option<Weight>,
    blocks: Vec<Block>,
    norm: Norm,
    dropout: Dropout,
    #[module(skip)]
    rules: Rules,
}

/// What of the configuration the forward pass needs.
#[derive(Clone, Debug)]
struct Rules {
    n_heads: usize,
    n_key_heads: usize,
    d_head: usize,
    scale: f32,
    softcap: Option<f32>,
    visibility: Vec<Visibility>,
    rotary: Option<RotaryConfig>,
    embedding_scale: Option<f64>,
}

/// What the blocks need to know of a batch.
pub(crate) struct DecoderContext {
    /// Each layer's.
    shapes: Vec<AttentionShape>,
    rotary: Option<RotaryAngles>,
}

impl Decoder {
    pub fn build(
        builder: &mut Builder,
        config: &DecoderConfig,
        dropout: f64,
    ) -> Result<Self, ModelError> {
        let (family, d_model) = (config.family, config.d_model());
        let table = [config.vocab_size, d_model];
        let token_embeddings = builder.embedding(&config.part(family.embedding_name()), table)?;
        let position_embeddings = match config.rotary {
            Some(_) => None,
            None => Some(builder.embedding(&config.part("wpe"), [config.max_positions, d_model])?),
        };
        let blocks = (0..config.n_layers)
            .map(|layer| Block::build(builder, &config.block, &config.block_path(layer), dropout))
            .collect::<Result<_, _>>()?;
        let norm = builder.norm(
            &config.part(family.final_norm_name()),
            config.block.norm,
            d_model,
            config.block.norm_epsilon,
        )?;
        Ok(Self {
            token_embeddings,
            position_embeddings,
            blocks,
            norm,
            dropout: DropoutConfig::new(dropout).init(),
            rules: Rules {
                n_heads: config.block.n_heads,
                n_key_heads: config.block.n_key_heads,
                d_head: config.block.d_head,
                scale: config.attention_scale,
                softcap: config.attention_softcap,
                visibility: config.visibility.clone(),
                rotary: config.rotary.clone(),
                embedding_scale: config.embedding_scale,
            },
        })
    }

    pub fn n_layers(&self) -> usize {
        self.blocks.len()
    }

    /// The vectors that the blocks start from: `[rows, d_model]`.
    pub fn embed(&self, batch: &TokenBatch) -> Tensor<2> {
        let mut tables = vec![(&self.token_embeddings, batch.ids())];
        if let Some(position_embeddings) = &self.position_embeddings {
            tables.push((position_embeddings, batch.position_ids()));
        }
        let mut hidden = eigenmix_kernels::sum_of_rows(&tables);
        if let Some(scale) = self.rules.embedding_scale {
            hidden = hidden * scale;
        }
        self.dropout.forward(hidden)
    }

    /// What the blocks need to know of the batch.
    ///
    /// - cache: of the tokens before the batch's
    pub fn context(
        &self,
        batch: &TokenBatch,
        cache: Option<&Cache>,
        device: &Device,
    ) -> DecoderContext {
        let rules = &self.rules;
        let mut key_offsets = batch.offsets().clone();
        if let Some(cache) = cache {
            let mut before = 0;
            let ends = batch.offsets()[1..].iter().zip(cache.lengths());
            key_offsets = std::iter::once(0)
                .chain(ends.map(|(&offset, &length)| {
                    before += length;
                    offset + before
                }))
                .collect();
        }
        let shape = |visibility| AttentionShape {
            offsets: batch.offsets().clone(),
            key_offsets: key_offsets.clone(),
            n_heads: rules.n_heads,
            n_key_heads: rules.n_key_heads,
            scale: rules.scale,
            visibility,
            softcap: rules.softcap,
        };
        DecoderContext {
            shapes: rules.visibility.iter().copied().map(shape).collect(),
            rotary: rules
                .rotary
                .as_ref()
                .map(|rotary| rotary.angles(batch.position_ids(), rules.d_head, device)),
        }
    }

    /// - hidden: `[rows, d_model]`
    /// - read: which rows of the output are needed; `None`: all of them
    pub fn layer(
        &self,
        layer: usize,
        hidden: Tensor<2>,
        context: &DecoderContext,
        read: Option<&ReadRows>,
        cache: Option<&mut Cache>,
    ) -> Tensor<2> {
        let context = BlockContext {
            shape: &context.shapes[layer],
            rotary: context.rotary.as_ref(),
            read,
        };
        let cache = cache.map(|cache| &mut cache.layers[layer]);
        self.blocks[layer].forward(hidden, &context, cache)
    }

    /// The norm after the last layer.
    ///
    /// - hidden, output: `[rows, d_model]`
    pub fn final_norm(&self, hidden: Tensor<2>) -> Tensor<2> {
        self.norm.forward(hidden)
    }
}
