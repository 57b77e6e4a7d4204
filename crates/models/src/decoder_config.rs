//! The decoder families: their sizes and options from `config.json`, their differences as data.

use eigenmix_kernels::{Activation, Visibility};
use serde::Deserialize;
use serde_json::Value;

use crate::LinearLayer;
use crate::activation_name::ActivationName;
use crate::block::{BlockConfig, BlockNames, InputNames};
use crate::norm::NormKind;
use crate::rotary::RotaryConfig;

/// Which decoder family a checkpoint belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecoderFamily {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
    Gemma2,
    Gpt2,
}

/// A decoder's sizes and options, from its `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    pub family: DecoderFamily,
    pub vocab_size: usize,
    pub n_layers: usize,
    /// The longest sequence that it was made for.
    pub max_positions: usize,
    /// Whether the output layer is the embedding table.
    pub tied: bool,
    pub(crate) block: BlockConfig,
    /// `None` where positions have an embedding table (GPT-2).
    pub(crate) rotary: Option<RotaryConfig>,
    /// What each layer's queries see.
    pub(crate) visibility: Vec<Visibility>,
    /// What token embeddings are multiplied by (Gemma: √d_model).
    pub(crate) embedding_scale: Option<f64>,
    pub(crate) attention_scale: f32,
    pub(crate) attention_softcap: Option<f32>,
    pub(crate) output_softcap: Option<f32>,
}

impl DecoderFamily {
    /// The family of a `model_type`.
    pub(crate) fn from_model_type(model_type: &str) -> Option<Self> {
        Some(match model_type {
            "llama" => Self::Llama,
            "mistral" => Self::Mistral,
            "qwen2" => Self::Qwen2,
            "qwen3" => Self::Qwen3,
            "gemma2" => Self::Gemma2,
            "gpt2" => Self::Gpt2,
            _ => return None,
        })
    }

    /// The model's name inside its task wrapper.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Gpt2 => "transformer",
            _ => "model",
        }
    }

    pub(crate) fn layers_name(self) -> &'static str {
        match self {
            Self::Gpt2 => "transformer.h",
            _ => "model.layers",
        }
    }

    pub(crate) fn embedding_name(self) -> &'static str {
        match self {
            Self::Gpt2 => "transformer.wte",
            _ => "model.embed_tokens",
        }
    }

    pub(crate) fn final_norm_name(self) -> &'static str {
        match self {
            Self::Gpt2 => "transformer.ln_f",
            _ => "model.norm",
        }
    }

    fn block_names(self) -> BlockNames {
        let llama = BlockNames {
            attention_norm: "input_layernorm",
            inputs: InputNames::Separate([
                "self_attn.q_proj",
                "self_attn.k_proj",
                "self_attn.v_proj",
            ]),
            output: "self_attn.o_proj",
            head_norms: None,
            post_attention_norm: None,
            mlp_norm: "post_attention_layernorm",
            gate: Some("mlp.gate_proj"),
            up: "mlp.up_proj",
            down: "mlp.down_proj",
            post_mlp_norm: None,
        };
        match self {
            Self::Llama | Self::Mistral | Self::Qwen2 => llama,
            Self::Qwen3 => BlockNames {
                head_norms: Some(["self_attn.q_norm", "self_attn.k_norm"]),
                ..llama
            },
            Self::Gemma2 => BlockNames {
                post_attention_norm: Some("post_attention_layernorm"),
                mlp_norm: "pre_feedforward_layernorm",
                post_mlp_norm: Some("post_feedforward_layernorm"),
                ..llama
            },
            Self::Gpt2 => BlockNames {
                attention_norm: "ln_1",
                inputs: InputNames::Fused("attn.c_attn"),
                output: "attn.c_proj",
                mlp_norm: "ln_2",
                gate: None,
                up: "mlp.c_fc",
                down: "mlp.c_proj",
                ..llama
            },
        }
    }
}

#[derive(Deserialize)]
struct DecoderJson {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    hidden_act: Option<ActivationName>,
    hidden_activation: Option<ActivationName>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    tie_word_embeddings: Option<bool>,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<usize>,
    layer_types: Option<Vec<String>>,
    attn_logit_softcapping: Option<f32>,
    final_logit_softcapping: Option<f32>,
    query_pre_attn_scalar: Option<f32>,
}

#[derive(Deserialize)]
struct Gpt2Json {
    vocab_size: usize,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    n_inner: Option<usize>,
    n_positions: usize,
    layer_norm_epsilon: f64,
    activation_function: ActivationName,
    scale_attn_weights: Option<bool>,
    scale_attn_by_inverse_layer_idx: Option<bool>,
    tie_word_embeddings: Option<bool>,
}

impl DecoderConfig {
    /// # Errors
    /// What is missing or not supported, in words.
    pub(crate) fn from_json(family: DecoderFamily, json: &Value) -> Result<Self, String> {
        let config = match family {
            DecoderFamily::Gpt2 => {
                Self::gpt2(Gpt2Json::deserialize(json).map_err(|error| error.to_string())?)?
            }
            _ => {
                let sizes = DecoderJson::deserialize(json).map_err(|error| error.to_string())?;
                Self::rotary(family, &sizes, RotaryConfig::from_json(json)?)?
            }
        };
        let block = &config.block;
        if block.n_key_heads == 0 || !block.n_heads.is_multiple_of(block.n_key_heads) {
            return Err(format!(
                "{} heads of queries cannot share {} of keys",
                block.n_heads, block.n_key_heads
            ));
        }
        if block.d_head == 0 || (config.rotary.is_some() && block.d_head % 2 == 1) {
            return Err(format!("heads of width {} cannot be turned", block.d_head));
        }
        Ok(config)
    }

