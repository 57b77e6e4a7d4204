//! The pre-norm transformer block that decoders and vision models share, with their differences as
//! data.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::Tensor;
use eigenmix_kernels::{Activation, AttentionShape, KeyValueCache};
use eigenmix_moslora::AdaptedLinear;

use crate::builder::Builder;
use crate::norm::{Norm, NormKind};
use crate::read_rows::ReadRows;
use crate::residual::add_output;
use crate::rotary::RotaryAngles;
use crate::{LinearLayer, ModelError};

/// A block's sizes, options and the names of its parts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BlockConfig {
    pub d_model: usize,
    pub d_ff: usize,
    pub n_heads: usize,
    pub n_key_heads: usize,
    pub d_head: usize,
    pub activation: Activation,
    pub norm: NormKind,
    pub norm_epsilon: f64,
    /// Biases of query, key and value.
    pub input_bias: bool,
    /// Bias of the attention's output.
    pub output_bias: bool,
    pub mlp_bias: bool,
    /// Whether weights are stored `[d_in, d_out]`.
    pub transposed: bool,
    pub names: BlockNames,
}

/// What a family calls a block's parts, below the block's own path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BlockNames {
    pub attention_norm: &'static str,
    pub inputs: InputNames,
    pub output: &'static str,
    /// The norms of each head's queries and keys, where there are any (Qwen 3).
    pub head_norms: Option<[&'static str; 2]>,
    /// A norm of the output of attention (Gemma 2).
    pub post_attention_norm: Option<&'static str>,
    pub mlp_norm: &'static str,
    /// The gate of a gated linear unit.
    pub gate: Option<&'static str>,
    pub up: &'static str,
    pub down: &'static str,
    pub post_mlp_norm: Option<&'static str>,
}

/// Queries, keys and values from a layer each, or from one (GPT-2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum InputNames {
    Separate([&'static str; 3]),
    Fused(&'static str),
}

/// The linear layers of one block, by their part in it.
struct BlockLayers {
    inputs: Vec<LinearLayer>,
    output: LinearLayer,
    gate: Option<LinearLayer>,
    up: LinearLayer,
    down: LinearLayer,
}

impl BlockConfig {
    fn block_layers(&self, block: &str) -> BlockLayers {
        let layer = |name: &str, shape, bias| LinearLayer {
            bias,
            transposed: self.transposed,
            ..LinearLayer::new(format!("{block}.{name}"), shape)
        };
        let (width, key_width) = (self.n_heads * self.d_head, self.n_key_heads * self.d_head);
        let inputs = match self.names.inputs {
            InputNames::Separate(names) => names
                .iter()
                .zip([width, key_width, key_width])
                .map(|(name, d_out)| layer(name, [d_out, self.d_model], self.input_bias))
                .collect(),
            InputNames::Fused(name) => {
                let d_out = width + 2 * key_width;
                vec![layer(name, [d_out, self.d_model], self.input_bias)]
            }
        };
        let (wide, narrow) = ([self.d_ff, self.d_model], [self.d_model, self.d_ff]);
        BlockLayers {
            inputs,
            output: layer(self.names.output, [self.d_model, width], self.output_bias),
            gate: self.names.gate.map(|name| layer(name, wide, self.mlp_bias)),
            up: layer(self.names.up, wide, self.mlp_bias),
            down: layer(self.names.down, narrow, self.mlp_bias),
        }
    }

    /// The linear layers of the block at that path, first to last.
    pub fn layers(&self, block: &str) -> Vec<LinearLayer> {
        let layers = self.block_layers(block);
        let mut all = layers.inputs;
        all.push(layers.output);
        all.extend(layers.gate);
        all.extend([layers.up, layers.down]);
        all
    }

    /// How many activations a block keeps per row for the backward pass; see
    /// [`ModelConfig::activations_per_row`](crate::ModelConfig::activations_per_row).
    pub fn activations_per_row(&self) -> [usize; 2] {
        let (width, key_width) = (self.n_heads * self.d_head, self.n_key_heads * self.d_head);
        // What goes into the activation function, and a gate.
        let mlp = match self.names.gate {
            Some(_) => 2 * self.d_ff,
            None => self.d_ff,
        };
        // Inputs of the norms; queries, keys, values and what the attention makes of them.
        let passed = 2 * self.d_model + 2 * width + 2 * key_width + mlp;
        // What the norms give to the linear layers, and the last one's input.
        [passed + 2 * self.d_model + self.d_ff, passed]
    }

    /// How many parameters a block has.
    pub fn parameters(&self) -> usize {
        let linear: usize = self.layers("").iter().map(LinearLayer::parameters).sum();
        let names = &self.names;
        let norms = 2
            + usize::from(names.post_attention_norm.is_some())
            + usize::from(names.post_mlp_norm.is_some());
        let head_norms = names
            .head_norms
            .map_or(0, |_| 2 * self.norm.parameters(self.d_head));
        linear + norms * self.norm.parameters(self.d_model) + head_norms
    }
}

/// x ← x + attention(norm(x)), then x ← x + mlp(norm(x)).
#[derive(Module, Debug)]
pub(crate) struct Block {
    attention_norm: Norm,
    attention: Attention,
    post_attention_norm: Option<Norm>,
    mlp_norm: Norm,
    mlp: Mlp,
    post_mlp_norm: Option<Norm>,
    dropout: Dropout,
}

#[derive(Module, Debug)]
struct Attention {
    inputs: AttentionInputs,
    head_norms: Option<HeadNorms>,
    output: AdaptedLinear,
    width: usize,
    key_width: usize,
}

#[derive(Module, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one a block, and it is not moved about"
)]
enum AttentionInputs {
    Separate(SeparateInputs),
    Fused(AdaptedLinear),
}

