//! Which model a `config.json` describes, and what can be done with it.

use std::path::Path;

use serde_json::Value;

use crate::clip_text::ClipTextConfig;
use crate::decoder_config::{DecoderConfig, DecoderFamily};
use crate::encoder::{EncoderConfig, Family};
use crate::task::Task;
use crate::vision::{VisionConfig, VisionFamily};
use crate::zero_shot::TEXT_FEATURES;
use crate::{Description, LinearLayer, ModelError};

const SUPPORTED: &str = "bert, roberta, xlm-roberta, camembert, distilbert; llama, mistral, qwen2, \
                         qwen3, gemma2, gpt2; vit, clip, clip_vision_model";

/// A supported model's sizes and options.
#[derive(Clone, Debug, PartialEq)]
pub enum Architecture {
    Encoder(EncoderConfig),
    Decoder(DecoderConfig),
    Vision(VisionConfig),
}

impl Architecture {
    /// Reads a parsed `config.json`; `path` is for messages.
    ///
    /// # Errors
    /// If the architecture or one of its options is not supported, or a size is missing.
    pub fn from_json(json: &Value, path: &Path) -> Result<Self, ModelError> {
        let model_type = json.get("model_type").and_then(Value::as_str).unwrap_or("");
        let vision = |family| VisionConfig::from_json(family, json).map(Self::Vision);
        let found = if let Some(family) = Family::from_model_type(model_type) {
            EncoderConfig::from_json(family, json).map(Self::Encoder)
        } else if let Some(family) = DecoderFamily::from_model_type(model_type) {
            DecoderConfig::from_json(family, json).map(Self::Decoder)
        } else if model_type == "vit" {
            vision(VisionFamily::Vit)
        } else if matches!(model_type, "clip" | "clip_vision_model") {
            vision(VisionFamily::Clip)
        } else {
            return Err(ModelError::Architecture {
                path: path.to_owned(),
                found: model_type.to_owned(),
                supported: SUPPORTED,
            });
        };
        found.map_err(|problem| ModelError::Config {
            path: path.to_owned(),
            problem,
        })
    }

    /// What a checkpoint is for by itself: a language model unless it was saved as a classifier, a
    /// classifier with the outputs that `outputs` says its head has, or CLIP's image features.
    ///
    /// - saved_as: `architectures` of its `config.json`
    pub fn own_task(&self, json: &Value, outputs: Option<usize>) -> Option<Task> {
        let saved_as = json
            .get("architectures")
            .and_then(|names| names.get(0)?.as_str())
            .unwrap_or("");
        let classifier = outputs.map(|labels| Task::Classification { labels });
        match self {
            Self::Encoder(_) => classifier,
            Self::Decoder(_) if saved_as.ends_with("ForSequenceClassification") => classifier,
            Self::Decoder(_) => Some(Task::LanguageModel),
            Self::Vision(config) => match (classifier, config.projection_dim) {
                (Some(classifier), _) => Some(classifier),
                (None, Some(_)) => Some(Task::ImageFeatures),
                (None, None) => None,
            },
        }
    }

