//! The vision families: their sizes from `config.json`, their differences as data.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::activation_name::ActivationName;
use crate::block::{BlockConfig, BlockNames, InputNames};
use crate::clip_names::clip_block_names;
use crate::clip_text::ClipTextConfig;
use crate::head::HeadForm;
use crate::model_config::ModelConfig;
use crate::nested_config::nested_config;
use crate::norm::NormKind;
use crate::{HeadKind, LinearLayer};

/// Which vision family a checkpoint belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VisionFamily {
    Vit,
    Clip,
    /// Without a class token; only as the tower of a larger model.
    Siglip,
}

/// A vision model's sizes, from its `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionConfig {
    pub family: VisionFamily,
    /// The path of the model: the family's own, or that of its place in a larger model.
    pub(crate) path: &'static str,
    pub n_layers: usize,
    /// Height and width of the images it takes.
    pub image_size: usize,
    pub patch_size: usize,
    pub channels: usize,
    /// The width of CLIP's image features.
    pub projection_dim: Option<usize>,
    /// Whether SigLIP's pooling head is above the layers, which nothing here computes.
    pub(crate) has_pooling: bool,
    /// The text tower of a whole CLIP.
    pub text: Option<Box<ClipTextConfig>>,
    pub(crate) block: BlockConfig,
}

#[derive(Deserialize)]
struct VisionJson {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    image_size: usize,
    patch_size: usize,
    num_channels: Option<usize>,
    layer_norm_eps: Option<f64>,
    hidden_act: Option<ActivationName>,
    qkv_bias: Option<bool>,
    projection_dim: Option<usize>,
    vision_use_head: Option<bool>,
}

impl VisionFamily {
    /// The model's name inside its task wrapper.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Vit => "vit",
            Self::Clip | Self::Siglip => "vision_model",
        }
    }

    fn block_names(self) -> BlockNames {
        match self {
            Self::Vit => BlockNames {
                attention_norm: "layernorm_before",
                inputs: InputNames::Separate([
                    "attention.attention.query",
                    "attention.attention.key",
                    "attention.attention.value",
                ]),
                output: "attention.output.dense",
                head_norms: None,
                post_attention_norm: None,
                mlp_norm: "layernorm_after",
                gate: None,
                up: "intermediate.dense",
                down: "output.dense",
                post_mlp_norm: None,
            },
            Self::Clip | Self::Siglip => clip_block_names(),
        }
    }

    /// Whether the first row of an image is a token of its own, and not a patch.
    pub fn has_class_token(self) -> bool {
        self != Self::Siglip
    }
}

impl VisionConfig {
    /// - json: the `config.json` of a ViT, of a CLIP vision tower, or of a larger model with a tower
    ///
    /// # Errors
    /// A message about what is missing or invalid.
    pub(crate) fn from_json(family: VisionFamily, json: &Value) -> Result<Self, String> {
        let sizes = match json.get("vision_config") {
            Some(_) => {
                let defaults = json!({
                    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
                    "num_attention_heads": 12, "image_size": 224,
                    "patch_size": if family == VisionFamily::Siglip { 16 } else { 32 },
                });
                VisionJson::deserialize(nested_config(json, "vision_config", defaults))
                    .map_err(|error| format!("`vision_config`: {error}"))?
            }
            None => VisionJson::deserialize(json).map_err(|error| error.to_string())?,
        };
        let (d_model, n_heads) = (sizes.hidden_size, sizes.num_attention_heads);
        if n_heads == 0 || !d_model.is_multiple_of(n_heads) {
            return Err(format!(
                "a hidden size of {d_model} cannot be split into {n_heads} heads"
            ));
        }
        if sizes.patch_size == 0 || sizes.patch_size > sizes.image_size {
            return Err(format!(
                "images of size {} cannot be cut into squares of {}",
                sizes.image_size, sizes.patch_size
            ));
        }
        let (activation, epsilon) = match family {
            VisionFamily::Vit => (ActivationName::Gelu, 1e-12),
            VisionFamily::Clip => (ActivationName::QuickGelu, 1e-5),
            VisionFamily::Siglip => (ActivationName::GeluNew, 1e-6),
        };
        let projection_dim = json
            .get("projection_dim")
            .and_then(Value::as_u64)
            .map(|width| width as usize)
            .or(sizes.projection_dim);
        let projection_dim = match family {
            VisionFamily::Vit | VisionFamily::Siglip => None,
            VisionFamily::Clip => Some(projection_dim.unwrap_or(512)),
        };
        let is_whole = json.get("model_type").and_then(Value::as_str) == Some("clip");
        let text = projection_dim
            .filter(|_| is_whole)
            .map(|width| ClipTextConfig::from_json(json, width).map(Box::new))
            .transpose()?;
        Ok(Self {
            family,
            path: family.prefix(),
            n_layers: sizes.num_hidden_layers,
            image_size: sizes.image_size,
            patch_size: sizes.patch_size,
            channels: sizes.num_channels.unwrap_or(3),
            projection_dim,
            has_pooling: family == VisionFamily::Siglip && sizes.vision_use_head.unwrap_or(true),
            text,
            block: BlockConfig {
                d_model,
                d_ff: sizes.intermediate_size,
                n_heads,
                n_key_heads: n_heads,
                d_head: d_model / n_heads,
                activation: sizes.hidden_act.unwrap_or(activation).into(),
                norm: NormKind::Layer,
                norm_epsilon: sizes.layer_norm_eps.unwrap_or(epsilon),
                input_bias: sizes.qkv_bias.unwrap_or(true),
                output_bias: true,
                mlp_bias: true,
                transposed: false,
                names: family.block_names(),
            },
        })
    }

