//! The transformer of a UNet: pixels attend to each other and to the tokens of a text.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Tensor;
use eigenmix_kernels::{Activation, AttentionShape, Visibility, cross_attention, self_attention};
use eigenmix_models::ModelError;
use eigenmix_moslora::AdaptedLinear;

use crate::layers::{GroupNorm, LayerNorm, Parts, Projection};
use crate::pixels::Pixels;
use crate::unet_config::AttentionSizes;

/// The hidden states of texts.
#[derive(Clone, Debug)]
pub(crate) struct Texts {
    /// `[images · tokens, width]`
    pub rows: Tensor<2>,
    pub tokens: usize,
}

/// x + proj_out(blocks(proj_in(norm(x)))).
#[derive(Module, Debug)]
pub(crate) struct PixelTransformer {
    norm: GroupNorm,
    proj_in: Projection,
    blocks: Vec<TransformerBlock>,
    proj_out: Projection,
    n_heads: usize,
}

/// x + attention to the pixels, + attention to the text, + f(x), each of the normalised x.
#[derive(Module, Debug)]
struct TransformerBlock {
    norm1: LayerNorm,
    pixels: Attention,
    norm2: LayerNorm,
    texts: Attention,
    norm3: LayerNorm,
    expand: AdaptedLinear,
    reduce: AdaptedLinear,
}

#[derive(Module, Debug)]
struct Attention {
    query: AdaptedLinear,
    key: AdaptedLinear,
    value: AdaptedLinear,
    output: AdaptedLinear,
}

impl PixelTransformer {
    pub fn build(
        parts: &mut Parts,
        path: &str,
        sizes: &AttentionSizes,
        groups: usize,
    ) -> Result<Self, ModelError> {
        let at = |name: &str| format!("{path}.{name}");
        let blocks = (0..sizes.n_layers)
            .map(|index| {
                TransformerBlock::build(parts, &at(&format!("transformer_blocks.{index}")))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            norm: parts.group_norm(&at("norm"), &at("proj_in"), groups, 1e-6)?,
            proj_in: parts.projection(&at("proj_in"))?,
            blocks,
            proj_out: parts.projection(&at("proj_out"))?,
            n_heads: sizes.n_heads,
        })
    }

    pub fn forward(&self, input: Pixels, texts: &Texts) -> Pixels {
        let mut hidden = self.proj_in.forward(self.norm.forward(&input), None);
        let [_, width] = hidden.dims();
        let pixels = AttentionShape {
            scale: 1.0 / ((width / self.n_heads) as f32).sqrt(),
            ..AttentionShape::bidirectional(
                offsets(input.images, input.count()),
                self.n_heads,
                width,
            )
        };
        let of_texts = AttentionShape {
            key_offsets: offsets(input.images, texts.tokens),
            visibility: Visibility::Everything,
            ..pixels.clone()
        };
        for block in &self.blocks {
            hidden = block.forward(hidden, texts, &pixels, &of_texts);
        }
        let output = self.proj_out.forward(hidden, Some(input.rows.clone()));
        input.with(output)
    }
}

/// The first row of each of `count` sequences of one length, and the end.
pub(crate) fn offsets(count: usize, length: usize) -> Arc<[usize]> {
    (0..=count).map(|index| index * length).collect()
}

impl TransformerBlock {
    fn build(parts: &mut Parts, path: &str) -> Result<Self, ModelError> {
        let at = |name: &str| format!("{path}.{name}");
        let expand = at("ff.net.0.proj");
        Ok(Self {
            norm1: parts.layer_norm(&at("norm1"), &at("attn1.to_q"))?,
            pixels: Attention::build(parts, &at("attn1"))?,
            norm2: parts.layer_norm(&at("norm2"), &at("attn2.to_q"))?,
            texts: Attention::build(parts, &at("attn2"))?,
            norm3: parts.layer_norm(&at("norm3"), &expand)?,
            expand: parts.linear(&expand)?,
            reduce: parts.linear(&at("ff.net.2"))?,
        })
    }

    /// - hidden: `[images · pixels, width]`
    fn forward(
        &self,
        hidden: Tensor<2>,
        texts: &Texts,
        pixels: &AttentionShape,
        of_texts: &AttentionShape,
    ) -> Tensor<2> {
        let together = AdaptedLinear::forward_together;
        let Attention {
            query, key, value, ..
        } = &self.pixels;
        let normalised = self.norm1.forward(hidden.clone());
        let attended = self_attention(together(&[query, key, value], normalised, None), pixels);
        let hidden = together(&[&self.pixels.output], attended, Some(hidden));
        let Attention {
            query, key, value, ..
        } = &self.texts;
        let queries = query.forward(self.norm2.forward(hidden.clone()));
        let keys_and_values = together(&[key, value], texts.rows.clone(), None);
        let attended = cross_attention(queries, keys_and_values, of_texts);
        let hidden = together(&[&self.texts.output], attended, Some(hidden));
        let expanded = self.expand.forward(self.norm3.forward(hidden.clone()));
        let gated = Activation::Gelu.gate_behind(expanded);
        together(&[&self.reduce], gated, Some(hidden))
    }
}

impl Attention {
    fn build(parts: &mut Parts, path: &str) -> Result<Self, ModelError> {
        Ok(Self {
            query: parts.linear(&format!("{path}.to_q"))?,
            key: parts.linear(&format!("{path}.to_k"))?,
            value: parts.linear(&format!("{path}.to_v"))?,
            output: parts.linear(&format!("{path}.to_out.0"))?,
        })
    }
}
