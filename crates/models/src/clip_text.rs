//! The text tower of CLIP: tokens of a text in, one vector to compare with those of images out.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use eigenmix_kernels::{AttentionShape, Visibility, Weight};
use eigenmix_moslora::{AdaptedLinear, ParameterNames};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::activation_name::ActivationName;
use crate::block::{Block, BlockConfig, BlockContext};
use crate::builder::Builder;
use crate::clip_names::clip_block_names;
use crate::nested_config::nested_config;
use crate::norm::{LayerNorm, NormKind};
use crate::plausible_sizes::require_plausible;
use crate::{
    Adaptation, AdaptedTables, Checkpoint, Description, LinearLayer, LoadReport, ModelError,
    TokenBatch,
};

/// The name of the tower in checkpoints and adapters.
const PREFIX: &str = "text_model";
/// Where the configuration of a whole CLIP has that of the tower.
const TEXT_CONFIG: &str = "text_config";
/// The layer that gives features as wide as those of images.
const PROJECTION: &str = "text_projection";

/// The sizes of CLIP's text tower, from the `config.json` of a whole CLIP.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipTextConfig {
    pub n_layers: usize,
    pub vocab_size: usize,
    /// The longest text it takes, special tokens included.
    pub max_positions: usize,
    /// The width of its features, if it has a projection to them.
    pub projection_dim: Option<usize>,
    end_of_text: EndOfText,
    block: BlockConfig,
}

/// Which token's vector stands for the whole text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndOfText {
    /// The first one of this id, or the first of all where there is none.
    Token(i32),
    /// The first one of the largest id: in configurations from before the id was written right,
    /// which say 2.
    LargestId,
}

#[derive(Deserialize)]
struct TextJson {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    max_position_embeddings: usize,
    layer_norm_eps: f64,
    hidden_act: ActivationName,
    eos_token_id: i32,
}

impl ClipTextConfig {
    /// - json: the `config.json` of a whole CLIP
    /// - projection_dim: the width of its features
    ///
    /// # Errors
    /// A message about what is invalid.
    pub(crate) fn from_json(json: &Value, projection_dim: usize) -> Result<Self, String> {
        Self::of_tower(json, Some(projection_dim))
            .map_err(|problem| format!("`text_config`: {problem}"))
    }

    /// That of a text tower alone, a text encoder of Stable Diffusion.
    ///
    /// - json: its own `config.json`
    /// - has_projection: whether the projection to features belongs to it
    ///
    /// # Errors
    /// A message about what is invalid.
    pub fn of_text_encoder(json: &Value, has_projection: bool) -> Result<Self, String> {
        let width = json.get("projection_dim").and_then(Value::as_u64);
        // The default of its class.
        let width = width
            .and_then(|width| usize::try_from(width).ok())
            .unwrap_or(512);
        if has_projection {
            require_plausible(0, [width, 1], None)?;
        }
        let json = json!({ TEXT_CONFIG: json });
        Self::of_tower(&json, has_projection.then_some(width))
    }

    /// - json: that of the tower in `text_config`
    fn of_tower(json: &Value, projection_dim: Option<usize>) -> Result<Self, String> {
        // What transformers leaves out of a nested configuration has the default of its class.
        let defaults = json!({
            "vocab_size": 49408, "hidden_size": 512, "intermediate_size": 2048,
            "num_hidden_layers": 12, "num_attention_heads": 8, "max_position_embeddings": 77,
            "layer_norm_eps": 1e-5, "hidden_act": "quick_gelu", "eos_token_id": 49407,
        });
        let own = nested_config(json, TEXT_CONFIG, defaults);
        let sizes = TextJson::deserialize(own).map_err(|error| error.to_string())?;
        let (d_model, n_heads) = (sizes.hidden_size, sizes.num_attention_heads);
        if n_heads == 0 || !d_model.is_multiple_of(n_heads) {
            return Err(format!(
                "a hidden size of {d_model} cannot be split into {n_heads} heads"
            ));
        }
        let widths = [d_model, sizes.intermediate_size];
        require_plausible(sizes.num_hidden_layers, widths, Some(sizes.vocab_size))?;
        Ok(Self {
            n_layers: sizes.num_hidden_layers,
            vocab_size: sizes.vocab_size,
            max_positions: sizes.max_position_embeddings,
            projection_dim,
            end_of_text: match sizes.eos_token_id {
                2 => EndOfText::LargestId,
                id => EndOfText::Token(id),
            },
            block: BlockConfig {
                d_model,
                d_ff: sizes.intermediate_size,
                n_heads,
                n_key_heads: n_heads,
                d_head: d_model / n_heads,
                activation: sizes.hidden_act.into(),
                norm: NormKind::Layer,
                norm_epsilon: sizes.layer_norm_eps,
                input_bias: true,
                output_bias: true,
                mlp_bias: true,
                transposed: false,
                names: clip_block_names(),
            },
        })
    }

