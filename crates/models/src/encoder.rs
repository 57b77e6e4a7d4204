//! The transformer encoder that BERT, RoBERTa and DistilBERT share, with their differences as data.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::Tensor;
use eigenmix_kernels::{Activation, AttentionShape, Weight};
use eigenmix_moslora::AdaptedLinear;
use serde::Deserialize;
use serde_json::Value;

use crate::activation_name::ActivationName;
use crate::builder::Builder;
use crate::norm::LayerNorm;
use crate::read_rows::ReadRows;
use crate::residual::add_output;
use crate::{LinearLayer, ModelError, TokenBatch};

/// Which encoder family a checkpoint belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Bert,
    Roberta,
    DistilBert,
}

/// An encoder's sizes, from its `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderConfig {
    pub family: Family,
    pub vocab_size: usize,
    pub d_model: usize,
    pub d_ff: usize,
    pub n_layers: usize,
    pub n_heads: usize,
    pub max_positions: usize,
    /// 0 where the family has no segments.
    pub type_vocab_size: usize,
    pub layer_norm_epsilon: f64,
    pub pad_token_id: i32,
    activation: Activation,
}

#[derive(Deserialize)]
struct BertJson {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f64,
    hidden_act: ActivationName,
    #[serde(default)]
    pad_token_id: Option<i32>,
    #[serde(default)]
    position_embedding_type: Option<String>,
}

#[derive(Deserialize)]
struct DistilBertJson {
    vocab_size: usize,
    dim: usize,
    hidden_dim: usize,
    n_layers: usize,
    n_heads: usize,
    max_position_embeddings: usize,
    activation: ActivationName,
    #[serde(default)]
    pad_token_id: Option<i32>,
}

/// What the families call a layer's parts.
struct LayerNames {
    layers: &'static str,
    query: &'static str,
    key: &'static str,
    value: &'static str,
    attention_output: &'static str,
    attention_norm: &'static str,
    up: &'static str,
    down: &'static str,
    output_norm: &'static str,
}

impl Family {
    /// The family of a `model_type`.
    pub(crate) fn from_model_type(model_type: &str) -> Option<Self> {
        Some(match model_type {
            "bert" => Self::Bert,
            "roberta" | "xlm-roberta" | "camembert" => Self::Roberta,
            "distilbert" => Self::DistilBert,
            _ => return None,
        })
    }

    /// The model's name inside its task wrapper.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Bert => "bert",
            Self::Roberta => "roberta",
            Self::DistilBert => "distilbert",
        }
    }

    fn names(self) -> LayerNames {
        match self {
            Self::Bert | Self::Roberta => LayerNames {
                layers: "encoder.layer",
                query: "attention.self.query",
                key: "attention.self.key",
                value: "attention.self.value",
                attention_output: "attention.output.dense",
                attention_norm: "attention.output.LayerNorm",
                up: "intermediate.dense",
                down: "output.dense",
                output_norm: "output.LayerNorm",
            },
            Self::DistilBert => LayerNames {
                layers: "transformer.layer",
                query: "attention.q_lin",
                key: "attention.k_lin",
                value: "attention.v_lin",
                attention_output: "attention.out_lin",
                attention_norm: "sa_layer_norm",
                up: "ffn.lin1",
                down: "ffn.lin2",
                output_norm: "output_layer_norm",
            },
        }
    }
}

impl EncoderConfig {
    /// Reads the sizes from a parsed `config.json`.
    ///
    /// # Errors
    /// What is missing or not supported, in words.
    pub(crate) fn from_json(family: Family, json: &Value) -> Result<Self, String> {
        let config = match family {
            Family::Bert | Family::Roberta => {
                let json = BertJson::deserialize(json).map_err(|error| error.to_string())?;
                if let Some(kind) = json.position_embedding_type
                    && kind != "absolute"
                {
                    return Err(format!(
                        "position embeddings of type `{kind}` are not supported, only `absolute`"
                    ));
                }
                Self {
                    family,
                    vocab_size: json.vocab_size,
                    d_model: json.hidden_size,
                    d_ff: json.intermediate_size,
                    n_layers: json.num_hidden_layers,
                    n_heads: json.num_attention_heads,
                    max_positions: json.max_position_embeddings,
                    type_vocab_size: json.type_vocab_size,
                    layer_norm_epsilon: json.layer_norm_eps,
                    pad_token_id: json.pad_token_id.unwrap_or(0),
                    activation: json.hidden_act.into(),
                }
            }
            Family::DistilBert => {
                let json = DistilBertJson::deserialize(json).map_err(|error| error.to_string())?;
                Self {
                    family,
                    vocab_size: json.vocab_size,
                    d_model: json.dim,
                    d_ff: json.hidden_dim,
                    n_layers: json.n_layers,
                    n_heads: json.n_heads,
                    max_positions: json.max_position_embeddings,
                    type_vocab_size: 0,
                    layer_norm_epsilon: 1e-12,
                    pad_token_id: json.pad_token_id.unwrap_or(0),
                    activation: json.activation.into(),
                }
            }
        };
        if config.n_heads == 0 || config.d_model % config.n_heads != 0 {
            return Err(format!(
                "a hidden size of {} cannot be split into {} heads",
                config.d_model, config.n_heads
            ));
        }
        Ok(config)
    }

