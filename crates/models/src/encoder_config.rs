//! The encoder families: their sizes from `config.json`, their differences as data.

use eigenmix_kernels::Activation;
use serde::Deserialize;
use serde_json::Value;

use crate::activation_name::ActivationName;
use crate::head::HeadForm;
use crate::model_config::ModelConfig;
use crate::{HeadKind, LinearLayer};

/// Which encoder family a checkpoint belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncoderFamily {
    Bert,
    Roberta,
    DistilBert,
}

/// An encoder's sizes, from its `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderConfig {
    pub family: EncoderFamily,
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
    pub(crate) activation: Activation,
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
pub(crate) struct LayerNames {
    pub layers: &'static str,
    pub query: &'static str,
    pub key: &'static str,
    pub value: &'static str,
    pub attention_output: &'static str,
    pub attention_norm: &'static str,
    pub up: &'static str,
    pub down: &'static str,
    pub output_norm: &'static str,
}

impl EncoderFamily {
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

    pub(crate) fn names(self) -> LayerNames {
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
    /// A message about what is missing or not supported.
    pub(crate) fn from_json(family: EncoderFamily, json: &Value) -> Result<Self, String> {
        let config = match family {
            EncoderFamily::Bert | EncoderFamily::Roberta => {
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
            EncoderFamily::DistilBert => {
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

    /// The path of the table of tokens.
    pub(crate) fn word_embeddings(&self) -> String {
        format!("{}.embeddings.word_embeddings", self.family.prefix())
    }

    fn layer(&self, layer: usize, name: &str, shape: [usize; 2]) -> LinearLayer {
        let (prefix, layers) = (self.family.prefix(), self.family.names().layers);
        LinearLayer::new(format!("{prefix}.{layers}.{layer}.{name}"), shape)
    }

    /// The linear layers of one transformer layer: query, key, value, attention output, up, down.
    pub(crate) fn layers_of(&self, layer: usize) -> [LinearLayer; 6] {
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
}

impl ModelConfig for EncoderConfig {
    fn kind(&self) -> &'static str {
        "text encoder"
    }

    fn prefix(&self) -> &'static str {
        self.family.prefix()
    }

    fn vocab_size(&self) -> Option<usize> {
        Some(self.vocab_size)
    }

    fn token_table(&self) -> Option<String> {
        Some(self.word_embeddings())
    }

    fn max_length(&self) -> Option<usize> {
        Some(match self.family {
            // Positions start behind the padding token's.
            EncoderFamily::Roberta => {
                // A padding token that is none of the tokens leaves no position.
                let pad = usize::try_from(self.pad_token_id).unwrap_or(usize::MAX);
                self.max_positions.saturating_sub(pad.saturating_add(1))
            }
            EncoderFamily::Bert | EncoderFamily::DistilBert => self.max_positions,
        })
    }

    fn segments(&self) -> usize {
        self.type_vocab_size
    }

    fn reads_first_token(&self) -> bool {
        true
    }

    fn widths(&self) -> [usize; 2] {
        [self.d_model, self.d_ff]
    }

    fn n_layers(&self) -> usize {
        self.n_layers
    }

    fn activations_per_row(&self) -> [usize; 2] {
        let [d_model, d_ff] = [self.d_model, self.d_ff];
        // The norms give what goes into the attention and the feed-forward layers.
        let passed = 2 * d_model + 4 * d_model + d_ff;
        [passed + 2 * d_model + d_ff, passed]
    }

    fn default_targets(&self) -> &'static [&'static str] {
        match self.family {
            EncoderFamily::Bert | EncoderFamily::Roberta => &["query", "value"],
            EncoderFamily::DistilBert => &["q_lin", "v_lin"],
        }
    }

    fn layers(&self) -> Vec<LinearLayer> {
        (0..self.n_layers)
            .flat_map(|layer| self.layers_of(layer))
            .collect()
    }

    /// Without the pooler, which belongs to the head.
    fn parameters(&self) -> usize {
        let tables = self.vocab_size + self.max_positions + self.type_vocab_size;
        let linear: usize = self.layers().iter().map(LinearLayer::parameters).sum();
        let norms = 2 * self.d_model * (2 * self.n_layers + 1);
        tables * self.d_model + linear + norms
    }

    fn own_head(&self, _saved_as: &str, classifier: Option<HeadKind>) -> Option<HeadKind> {
        classifier
    }

    fn usual_head(&self, labels: usize) -> HeadKind {
        HeadKind::Classification { labels }
    }

    fn head_layers(&self, kind: HeadKind) -> Option<Vec<LinearLayer>> {
        let HeadKind::Classification { labels } = kind else {
            return None;
        };
        let (d_model, head) = (self.d_model, LinearLayer::of_head);
        let square = [d_model, d_model];
        Some(match self.family {
            // The pooler is part of the pretrained model.
            EncoderFamily::Bert => vec![
                LinearLayer::new("bert.pooler.dense", square),
                head("classifier", [labels, d_model]),
            ],
            EncoderFamily::Roberta => vec![
                head("classifier.dense", square),
                head("classifier.out_proj", [labels, d_model]),
            ],
            EncoderFamily::DistilBert => vec![
                head("pre_classifier", square),
                head("classifier", [labels, d_model]),
            ],
        })
    }

    fn head_modules(&self, _kind: HeadKind) -> Vec<&'static str> {
        match self.family {
            EncoderFamily::Bert | EncoderFamily::Roberta => vec!["classifier"],
            EncoderFamily::DistilBert => vec!["pre_classifier", "classifier"],
        }
    }

    fn head_form(&self, _kind: HeadKind) -> HeadForm {
        match self.family {
            EncoderFamily::Bert => HeadForm::Bert,
            EncoderFamily::Roberta => HeadForm::Roberta,
            EncoderFamily::DistilBert => HeadForm::DistilBert,
        }
    }

    fn output_weight(&self) -> &'static str {
        match self.family {
            EncoderFamily::Roberta => "classifier.out_proj.weight",
            EncoderFamily::Bert | EncoderFamily::DistilBert => "classifier.weight",
        }
    }
}