#[derive(Module, Debug)]
struct SeparateInputs {
    query: AdaptedLinear,
    key: AdaptedLinear,
    value: AdaptedLinear,
}

#[derive(Module, Debug)]
struct HeadNorms {
    query: Norm,
    key: Norm,
}

/// down(f(up(x))), or down(f(gate(x)) ⊙ up(x)).
#[derive(Module, Debug)]
struct Mlp {
    gate: Option<AdaptedLinear>,
    up: AdaptedLinear,
    down: AdaptedLinear,
    #[module(skip)]
    activation: Activation,
}

/// What a block needs to know of the batch.
pub(crate) struct BlockContext<'a> {
    pub shape: &'a AttentionShape,
    pub rotary: Option<&'a RotaryAngles>,
    /// Which rows of the output are needed; `None`: all of them.
    pub read: Option<&'a ReadRows>,
}

impl Block {
    /// - dropout: on what attention and the MLP add, while training
    pub fn build(
        builder: &mut Builder,
        config: &BlockConfig,
        path: &str,
        dropout: f64,
    ) -> Result<Self, ModelError> {
        let layers = config.block_layers(path);
        let names = &config.names;
        let norm = |builder: &mut Builder, name: &str, width| {
            builder.norm(
                &format!("{path}.{name}"),
                config.norm,
                width,
                config.norm_epsilon,
            )
        };
        let optional = |builder: &mut Builder, name: Option<&str>| {
            name.map(|name| norm(builder, name, config.d_model))
                .transpose()
        };
        let inputs = match &layers.inputs[..] {
            [query, key, value] => AttentionInputs::Separate(SeparateInputs {
                query: builder.linear(query)?,
                key: builder.linear(key)?,
                value: builder.linear(value)?,
            }),
            fused => AttentionInputs::Fused(builder.linear(&fused[0])?),
        };
        Ok(Self {
            attention_norm: norm(builder, names.attention_norm, config.d_model)?,
            attention: Attention {
                inputs,
                head_norms: match names.head_norms {
                    Some([query, key]) => Some(HeadNorms {
                        query: norm(builder, query, config.d_head)?,
                        key: norm(builder, key, config.d_head)?,
                    }),
                    None => None,
                },
                output: builder.linear(&layers.output)?,
                width: config.n_heads * config.d_head,
                key_width: config.n_key_heads * config.d_head,
            },
            post_attention_norm: optional(builder, names.post_attention_norm)?,
            mlp_norm: norm(builder, names.mlp_norm, config.d_model)?,
            mlp: Mlp {
                gate: layers
                    .gate
                    .as_ref()
                    .map(|gate| builder.linear(gate))
                    .transpose()?,
                up: builder.linear(&layers.up)?,
                down: builder.linear(&layers.down)?,
                activation: config.activation,
            },
            post_mlp_norm: optional(builder, names.post_mlp_norm)?,
            dropout: DropoutConfig::new(dropout).init(),
        })
    }

    /// - hidden: `[rows, d_model]`
    /// - cache: keys and values of the tokens before, which the batch's are added to
    pub fn forward(
        &self,
        mut hidden: Tensor<2>,
        context: &BlockContext,
        cache: Option<&mut KeyValueCache>,
    ) -> Tensor<2> {
        let normalised = self.attention_norm.forward(hidden.clone());
        let attended = self.attention.forward(normalised, context, cache);
        if let Some(read) = context.read {
            hidden = read.select(hidden);
        }
        let output = &self.attention.output;
        let hidden = self.added(output, attended, hidden, &self.post_attention_norm);
        let expanded = self.mlp.expand(self.mlp_norm.forward(hidden.clone()));
        self.added(&self.mlp.down, expanded, hidden, &self.post_mlp_norm)
    }