    /// The longest sequence that the position embeddings allow, special tokens included.
    pub fn max_length(&self) -> usize {
        match self.family {
            // Positions start behind the padding token's.
            Family::Roberta => self.max_positions - self.pad_token_id as usize - 1,
            Family::Bert | Family::DistilBert => self.max_positions,
        }
    }

    fn layer(&self, layer: usize, name: &str, shape: [usize; 2]) -> LinearLayer {
        let (prefix, layers) = (self.family.prefix(), self.family.names().layers);
        LinearLayer::new(format!("{prefix}.{layers}.{layer}.{name}"), shape)
    }

    /// The linear layers of one transformer layer: query, key, value, attention output, up, down.
    fn layers_of(&self, layer: usize) -> [LinearLayer; 6] {
        let names = self.family.names();
        let (d_model, d_ff) = (self.d_model, self.d_ff);
        [
            (names.query, [d_model, d_model]),
            (names.key, [d_model, d_model]),
            (names.value, [d_model, d_model]),
            (names.attention_output, [d_model, d_model]),
            (names.up, [d_ff, d_model]),
            (names.down, [d_model, d_ff]),
        ]
        .map(|(name, shape)| self.layer(layer, name, shape))
    }

    /// Every linear layer of the encoder, first to last.
    pub fn layers(&self) -> Vec<LinearLayer> {
        (0..self.n_layers)
            .flat_map(|layer| self.layers_of(layer))
            .collect()
    }

    /// How many parameters the encoder has, head and pooler excluded.
    pub fn parameters(&self) -> usize {
        let tables = self.vocab_size + self.max_positions + self.type_vocab_size;
        let linear: usize = self.layers().iter().map(LinearLayer::parameters).sum();
        let norms = 2 * self.d_model * (2 * self.n_layers + 1);
        tables * self.d_model + linear + norms
    }
}

/// Embeddings and transformer layers: tokens in, one vector a token out.
#[derive(Module, Debug)]
pub(crate) struct Encoder {
    token_embeddings: Weight,
    position_embeddings: Weight,
    token_type_embeddings: Option<Weight>,
    norm: LayerNorm,
    layers: Vec<EncoderLayer>,
    dropout: Dropout,
    n_heads: usize,
    #[module(skip)]
    positions_from: PositionRule,
}

/// How a token's position id is counted.
#[derive(Clone, Copy, Debug)]
enum PositionRule {
    /// Its place in the sequence, with the padding before it.
    Place,
    /// RoBERTa: the number of tokens before it that are not padding, counted from behind the
    /// padding token's id.
    AfterPadding(i32),
}

#[derive(Module, Debug)]
struct EncoderLayer {
    query: AdaptedLinear,
    key: AdaptedLinear,
    value: AdaptedLinear,
    attention_output: AdaptedLinear,
    attention_norm: LayerNorm,
    up: AdaptedLinear,
    down: AdaptedLinear,
    output_norm: LayerNorm,
    dropout: Dropout,
    #[module(skip)]
    activation: Activation,
}