    fn block_path(&self, layer: usize) -> String {
        format!("{PREFIX}.encoder.layers.{layer}")
    }

    /// The width of its hidden states.
    pub fn width(&self) -> usize {
        self.block.d_model
    }

    fn projection(&self) -> Option<LinearLayer> {
        Some(LinearLayer {
            bias: false,
            head: true,
            ..LinearLayer::new(PROJECTION, [self.projection_dim?, self.block.d_model])
        })
    }

    /// Every linear layer, first to last, and the projection.
    pub fn describe(&self) -> Description {
        let projection = self.projection();
        let d_model = self.block.d_model;
        let blocks = self.n_layers * self.block.parameters();
        let parameters = d_model * (self.vocab_size + self.max_positions + 2)
            + blocks
            + projection.as_ref().map_or(0, LinearLayer::parameters);
        let mut layers: Vec<LinearLayer> = (0..self.n_layers)
            .flat_map(|layer| self.block.layers(&self.block_path(layer)))
            .collect();
        let head_tensors = projection.as_ref().map_or(Vec::new(), LinearLayer::tensors);
        let head_modules = projection
            .as_ref()
            .map(|_| PROJECTION)
            .into_iter()
            .collect();
        layers.extend(projection);
        Description {
            prefix: PREFIX,
            layers,
            head_tensors,
            head_modules,
            parameters,
        }
    }

    /// The part of `adapter` that adapts this tower, and how it matched; `None` if there is none.
    ///
    /// # Errors
    /// As [`Adaptation::from_adapter`].
    pub fn adaptation(
        &self,
        adapter: &eigenmix_adapter::Adapter,
        checkpoint: &Checkpoint,
    ) -> Result<Option<(Adaptation, LoadReport)>, ModelError> {
        let part = divide(adapter, is_of_text_tower);
        match part.modules.is_empty() && part.heads.is_empty() && part.biases.is_empty() {
            true => Ok(None),
            false => {
                let (description, tables) = (self.describe(), AdaptedTables::default());
                Adaptation::from_adapter(&part, &description, tables, checkpoint).map(Some)
            }
        }
    }
}

/// An adapter of a whole CLIP without what adapts its text tower.
pub fn without_text_tower(adapter: &eigenmix_adapter::Adapter) -> eigenmix_adapter::Adapter {
    divide(adapter, |name| !is_of_text_tower(name))
}

/// Whether a module or tensor of that name is one of CLIP's text tower.
pub fn is_of_text_tower(name: &str) -> bool {
    let first = name.split_once('.').map_or(name, |(first, _)| first);
    [PREFIX, PROJECTION].contains(&first)
}

fn divide(
    adapter: &eigenmix_adapter::Adapter,
    keep: impl Fn(&str) -> bool,
) -> eigenmix_adapter::Adapter {
    let mut part = adapter.clone();
    part.modules.retain(|path, _| keep(path));
    part.heads.retain(|name, _| keep(name));
    part.biases.retain(|name, _| keep(name));
    part
}

/// Embeddings, blocks, the final norm and the projection; only updates are trained.
#[derive(Module, Debug)]
pub struct ClipText {
    token_embeddings: Weight,
    position_embeddings: Weight,
    blocks: Vec<Block>,
    norm: LayerNorm,
    projection: Option<AdaptedLinear>,
    n_heads: usize,
    d_model: usize,
    max_positions: usize,
    #[module(skip)]
    end_of_text: EndOfText,
}

impl ClipText {
    /// Builds the text tower of `checkpoint` on `device`.
    ///
    /// - adaptation: what adapts this tower; see [`ClipTextConfig::adaptation`]
    ///
    /// # Errors
    /// If a tensor is missing or has another shape than the configuration implies.
    pub fn load(
        checkpoint: &Checkpoint,
        config: &ClipTextConfig,
        adaptation: &Adaptation,
        device: &Device,
    ) -> Result<Self, ModelError> {
        Ok(Self::load_named(checkpoint, config, adaptation, device)?.0)
    }

