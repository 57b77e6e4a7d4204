//! The text encoders of Stable Diffusion, and what a UNet is given of them.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use eigenmix_models::{Adaptation, Checkpoint, ClipText, ClipTextConfig, Description, TokenBatch};
use eigenmix_moslora::ParameterNames;

use crate::{DiffusionError, Part, PromptIds};

/// What a UNet is given of texts.
#[derive(Clone, Debug)]
pub struct TextConditions {
    /// `[texts, tokens, width]`
    pub states: Tensor<3>,
    /// SDXL's pooled text: `[texts, width]`.
    pub pooled: Option<Tensor<2>>,
}

impl TextConditions {
    /// Zeros in the place of each value: what SDXL has for an empty negative prompt.
    pub fn zeros(&self) -> Self {
        Self {
            states: self.states.zeros_like(),
            pooled: self.pooled.as_ref().map(Tensor::zeros_like),
        }
    }
}

/// A text encoder that is described and not loaded.
pub struct TextEncoderFiles {
    pub part: Part,
    pub checkpoint: Checkpoint,
    pub config: ClipTextConfig,
}

impl TextEncoderFiles {
    /// - checkpoint: that of the part
    ///
    /// # Errors
    /// If the configuration is not that of a CLIP text encoder.
    pub fn new(
        part: Part,
        checkpoint: Checkpoint,
        directory: &Path,
    ) -> Result<Self, DiffusionError> {
        let problem = |problem: String| DiffusionError::Config {
            path: directory.join("config.json"),
            problem,
        };
        let json = checkpoint.config();
        let kind = json.get("model_type").and_then(|kind| kind.as_str());
        if let Some(kind) = kind.filter(|kind| !["clip_text_model", "clip"].contains(kind)) {
            return Err(problem(format!(
                "a text encoder of type `{kind}`; those of Stable Diffusion 1.x, 2.x and SDXL are CLIP's (clip_text_model)"
            )));
        }
        let has_projection = checkpoint.shape("text_projection.weight").is_some();
        let config = ClipTextConfig::of_text_encoder(json, has_projection).map_err(problem)?;
        Ok(Self {
            part,
            checkpoint,
            config,
        })
    }

    /// Its linear layers, for matching adapters.
    pub fn describe(&self) -> Description {
        self.config.describe()
    }

    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(
        &self,
        adaptation: &Adaptation,
        device: &Device,
    ) -> Result<ClipText, DiffusionError> {
        Ok(self.load_named(adaptation, device)?.0)
    }

    /// The same, with the names of what is trained in it.
    ///
    /// # Errors
    /// As [`TextEncoderFiles::load`].
    pub fn load_named(
        &self,
        adaptation: &Adaptation,
        device: &Device,
    ) -> Result<(ClipText, ParameterNames), DiffusionError> {
        let part = self.part;
        ClipText::load_named(&self.checkpoint, &self.config, adaptation, device)
            .map_err(|source| DiffusionError::Part { part, source })
    }
}

/// The text encoders of a model: one, or SDXL's two.
#[derive(Module, Debug)]
pub struct TextEncoders {
    pub first: ClipText,
    pub second: Option<ClipText>,
}

impl TextEncoders {
    /// Stable Diffusion takes the last hidden states after the norm; SDXL those before the last block of
    /// both encoders side by side, and the second one's features.
    ///
    /// - ids: of each encoder, `[texts · length]`
    ///
    /// # Panics
    /// If the second encoder has no ids.
    pub fn conditions(
        &self,
        ids: [Option<&[i64]>; 2],
        [texts, length]: [usize; 2],
        device: &Device,
    ) -> TextConditions {
        let states = |encoder: &ClipText, ids: Option<&[i64]>| {
            let ids = ids.expect("the ids of an encoder");
            // Padding is seen as any other token.
            let batch = TokenBatch::from_padded(ids, None, None, [texts, length], true);
            encoder.states(&batch, device)
        };
        let shaped = |rows: Tensor<2>| {
            let [_, width] = rows.dims();
            rows.reshape([texts, length, width])
        };
        let first = states(&self.first, ids[0]);
        let Some(second) = &self.second else {
            return TextConditions {
                states: shaped(first.last),
                pooled: None,
            };
        };
        let second = states(second, ids[1]);
        let both = vec![first.penultimate, second.penultimate];
        TextConditions {
            states: shaped(Tensor::cat(both, 1)),
            pooled: Some(second.features),
        }
    }
}

impl TextEncoders {
    /// What a UNet is given of one prompt.
    ///
    /// # Panics
    /// If an encoder has no ids.
    pub fn prompt(&self, prompt: &PromptIds, device: &Device) -> TextConditions {
        let length = prompt.ids.first().map_or(0, Vec::len);
        let of = |encoder: usize| prompt.ids.get(encoder).map(Vec::as_slice);
        self.conditions([of(0), of(1)], [1, length], device)
    }
}

/// What a text encoder takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextSizes {
    /// How many tokens it knows.
    pub vocabulary: usize,
    /// The longest text, special tokens included.
    pub positions: usize,
}

impl TextEncoderFiles {
    pub fn sizes(&self) -> TextSizes {
        TextSizes {
            vocabulary: self.config.vocab_size,
            positions: self.config.max_positions,
        }
    }
}

impl TextEncoders {
    /// Of each encoder.
    pub fn sizes(&self) -> Vec<TextSizes> {
        let encoders = std::iter::once(&self.first).chain(&self.second);
        let sizes = encoders.map(|encoder| TextSizes {
            vocabulary: encoder.vocab_size(),
            positions: encoder.max_positions(),
        });
        sizes.collect()
    }
}