    fn rotary(
        family: DecoderFamily,
        json: &DecoderJson,
        rotary: RotaryConfig,
    ) -> Result<Self, String> {
        let gemma = family == DecoderFamily::Gemma2;
        let n_heads = json.num_attention_heads;
        let d_head = match (json.head_dim, n_heads) {
            (Some(d_head), 1..) => d_head,
            (None, 1..) => json.hidden_size / n_heads,
            (_, 0) => return Err("there are no attention heads".to_owned()),
        };
        let attention_bias = json.attention_bias.unwrap_or(false);
        let activation = json
            .hidden_activation
            .or(json.hidden_act)
            .map_or(Activation::Silu, Activation::from);
        Ok(Self {
            family,
            vocab_size: json.vocab_size,
            n_layers: json.num_hidden_layers,
            max_positions: json.max_position_embeddings,
            tied: json.tie_word_embeddings.unwrap_or(gemma),
            block: BlockConfig {
                d_model: json.hidden_size,
                d_ff: json.intermediate_size,
                n_heads,
                n_key_heads: json.num_key_value_heads.unwrap_or(n_heads),
                d_head,
                activation,
                norm: match gemma {
                    true => NormKind::RmsFromOne,
                    false => NormKind::Rms,
                },
                norm_epsilon: json.rms_norm_eps,
                input_bias: family == DecoderFamily::Qwen2 || attention_bias,
                output_bias: attention_bias,
                mlp_bias: json.mlp_bias.unwrap_or(false),
                transposed: false,
                names: family.block_names(),
            },
            rotary: Some(rotary),
            visibility: visibility(family, json)?,
            embedding_scale: gemma.then(|| (json.hidden_size as f64).sqrt()),
            attention_scale: 1.0 / json.query_pre_attn_scalar.unwrap_or(d_head as f32).sqrt(),
            attention_softcap: json.attn_logit_softcapping,
            output_softcap: json.final_logit_softcapping,
        })
    }

    fn gpt2(json: Gpt2Json) -> Result<Self, String> {
        if json.scale_attn_by_inverse_layer_idx == Some(true) {
            return Err("`scale_attn_by_inverse_layer_idx` is not supported".to_owned());
        }
        if json.n_head == 0 || !json.n_embd.is_multiple_of(json.n_head) {
            return Err(format!(
                "a hidden size of {} cannot be split into {} heads",
                json.n_embd, json.n_head
            ));
        }
        let d_head = json.n_embd / json.n_head;
        Ok(Self {
            family: DecoderFamily::Gpt2,
            vocab_size: json.vocab_size,
            n_layers: json.n_layer,
            max_positions: json.n_positions,
            tied: json.tie_word_embeddings.unwrap_or(true),
            block: BlockConfig {
                d_model: json.n_embd,
                d_ff: json.n_inner.unwrap_or(4 * json.n_embd),
                n_heads: json.n_head,
                n_key_heads: json.n_head,
                d_head,
                activation: json.activation_function.into(),
                norm: NormKind::Layer,
                norm_epsilon: json.layer_norm_epsilon,
                input_bias: true,
                output_bias: true,
                mlp_bias: true,
                transposed: true,
                names: DecoderFamily::Gpt2.block_names(),
            },
            rotary: None,
            visibility: vec![Visibility::Causal; json.n_layer],
            embedding_scale: None,
            attention_scale: match json.scale_attn_weights {
                Some(false) => 1.0,
                _ => 1.0 / (d_head as f32).sqrt(),
            },
            attention_softcap: None,
            output_softcap: None,
        })
    }

    /// The width of a token's vector.
    pub fn d_model(&self) -> usize {
        self.block.d_model
    }

    pub(crate) fn block_path(&self, layer: usize) -> String {
        format!("{}.{layer}", self.family.layers_name())
    }

    /// Every linear layer of the blocks, first to last.
    pub(crate) fn layers(&self) -> Vec<LinearLayer> {
        (0..self.n_layers)
            .flat_map(|layer| self.block.layers(&self.block_path(layer)))
            .collect()
    }

    /// How many numbers the decoder has, the output layer excluded.
    pub(crate) fn parameters(&self) -> usize {
        let positions = match self.rotary {
            Some(_) => 0,
            None => self.max_positions,
        };
        (self.vocab_size + positions) * self.d_model()
            + self.n_layers * self.block.parameters()
            + self.block.norm.parameters(self.d_model())
    }

    /// The output layer of a language model that is not tied.
    pub(crate) fn output_layer(&self) -> LinearLayer {
        LinearLayer {
            bias: false,
            head: true,
            ..LinearLayer::new("lm_head", [self.vocab_size, self.d_model()])
        }
    }
}

/// What the queries of each layer see.
fn visibility(family: DecoderFamily, json: &DecoderJson) -> Result<Vec<Visibility>, String> {
    let windowed = |layer: usize| match family {
        DecoderFamily::Llama | DecoderFamily::Gpt2 => false,
        DecoderFamily::Mistral => true,
        DecoderFamily::Gemma2 => layer.is_multiple_of(2),
        DecoderFamily::Qwen2 | DecoderFamily::Qwen3 => {
            json.use_sliding_window == Some(true) && layer >= json.max_window_layers.unwrap_or(28)
        }
    };
    (0..json.num_hidden_layers)
        .map(|layer| {
            let kind = json.layer_types.as_ref().and_then(|kinds| kinds.get(layer));
            let windowed = match kind.map(String::as_str) {
                Some("sliding_attention") => true,
                Some("full_attention") => false,
                Some(other) => return Err(format!("layers of type `{other}` are not supported")),
                None => windowed(layer),
            };
            Ok(match json.sliding_window {
                Some(width @ 1..) if windowed => Visibility::Window(width),
                _ => Visibility::Causal,
            })
        })
        .collect()
}