    /// The same, with the names of what is trained in it.
    ///
    /// # Errors
    /// As [`ClipText::load`].
    pub fn load_named(
        checkpoint: &Checkpoint,
        config: &ClipTextConfig,
        adaptation: &Adaptation,
        device: &Device,
    ) -> Result<(Self, ParameterNames), ModelError> {
        let mut builder = Builder::frozen(checkpoint, adaptation, PREFIX, device);
        let d_model = config.block.d_model;
        let embedding = format!("{PREFIX}.embeddings.token_embedding");
        let token_embeddings = builder.embedding(&embedding, [config.vocab_size, d_model])?;
        let embedding = format!("{PREFIX}.embeddings.position_embedding");
        let position_embeddings = builder.embedding(&embedding, [config.max_positions, d_model])?;
        let blocks = (0..config.n_layers)
            .map(|layer| Block::build(&mut builder, &config.block, &config.block_path(layer), 0.0))
            .collect::<Result<_, _>>()?;
        let norm = format!("{PREFIX}.final_layer_norm");
        let text = Self {
            token_embeddings,
            position_embeddings,
            blocks,
            norm: builder.layer_norm(&norm, d_model, config.block.norm_epsilon)?,
            projection: match config.projection() {
                Some(projection) => Some(builder.linear(&projection)?),
                None => None,
            },
            n_heads: config.block.n_heads,
            d_model,
            max_positions: config.max_positions,
            end_of_text: config.end_of_text,
        };
        Ok((text, builder.finish().0))
    }

    /// How many tokens it knows.
    pub fn vocab_size(&self) -> usize {
        let [tokens, _] = self.token_embeddings.dims();
        tokens
    }

    /// The longest text it takes, special tokens included.
    pub fn max_positions(&self) -> usize {
        self.max_positions
    }

    /// The features of texts as CLIP's `get_text_features` gives them, not normalised; without a
    /// projection, the vectors that stand for the texts.
    ///
    /// - output: `[texts, projection_dim]`
    pub fn features(&self, batch: &TokenBatch, device: &Device) -> Tensor<2> {
        self.features_of(self.hidden_states(batch).last, batch, device)
    }

    /// - hidden: the last block's, of all tokens
    fn features_of(&self, hidden: Tensor<2>, batch: &TokenBatch, device: &Device) -> Tensor<2> {
        let rows = self.end_of_text.rows(batch);
        let rows = TensorData::new(rows, [batch.sequences()]);
        let ends = hidden.select(0, Tensor::<1, Int>::from_data(rows, device));
        let ends = self.norm.forward(ends);
        match &self.projection {
            Some(projection) => projection.forward(ends),
            None => ends,
        }
    }

    /// What a diffusion model can be given of texts.
    pub fn states(&self, batch: &TokenBatch, device: &Device) -> ClipTextStates {
        let HiddenStates { last, penultimate } = self.hidden_states(batch);
        ClipTextStates {
            last: self.norm.forward(last.clone()),
            penultimate,
            features: self.features_of(last, batch, device),
        }
    }

    fn hidden_states(&self, batch: &TokenBatch) -> HiddenStates {
        let mut hidden = eigenmix_kernels::sum_of_rows(&[
            (&self.token_embeddings, batch.ids()),
            (&self.position_embeddings, batch.position_ids()),
        ]);
        let shape = AttentionShape {
            visibility: Visibility::Causal,
            ..AttentionShape::bidirectional(batch.offsets().clone(), self.n_heads, self.d_model)
        };
        let context = BlockContext {
            shape: &shape,
            rotary: None,
            read: None,
        };
        let mut penultimate = hidden.clone();
        for block in &self.blocks {
            penultimate = hidden.clone();
            hidden = block.forward(hidden, &context, None);
        }
        HiddenStates {
            last: hidden,
            penultimate,
        }
    }
}

/// The outputs of the last two blocks.
struct HiddenStates {
    last: Tensor<2>,
    penultimate: Tensor<2>,
}

/// A text tower's outputs; `rows` counts the tokens of all texts.
#[derive(Clone, Debug)]
pub struct ClipTextStates {
    /// After the last block and the final norm: `[rows, width]`.
    pub last: Tensor<2>,
    /// After the last block but one, not normalised: `[rows, width]`.
    pub penultimate: Tensor<2>,
    /// As [`ClipText::features`]: `[texts, projection_dim]`.
    pub features: Tensor<2>,
}

impl EndOfText {
    /// The row that stands for each text.
    fn rows(self, batch: &TokenBatch) -> Vec<i32> {
        let of_text = |rows: &[usize]| {
            let ids = &batch.ids()[rows[0]..rows[1]];
            let wanted = match self {
                Self::Token(id) => Some(id),
                Self::LargestId => ids.iter().copied().max(),
            };
            let place = ids.iter().position(|&id| Some(id) == wanted).unwrap_or(0);
            (rows[0] + place) as i32
        };
        batch.offsets().windows(2).map(of_text).collect()
    }
}

#[cfg(test)]
#[path = "clip_text_tests.rs"]
mod tests;
