//! The transformer encoder that BERT, RoBERTa and DistilBERT share, with their differences as data.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::Tensor;
use eigenmix_kernels::{Activation, AttentionShape, Weight};
use eigenmix_moslora::AdaptedLinear;

use crate::builder::Builder;
use crate::encoder_config::{EncoderConfig, EncoderFamily};
use crate::norm::LayerNorm;
use crate::read_rows::ReadRows;
use crate::residual::add_output;
use crate::{ModelError, TokenBatch};

/// Embeddings and transformer layers: tokens in, one hidden state per token out.
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
        let token_embeddings =
            builder.embedding(&config.word_embeddings(), [config.vocab_size, d_model])?;
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
                EncoderFamily::Roberta => PositionRule::AfterPadding(config.pad_token_id),
                EncoderFamily::Bert | EncoderFamily::DistilBert => PositionRule::Place,
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
    /// - read: which rows of the output are needed; `None`: all of them
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
