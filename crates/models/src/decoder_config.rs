//! The decoder families: their sizes and options from `config.json`, their differences as data.

use eigenmix_kernels::{Activation, Visibility};
use serde::Deserialize;
use serde_json::Value;

use crate::activation_name::ActivationName;
use crate::block::BlockConfig;
use crate::decoder_family::DecoderFamily;
use crate::head::HeadForm;
use crate::model_config::ModelConfig;
use crate::norm::NormKind;
use crate::plausible_sizes::require_plausible;
use crate::rotary::RotaryConfig;
use crate::token_tables::ties;
use crate::{HeadKind, LinearLayer};

/// A decoder's sizes and options, from its `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    pub family: DecoderFamily,
    /// The path of the decoder: the family's own, or that of its place in a larger model.
    pub(crate) path: &'static str,
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
}

impl DecoderConfig {
    /// # Errors
    /// A message about what is missing or not supported.
    pub(crate) fn from_json(family: DecoderFamily, json: &Value) -> Result<Self, String> {
        let config = match family {
            DecoderFamily::Gpt2 => {
                let sizes = Gpt2Json::deserialize(json).map_err(|error| error.to_string())?;
                Self::gpt2(sizes, ties(json))?
            }
            _ => {
                let sizes = DecoderJson::deserialize(json).map_err(|error| error.to_string())?;
                Self::rotary(family, &sizes, RotaryConfig::from_json(json)?, ties(json))?
            }
        };
        let block = &config.block;
        if block.n_key_heads == 0 || !block.n_heads.is_multiple_of(block.n_key_heads) {
            return Err(format!(
                "{} query heads cannot share {} key heads",
                block.n_heads, block.n_key_heads
            ));
        }
        if block.d_head == 0 || (config.rotary.is_some() && block.d_head % 2 == 1) {
            return Err(format!(
                "a head size of {} does not work with rotary embeddings",
                block.d_head
            ));
        }
        if let Some(rotary) = &config.rotary {
            rotary.require_fit(block.d_head)?;
        }
        Ok(config)
    }

    fn rotary(
        family: DecoderFamily,
        json: &DecoderJson,
        rotary: RotaryConfig,
        tied: bool,
    ) -> Result<Self, String> {
        // Before a value is set aside for every layer.
        let widths = [json.hidden_size, json.intermediate_size];
        require_plausible(json.num_hidden_layers, widths, Some(json.vocab_size))?;
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
            path: family.prefix(),
            vocab_size: json.vocab_size,
            n_layers: json.num_hidden_layers,
            max_positions: json.max_position_embeddings,
            tied,
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

    fn gpt2(json: Gpt2Json, tied: bool) -> Result<Self, String> {
        if json.scale_attn_by_inverse_layer_idx == Some(true) {
            return Err("`scale_attn_by_inverse_layer_idx` is not supported".to_owned());
        }
        if json.n_head == 0 || !json.n_embd.is_multiple_of(json.n_head) {
            return Err(format!(
                "a hidden size of {} cannot be split into {} heads",
                json.n_embd, json.n_head
            ));
        }
        let d_ff = json.n_inner.unwrap_or(json.n_embd.saturating_mul(4));
        require_plausible(json.n_layer, [json.n_embd, d_ff], Some(json.vocab_size))?;
        let d_head = json.n_embd / json.n_head;
        Ok(Self {
            family: DecoderFamily::Gpt2,
            path: DecoderFamily::Gpt2.prefix(),
            vocab_size: json.vocab_size,
            n_layers: json.n_layer,
            max_positions: json.n_positions,
            tied,
            block: BlockConfig {
                d_model: json.n_embd,
                d_ff,
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
        format!("{}.{layer}", self.part(self.family.layers_name()))
    }

    /// The path of a part of the decoder, by its name below it.
    pub(crate) fn part(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    /// The output layer of a language model that is not tied.
    fn output_layer(&self) -> LinearLayer {
        LinearLayer {
            bias: false,
            ..LinearLayer::of_head("lm_head", [self.vocab_size, self.d_model()])
        }
    }
}

impl ModelConfig for DecoderConfig {
    fn kind(&self) -> &'static str {
        "decoder"
    }

    fn prefix(&self) -> &'static str {
        self.family.prefix()
    }

    fn vocab_size(&self) -> Option<usize> {
        Some(self.vocab_size)
    }

    fn token_table(&self) -> Option<String> {
        Some(self.part(self.family.embedding_name()))
    }

    fn ties_output(&self) -> bool {
        self.tied
    }

    fn max_length(&self) -> Option<usize> {
        Some(self.max_positions)
    }

    fn widths(&self) -> [usize; 2] {
        [self.block.d_model, self.block.d_ff]
    }

    fn n_layers(&self) -> usize {
        self.n_layers
    }

    fn activations_per_row(&self) -> [usize; 2] {
        self.block.activations_per_row()
    }

    fn default_targets(&self) -> &'static [&'static str] {
        self.family.default_targets()
    }

    fn layers(&self) -> Vec<LinearLayer> {
        (0..self.n_layers)
            .flat_map(|layer| self.block.layers(&self.block_path(layer)))
            .collect()
    }

    /// Without the output layer, which belongs to the head.
    fn parameters(&self) -> usize {
        let positions = match self.rotary {
            Some(_) => 0,
            None => self.max_positions,
        };
        (self.vocab_size + positions) * self.d_model()
            + self.n_layers * self.block.parameters()
            + self.block.norm.parameters(self.d_model())
    }

    fn own_head(&self, saved_as: &str, classifier: Option<HeadKind>) -> Option<HeadKind> {
        match saved_as.ends_with("ForSequenceClassification") {
            true => classifier,
            false => Some(HeadKind::LanguageModel),
        }
    }

    fn usual_head(&self, _labels: usize) -> HeadKind {
        HeadKind::LanguageModel
    }

    fn head_layers(&self, kind: HeadKind) -> Option<Vec<LinearLayer>> {
        match (kind, self.tied) {
            (HeadKind::Classification { labels }, _) => Some(vec![LinearLayer {
                bias: false,
                ..LinearLayer::of_head("score", [labels, self.d_model()])
            }]),
            (HeadKind::LanguageModel, true) => Some(Vec::new()),
            (HeadKind::LanguageModel, false) => Some(vec![self.output_layer()]),
            _ => None,
        }
    }

    fn head_modules(&self, kind: HeadKind) -> Vec<&'static str> {
        match kind {
            HeadKind::Classification { .. } => vec!["score"],
            _ => vec!["lm_head"],
        }
    }

    fn head_form(&self, kind: HeadKind) -> HeadForm {
        match kind {
            HeadKind::LanguageModel => HeadForm::Tokens {
                softcap: self.output_softcap,
            },
            _ => HeadForm::Last,
        }
    }

    fn output_weight(&self) -> &'static str {
        "score.weight"
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