    /// residual + dropout(norm(layer(input))).
    fn added(
        &self,
        layer: &AdaptedLinear,
        input: Tensor<2>,
        residual: Tensor<2>,
        norm: &Option<Norm>,
    ) -> Tensor<2> {
        match norm {
            Some(norm) => residual + self.dropout.forward(norm.forward(layer.forward(input))),
            None => add_output(layer, input, residual, &self.dropout),
        }
    }
}

impl Attention {
    /// What the heads give, before the output layer.
    ///
    /// - input: `[rows, d_model]`
    /// - output: `[rows, n_heads · d_head]`, of the needed rows
    fn forward(
        &self,
        input: Tensor<2>,
        context: &BlockContext,
        cache: Option<&mut KeyValueCache>,
    ) -> Tensor<2> {
        let read = |attended: Tensor<2>| match context.read {
            Some(read) => read.select(attended),
            None => attended,
        };
        if self.head_norms.is_some() {
            return read(self.forward_apart(input, context, cache));
        }
        let AttentionShape {
            n_heads,
            n_key_heads,
            ..
        } = *context.shape;
        let turned = |input: Tensor<2>, angles: Option<&RotaryAngles>, heads| match angles {
            Some(angles) => angles.turn(input, heads),
            None => input,
        };
        if let (Some(read), AttentionInputs::Separate(layers), None) =
            (context.read, &self.inputs, &cache)
        {
            let query = layers.query.forward(read.select(input.clone()));
            let both = AdaptedLinear::forward_together(&[&layers.key, &layers.value], input, None);
            let angles = context.rotary.map(|angles| angles.of(read));
            return eigenmix_kernels::cross_attention(
                turned(query, angles.as_ref(), n_heads),
                turned(both, context.rotary, n_key_heads),
                &read.attention(context.shape),
            );
        }
        let projections = match &self.inputs {
            AttentionInputs::Separate(SeparateInputs { query, key, value }) => {
                AdaptedLinear::forward_together(&[query, key, value], input, None)
            }
            AttentionInputs::Fused(layer) => layer.forward(input),
        };
        let projections = turned(projections, context.rotary, n_heads + n_key_heads);
        read(match cache {
            Some(cache) => {
                eigenmix_kernels::cached_self_attention(projections, cache, context.shape)
            }
            None => eigenmix_kernels::self_attention(projections, context.shape),
        })
    }

    /// Queries, keys and values in a tensor each, where heads are normalised.
    fn forward_apart(
        &self,
        input: Tensor<2>,
        context: &BlockContext,
        cache: Option<&mut KeyValueCache>,
    ) -> Tensor<2> {
        let [mut query, mut key, value] = self.inputs(input);
        if let Some(norms) = &self.head_norms {
            query = norms.query.forward(query);
            key = norms.key.forward(key);
        }
        if let Some(angles) = context.rotary {
            query = angles.turn(query, context.shape.n_heads);
            key = angles.turn(key, context.shape.n_key_heads);
        }
        match cache {
            Some(cache) => {
                eigenmix_kernels::cached_attention(query, key, value, cache, context.shape)
            }
            None => eigenmix_kernels::attention(query, key, value, context.shape),
        }
    }

    fn inputs(&self, input: Tensor<2>) -> [Tensor<2>; 3] {
        match &self.inputs {
            AttentionInputs::Separate(layers) => [
                layers.query.forward(input.clone()),
                layers.key.forward(input.clone()),
                layers.value.forward(input),
            ],
            AttentionInputs::Fused(layer) => {
                let (width, key_width) = (self.width, self.key_width);
                let all = layer.forward(input);
                let [rows, _] = all.dims();
                let part =
                    |start: usize, width: usize| all.clone().slice([0..rows, start..start + width]);
                [
                    part(0, width),
                    part(width, key_width),
                    part(width + key_width, key_width),
                ]
            }
        }
    }
}

impl Mlp {
    /// f(up(x)), or f(gate(x)) ⊙ up(x).
    fn expand(&self, input: Tensor<2>) -> Tensor<2> {
        match &self.gate {
            Some(gate) => {
                let both = AdaptedLinear::forward_together(&[gate, &self.up], input, None);
                self.activation.gate(both)
            }
            None => self.activation.forward(self.up.forward(input)),
        }
    }
}