impl Encoder {
    /// - dropout: on embeddings and on each layer's two outputs, while training
    pub fn build(
        builder: &mut Builder,
        config: &EncoderConfig,
        dropout: f64,
    ) -> Result<Self, ModelError> {
        let (prefix, d_model) = (config.family.prefix(), config.d_model);
        let epsilon = config.layer_norm_epsilon;
        let embeddings = format!("{prefix}.embeddings");
        let token_embeddings = builder.embedding(
            &format!("{embeddings}.word_embeddings"),
            [config.vocab_size, d_model],
        )?;
        let position_embeddings = builder.embedding(
            &format!("{embeddings}.position_embeddings"),
            [config.max_positions, d_model],
        )?;
        let token_type_embeddings = match config.type_vocab_size {
            0 => None,
            count => Some(builder.embedding(
                &format!("{embeddings}.token_type_embeddings"),
                [count, d_model],
            )?),
        };
        let norm = builder.layer_norm(&format!("{embeddings}.LayerNorm"), d_model, epsilon)?;
        let names = config.family.names();
        let layers = (0..config.n_layers)
            .map(|layer| {
                let path = |name: &str| format!("{prefix}.{}.{layer}.{name}", names.layers);
                let [query, key, value, attention_output, up, down] = config.layers_of(layer);
                let mut norm = |name: &str| builder.layer_norm(&path(name), d_model, epsilon);
                let (attention_norm, output_norm) =
                    (norm(names.attention_norm)?, norm(names.output_norm)?);
                Ok(EncoderLayer {
                    query: builder.linear(&query)?,
                    key: builder.linear(&key)?,
                    value: builder.linear(&value)?,
                    attention_output: builder.linear(&attention_output)?,
                    attention_norm,
                    up: builder.linear(&up)?,
                    down: builder.linear(&down)?,
                    output_norm,
                    dropout: DropoutConfig::new(dropout).init(),
                    activation: config.activation,
                })
            })
            .collect::<Result<_, ModelError>>()?;
        Ok(Self {
            token_embeddings,
            position_embeddings,
            token_type_embeddings,
            norm,
            layers,
            dropout: DropoutConfig::new(dropout).init(),
            n_heads: config.n_heads,
            positions_from: match config.family {
                Family::Roberta => PositionRule::AfterPadding(config.pad_token_id),
                Family::Bert | Family::DistilBert => PositionRule::Place,
            },
        })
    }

    pub fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// The vectors that the layers start from, a row for every token of the batch, and which
    /// sequence has which.
    pub fn embed(&self, batch: &TokenBatch) -> (Tensor<2>, AttentionShape) {
        let position_ids = self.positions_from.position_ids(batch);
        let mut tables = vec![
            (&self.token_embeddings, batch.ids()),
            (&self.position_embeddings, &position_ids[..]),
        ];
        if let Some(token_type_embeddings) = &self.token_type_embeddings {
            tables.push((token_type_embeddings, batch.type_ids()));
        }
        let hidden = eigenmix_kernels::sum_of_rows(&tables);
        let hidden = self.dropout.forward(self.norm.forward(hidden));
        let [_, d_model] = hidden.dims();
        let shape = AttentionShape::bidirectional(batch.offsets().clone(), self.n_heads, d_model);
        (hidden, shape)
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
        self.layers[layer].forward(hidden, shape, read)
    }
}

impl PositionRule {
    fn position_ids(self, batch: &TokenBatch) -> Vec<i32> {
        match self {
            Self::Place => batch.position_ids().to_vec(),
            Self::AfterPadding(padding) => {
                let mut positions = Vec::with_capacity(batch.tokens());
                for sequence in batch.offsets().windows(2) {
                    let mut position = padding;
                    for &id in &batch.ids()[sequence[0]..sequence[1]] {
                        position += i32::from(id != padding);
                        positions.push(if id == padding { padding } else { position });
                    }
                }
                positions
            }
        }
    }
}

impl EncoderLayer {
    /// Post-norm: h = LN(x + attention(x)), y = LN(h + down(activation(up(h)))).
    ///
    /// - hidden: `[rows, d_model]`
    fn forward(
        &self,
        mut hidden: Tensor<2>,
        shape: &AttentionShape,
        read: Option<&ReadRows>,
    ) -> Tensor<2> {
        let together = |layers: &[&AdaptedLinear], input: &Tensor<2>| {
            AdaptedLinear::forward_together(layers, input.clone(), None)
        };
        let attended = match read {
            None => {
                let projections = together(&[&self.query, &self.key, &self.value], &hidden);
                eigenmix_kernels::self_attention(projections, shape)
            }
            Some(read) => {
                let keys_and_values = together(&[&self.key, &self.value], &hidden);
                hidden = read.select(hidden);
                let query = self.query.forward(hidden.clone());
                eigenmix_kernels::cross_attention(query, keys_and_values, &read.attention(shape))
            }
        };
        let hidden = add_output(&self.attention_output, attended, hidden, &self.dropout);
        let hidden = self.attention_norm.forward(hidden);
        let expanded = self.activation.forward(self.up.forward(hidden.clone()));
        let hidden = add_output(&self.down, expanded, hidden, &self.dropout);
        self.output_norm.forward(hidden)
    }
}