    /// The name of the model inside its task wrapper.
    pub fn prefix(&self) -> &'static str {
        match self {
            Self::Encoder(config) => config.family.prefix(),
            Self::Decoder(config) => config.family.prefix(),
            Self::Vision(config) => config.family.prefix(),
        }
    }

    /// CLIP's text tower, where the checkpoint is a whole CLIP.
    pub fn clip_text(&self) -> Option<&ClipTextConfig> {
        match self {
            Self::Vision(config) => config.text.as_deref(),
            Self::Encoder(_) | Self::Decoder(_) => None,
        }
    }

    /// How many tokens it knows; `None` where it takes only images.
    pub fn vocab_size(&self) -> Option<usize> {
        match self {
            Self::Encoder(config) => Some(config.vocab_size),
            Self::Decoder(config) => Some(config.vocab_size),
            Self::Vision(config) => config.text.as_ref().map(|text| text.vocab_size),
        }
    }

    /// The longest sequence it takes, special tokens included; `None` where it takes only images.
    pub fn max_length(&self) -> Option<usize> {
        match self {
            Self::Encoder(config) => Some(config.max_length()),
            Self::Decoder(config) => Some(config.max_positions),
            Self::Vision(config) => config.text.as_ref().map(|text| text.max_positions),
        }
    }

    /// What kind of model it is, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Encoder(_) => "text encoder",
            Self::Decoder(_) => "decoder",
            Self::Vision(_) => "vision model",
        }
    }

    /// The width of its vectors, and of what a feed-forward layer expands them to.
    pub fn widths(&self) -> [usize; 2] {
        match self {
            Self::Encoder(config) => [config.d_model, config.d_ff],
            Self::Decoder(config) => [config.block.d_model, config.block.d_ff],
            Self::Vision(config) => [config.block.d_model, config.block.d_ff],
        }
    }

    /// How many numbers a layer keeps for the backward pass, for each row, if all of its linear layers
    /// are adapted: the inputs of its norms and linear layers, queries, keys and values, and what
    /// goes into the activation function. Probabilities of the attention are not kept.
    pub fn activations_per_row(&self) -> usize {
        let (block, heads, keys) = match self {
            Self::Encoder(config) => {
                let [d_model, d_ff] = [config.d_model, config.d_ff];
                return 2 * d_model + 2 * d_model + 4 * d_model + 2 * d_ff;
            }
            Self::Decoder(config) => (
                &config.block,
                config.block.n_heads,
                config.block.n_key_heads,
            ),
            Self::Vision(config) => (
                &config.block,
                config.block.n_heads,
                config.block.n_key_heads,
            ),
        };
        let (width, key_width) = (heads * block.d_head, keys * block.d_head);
        let mlp = match block.names.gate {
            Some(_) => 3 * block.d_ff,
            None => 2 * block.d_ff,
        };
        4 * block.d_model + 2 * width + 2 * key_width + mlp
    }

    /// How many transformer layers it has.
    pub fn n_layers(&self) -> usize {
        match self {
            Self::Encoder(config) => config.n_layers,
            Self::Decoder(config) => config.n_layers,
            Self::Vision(config) => config.n_layers,
        }
    }

    /// The modules that PEFT's LoRA targets by default: queries and values.
    pub fn default_targets(&self) -> &'static [&'static str] {
        match self {
            Self::Encoder(config) => match config.family {
                Family::Bert | Family::Roberta => &["query", "value"],
                Family::DistilBert => &["q_lin", "v_lin"],
            },
            Self::Decoder(config) => match config.family {
                DecoderFamily::Gpt2 => &["c_attn"],
                _ => &["q_proj", "v_proj"],
            },
            Self::Vision(config) => match config.family {
                VisionFamily::Vit => &["query", "value"],
                VisionFamily::Clip => &["q_proj", "v_proj"],
            },
        }
    }

    /// Every linear layer, the head's tensors and the size of this model with the head of `task`.
    ///
    /// # Errors
    /// If the model is not for that task.
    pub fn describe(&self, task: Task) -> Result<Description, ModelError> {
        let head = self.head_layers(task)?;
        let mut layers = match self {
            Self::Encoder(config) => config.layers(),
            Self::Decoder(config) => config.layers(),
            Self::Vision(config) => config.layers(),
        };
        let body = match self {
            Self::Encoder(config) => config.parameters(),
            Self::Decoder(config) => config.parameters(),
            Self::Vision(config) => config.parameters(),
        };
        let head_parameters: usize = head.iter().map(LinearLayer::parameters).sum();
        let mut head_tensors: Vec<_> = head.iter().flat_map(LinearLayer::tensors).collect();
        if let (Task::ZeroShot { labels }, Some(projection)) = (task, head.last()) {
            let shape = vec![labels, projection.d_out];
            head_tensors.push((TEXT_FEATURES.to_owned(), shape));
        }
        layers.extend(head);
        Ok(Description {
            prefix: self.prefix(),
            layers,
            head_tensors,
            head_modules: self.head_modules(task),
            parameters: body + head_parameters,
        })
    }

    /// The linear layers of the head, the one that gives the outputs last.
    pub(crate) fn head_layers(&self, task: Task) -> Result<Vec<LinearLayer>, ModelError> {
        let [d_model, _] = self.widths();
        let of_head = |path: &str, shape| LinearLayer {
            head: true,
            ..LinearLayer::new(path, shape)
        };
        let square = [d_model, d_model];
        Ok(match (self, task) {
            (Self::Encoder(config), Task::Classification { labels }) => match config.family {
                // The pooler is part of the pretrained model.
                Family::Bert => vec![
                    LinearLayer::new("bert.pooler.dense", square),
                    of_head("classifier", [labels, d_model]),
                ],
                Family::Roberta => vec![
                    of_head("classifier.dense", square),
                    of_head("classifier.out_proj", [labels, d_model]),
                ],
                Family::DistilBert => vec![
                    of_head("pre_classifier", square),
                    of_head("classifier", [labels, d_model]),
                ],
            },
            (Self::Decoder(_), Task::Classification { labels }) => vec![LinearLayer {
                bias: false,
                ..of_head("score", [labels, d_model])
            }],
            (Self::Decoder(config), Task::LanguageModel) => match config.tied {
                true => Vec::new(),
                false => vec![config.output_layer()],
            },
            (Self::Vision(_), Task::Classification { labels }) => {
                vec![of_head("classifier", [labels, d_model])]
            }
            (Self::Vision(config), Task::ImageFeatures | Task::ZeroShot { .. })
                if config.projection_dim.is_some() =>
            {
                let width = config.projection_dim.unwrap_or_default();
                vec![LinearLayer {
                    bias: false,
                    ..of_head("visual_projection", [width, d_model])
                }]
            }
            (model, task) => {
                return Err(ModelError::Task {
                    model: model.kind(),
                    task: task.name(),
                });
            }
        })
    }

    fn head_modules(&self, task: Task) -> Vec<&'static str> {
        match (self, task) {
            (Self::Encoder(config), _) => match config.family {
                Family::Bert | Family::Roberta => vec!["classifier"],
                Family::DistilBert => vec!["pre_classifier", "classifier"],
            },
            (Self::Decoder(_), Task::Classification { .. }) => vec!["score"],
            (Self::Decoder(_), _) => vec!["lm_head"],
            (Self::Vision(_), Task::Classification { .. }) => vec!["classifier"],
            (Self::Vision(_), _) => vec!["visual_projection"],
        }
    }

    /// The tensor whose first dimension is a classifier's number of outputs.
    pub fn output_weight(&self) -> &'static str {
        match self {
            Self::Encoder(config) if config.family == Family::Roberta => {
                "classifier.out_proj.weight"
            }
            Self::Encoder(_) | Self::Vision(_) => "classifier.weight",
            Self::Decoder(_) => "score.weight",
        }
    }
}
