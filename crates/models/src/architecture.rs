//! Which model a `config.json` describes.

use std::ops::Deref;
use std::path::Path;

use serde_json::Value;

use crate::decoder_config::DecoderConfig;
use crate::decoder_family::DecoderFamily;
use crate::encoder_config::{EncoderConfig, EncoderFamily};
use crate::model_config::ModelConfig;
use crate::plausible_sizes::require_plausible;
use crate::vision_config::{VisionConfig, VisionFamily};
use crate::vision_language_config::VisionLanguageConfig;
use crate::zero_shot::TEXT_FEATURES;
use crate::{AdaptedTables, Description, HeadKind, LinearLayer, ModelError};

const SUPPORTED: &str = "bert, roberta, xlm-roberta, camembert, distilbert; llama, mistral, qwen2, \
                         qwen3, gemma2, gpt2; vit, clip, clip_vision_model; llava";

/// A supported model's sizes and options.
#[derive(Clone, Debug, PartialEq)]
pub enum Architecture {
    Encoder(EncoderConfig),
    Decoder(DecoderConfig),
    Vision(VisionConfig),
    VisionLanguage(Box<VisionLanguageConfig>),
}

impl Architecture {
    /// Reads a parsed `config.json`; `path` is for messages.
    ///
    /// # Errors
    /// If the architecture or one of its options is not supported, or a size is missing.
    pub fn from_json(json: &Value, path: &Path) -> Result<Self, ModelError> {
        let model_type = json.get("model_type").and_then(Value::as_str).unwrap_or("");
        let vision = |family| VisionConfig::from_json(family, json).map(Self::Vision);
        let found = if let Some(family) = EncoderFamily::from_model_type(model_type) {
            EncoderConfig::from_json(family, json).map(Self::Encoder)
        } else if let Some(family) = DecoderFamily::from_model_type(model_type) {
            DecoderConfig::from_json(family, json).map(Self::Decoder)
        } else if model_type == VisionLanguageConfig::MODEL_TYPE {
            VisionLanguageConfig::from_json(json)
                .map(|config| Self::VisionLanguage(Box::new(config)))
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
        let plausible = found.and_then(|found| {
            require_plausible(found.n_layers(), found.widths(), found.vocab_size())?;
            if let Self::VisionLanguage(config) = &found {
                require_plausible(config.tower.n_layers, config.tower.widths(), None)?;
            }
            Ok(found)
        });
        plausible.map_err(|problem| ModelError::Config {
            path: path.to_owned(),
            problem,
        })
    }

    /// The head that a checkpoint has by itself: that of a language model unless it was saved as a
    /// classifier, that of a classifier with as many outputs as `outputs` says, or CLIP's image
    /// features.
    ///
    /// - json: its `config.json`
    pub fn checkpoint_head(&self, json: &Value, outputs: Option<usize>) -> Option<HeadKind> {
        let saved_as = json
            .get("architectures")
            .and_then(|names| names.get(0)?.as_str())
            .unwrap_or("");
        let classifier = outputs.map(|labels| HeadKind::Classification { labels });
        self.own_head(saved_as, classifier)
    }

    /// Every linear layer, the head's tensors and the size of this model under a head.
    ///
    /// # Errors
    /// If the model cannot have such a head.
    pub fn describe(&self, head: HeadKind) -> Result<Description, ModelError> {
        let of_head = self.require_head_layers(head)?;
        let head_parameters: usize = of_head.iter().map(LinearLayer::parameters).sum();
        let mut head_tensors: Vec<_> = of_head.iter().flat_map(LinearLayer::tensors).collect();
        if let (HeadKind::ZeroShot { labels }, Some(projection)) = (head, of_head.last()) {
            let shape = vec![labels, projection.d_out];
            head_tensors.push((TEXT_FEATURES.to_owned(), shape));
        }
        let mut layers = self.layers();
        layers.extend(of_head);
        Ok(Description {
            prefix: self.prefix(),
            layers,
            head_tensors,
            head_modules: self.head_modules(head),
            parameters: self.parameters() + head_parameters,
        })
    }

    /// This model with the tables that an adapter makes of its own.
    #[must_use]
    pub fn with_tables(&self, tables: &AdaptedTables) -> Self {
        let mut adapted = self.clone();
        let vocabulary = match &mut adapted {
            Self::Encoder(config) => &mut config.vocab_size,
            Self::Decoder(config) => {
                config.tied &= !tables.part;
                &mut config.vocab_size
            }
            Self::VisionLanguage(config) => {
                config.decoder.tied &= !tables.part;
                &mut config.decoder.vocab_size
            }
            Self::Vision(_) => return adapted,
        };
        *vocabulary = tables.vocabulary.unwrap_or(*vocabulary);
        adapted
    }

    /// This model with an output layer of its own, where that is the table of tokens otherwise.
    #[must_use]
    pub fn with_own_output(&self) -> Self {
        let mut own = self.clone();
        match &mut own {
            Self::Decoder(config) => config.tied = false,
            Self::VisionLanguage(config) => config.decoder.tied = false,
            Self::Encoder(_) | Self::Vision(_) => {}
        }
        own
    }

    /// The linear layers of a head, the one that gives the outputs last.
    pub(crate) fn require_head_layers(
        &self,
        head: HeadKind,
    ) -> Result<Vec<LinearLayer>, ModelError> {
        self.head_layers(head).ok_or_else(|| ModelError::Task {
            model: self.kind(),
            task: head.name(),
        })
    }
}

/// An architecture answers as its configuration does.
impl Deref for Architecture {
    type Target = dyn ModelConfig;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Encoder(config) => config,
            Self::Decoder(config) => config,
            Self::Vision(config) => config,
            Self::VisionLanguage(config) => &**config,
        }
    }
}