    /// The width of a patch's vector.
    pub fn d_model(&self) -> usize {
        self.block.d_model
    }

    /// Patches of an image, and one for the class token if there is one.
    pub fn rows_per_image(&self) -> usize {
        let patches = (self.image_size / self.patch_size).pow(2);
        patches + usize::from(self.family.has_class_token())
    }

    /// The linear layers of the pooling head that adapters may have something for.
    pub(crate) fn pooling_layers(&self) -> Vec<LinearLayer> {
        if !self.has_pooling {
            return Vec::new();
        }
        let (d_model, d_ff) = (self.block.d_model, self.block.d_ff);
        let layers = [
            ("attention.out_proj", [d_model, d_model]),
            ("mlp.fc1", [d_ff, d_model]),
            ("mlp.fc2", [d_model, d_ff]),
        ];
        let layer = |(name, shape)| LinearLayer::new(self.part(&format!("head.{name}")), shape);
        layers.into_iter().map(layer).collect()
    }

    pub(crate) fn block_path(&self, layer: usize) -> String {
        match self.family {
            VisionFamily::Vit => self.part(&format!("encoder.layer.{layer}")),
            VisionFamily::Clip | VisionFamily::Siglip => {
                self.part(&format!("encoder.layers.{layer}"))
            }
        }
    }

    /// The path of a part of the model, by its name below it.
    pub(crate) fn part(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }
}

impl ModelConfig for VisionConfig {
    fn kind(&self) -> &'static str {
        "vision model"
    }

    fn prefix(&self) -> &'static str {
        self.family.prefix()
    }

    fn clip_text(&self) -> Option<&ClipTextConfig> {
        self.text.as_deref()
    }

    fn takes_texts(&self) -> bool {
        false
    }

    /// Of the text tower.
    fn vocab_size(&self) -> Option<usize> {
        self.text.as_ref().map(|text| text.vocab_size)
    }

    /// Of the text tower.
    fn max_length(&self) -> Option<usize> {
        self.text.as_ref().map(|text| text.max_positions)
    }

    fn image_shape(&self) -> Option<[usize; 2]> {
        Some([self.channels, self.image_size])
    }

    fn rows_per_example(&self, _max_length: usize) -> usize {
        self.rows_per_image()
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
        match self.family {
            VisionFamily::Vit => &["query", "value"],
            VisionFamily::Clip | VisionFamily::Siglip => &["q_proj", "v_proj"],
        }
    }

    fn layers(&self) -> Vec<LinearLayer> {
        (0..self.n_layers)
            .flat_map(|layer| self.block.layers(&self.block_path(layer)))
            .collect()
    }

    /// Without the projection, which belongs to the head.
    fn parameters(&self) -> usize {
        let d_model = self.d_model();
        let patch = self.channels * self.patch_size * self.patch_size;
        let (norms, bias) = match self.family {
            VisionFamily::Vit | VisionFamily::Siglip => (1, 1),
            VisionFamily::Clip => (2, 0),
        };
        let class_token = usize::from(self.family.has_class_token());
        // Beside its layers: a learnt query, the three inputs of its attention, a norm.
        let pooling: usize = match self.has_pooling {
            true => d_model * (1 + 3 * (d_model + 1) + 2),
            false => 0,
        };
        let pooled = self.pooling_layers();
        let pooling = pooling + pooled.iter().map(LinearLayer::parameters).sum::<usize>();
        d_model * (patch + bias + class_token + self.rows_per_image() + 2 * norms)
            + self.n_layers * self.block.parameters()
            + pooling
    }

    fn own_head(&self, _saved_as: &str, classifier: Option<HeadKind>) -> Option<HeadKind> {
        classifier.or(self.projection_dim.map(|_| HeadKind::ImageFeatures))
    }

    fn usual_head(&self, labels: usize) -> HeadKind {
        HeadKind::Classification { labels }
    }

    fn head_layers(&self, kind: HeadKind) -> Option<Vec<LinearLayer>> {
        let d_model = self.d_model();
        match kind {
            HeadKind::Classification { labels } => {
                Some(vec![LinearLayer::of_head("classifier", [labels, d_model])])
            }
            HeadKind::ImageFeatures | HeadKind::ZeroShot { .. } => {
                let shape = [self.projection_dim?, d_model];
                Some(vec![LinearLayer {
                    bias: false,
                    ..LinearLayer::of_head("visual_projection", shape)
                }])
            }
            _ => None,
        }
    }

    fn head_modules(&self, kind: HeadKind) -> Vec<&'static str> {
        match kind {
            HeadKind::Classification { .. } => vec!["classifier"],
            _ => vec!["visual_projection"],
        }
    }

    fn head_form(&self, _kind: HeadKind) -> HeadForm {
        HeadForm::First
    }

    fn output_weight(&self) -> &'static str {
        "classifier.weight"
    }
}
