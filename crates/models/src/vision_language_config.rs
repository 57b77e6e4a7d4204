//! A vision-language model from its `config.json`: a tower, a connector and a decoder, each of which has
//! a configuration of its own.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::activation_name::ActivationName;
use crate::connector::ConnectorConfig;
use crate::decoder_config::DecoderConfig;
use crate::decoder_family::DecoderFamily;
use crate::head::HeadForm;
use crate::model_config::{ImageTokens, ModelConfig};
use crate::nested_config::nested_config;
use crate::token_tables::ties;
use crate::vision_config::{VisionConfig, VisionFamily};
use crate::{HeadKind, LayerStack, LinearLayer};

/// Where the parts are, as transformers 5 names them.
const PREFIX: &str = "model";
const TOWER: &str = "model.vision_tower";
const CONNECTOR: &str = "model.multi_modal_projector";
const DECODER: &str = "model.language_model";

/// A vision-language model's parts.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionLanguageConfig {
    pub tower: VisionConfig,
    pub(crate) connector: ConnectorConfig,
    pub decoder: DecoderConfig,
    /// The token in whose places the features of an image stand.
    pub image_token: u32,
    /// How many layers of the tower are computed: its features are the output of the last of them,
    /// without the tower's final norm.
    pub tower_depth: usize,
    /// Whether the tower's first row, which is the class token's if it has one, is one of the features.
    pub takes_class_token: bool,
}

#[derive(Deserialize)]
struct LlavaJson {
    image_token_index: Option<u32>,
    /// What later releases call it; some files have both.
    image_token_id: Option<u32>,
    vision_feature_layer: Option<Value>,
    vision_feature_select_strategy: Option<String>,
    projector_hidden_act: Option<ActivationName>,
    multimodal_projector_bias: Option<bool>,
}

impl VisionLanguageConfig {
    /// The `model_type` of such a `config.json`.
    pub(crate) const MODEL_TYPE: &str = "llava";

    /// # Errors
    /// A message about what is missing or not supported.
    pub(crate) fn from_json(json: &Value) -> Result<Self, String> {
        let own = LlavaJson::deserialize(json).map_err(|error| error.to_string())?;
        let model_type = |key: &str| json.get(key)?.get("model_type")?.as_str();
        let tower_family = match model_type("vision_config") {
            None | Some("clip_vision_model") => VisionFamily::Clip,
            Some("siglip_vision_model") => VisionFamily::Siglip,
            Some(other) => {
                return Err(format!(
                    "a tower of type `{other}` is not supported, only clip_vision_model and \
                     siglip_vision_model"
                ));
            }
        };
        let mut tower_json = json.clone();
        if !json.get("vision_config").is_some_and(Value::is_object) {
            // What LlavaConfig takes where nothing is said.
            tower_json["vision_config"] = json!({
                "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
                "num_attention_heads": 16, "image_size": 336, "patch_size": 14,
            });
        }
        let mut tower = VisionConfig::from_json(tower_family, &tower_json)?;
        tower.path = TOWER;
        let decoder_type = model_type("text_config").unwrap_or("llama");
        let family = DecoderFamily::from_model_type(decoder_type)
            .and_then(|family| Some((family, class_defaults(family)?)));
        let Some((family, defaults)) = family else {
            return Err(format!(
                "a decoder of type `{decoder_type}` is not supported here, only llama, mistral, qwen2 and \
                 qwen3"
            ));
        };
        let mut text = nested_config(json, "text_config", defaults);
        text["tie_word_embeddings"] = json!(ties(json));
        let mut decoder = DecoderConfig::from_json(family, &text)
            .map_err(|problem| format!("`text_config`: {problem}"))?;
        decoder.path = DECODER;
        if decoder.n_layers == 0 {
            return Err("`text_config`: there are no layers".to_owned());
        }
        let image_token = match (own.image_token_index, own.image_token_id) {
            (Some(index), Some(id)) if index != id => {
                return Err(format!(
                    "`image_token_index` is {index} and `image_token_id` is {id}, which mean the same"
                ));
            }
            (index, id) => index.or(id).unwrap_or(32000),
        };
        let takes_class_token = match own.vision_feature_select_strategy.as_deref() {
            None | Some("default") => false,
            Some("full") => true,
            Some(other) => {
                return Err(format!(
                    "`vision_feature_select_strategy` is `{other}`; \"default\" and \"full\" are supported"
                ));
            }
        };
        Ok(Self {
            tower_depth: depth(own.vision_feature_layer.as_ref(), tower.n_layers)?,
            connector: ConnectorConfig {
                path: CONNECTOR,
                d_in: tower.d_model(),
                d_out: decoder.d_model(),
                activation: own
                    .projector_hidden_act
                    .unwrap_or(ActivationName::Gelu)
                    .into(),
                bias: own.multimodal_projector_bias.unwrap_or(true),
            },
            image_token,
            takes_class_token,
            tower,
            decoder,
        })
    }

    /// How many rows of the decoder an image takes.
    pub fn tokens_per_image(&self) -> usize {
        self.tower.rows_per_image() - usize::from(!self.takes_class_token)
    }

    /// The layers of the tower, of which those above the features are not computed.
    fn tower_layers(&self) -> impl Iterator<Item = LinearLayer> {
        let layers = self.tower.layers().into_iter();
        layers.chain(self.tower.pooling_layers())
    }
}

/// How many layers are below the features.
///
/// - layer: an index among the hidden states of the tower, of which the first goes into its first layer
fn depth(layer: Option<&Value>, n_layers: usize) -> Result<usize, String> {
    let index = match layer {
        None | Some(Value::Null) => -2,
        Some(Value::Array(layers)) if layers.len() == 1 => layers[0].as_i64().unwrap_or(i64::MIN),
        Some(Value::Array(_)) => {
            return Err(
                "`vision_feature_layer` names several layers, whose features would be joined; only one is supported"
                    .to_owned(),
            );
        }
        Some(layer) => layer.as_i64().unwrap_or(i64::MIN),
    };
    let states = n_layers as i64 + 1;
    let depth = match index {
        ..0 => index.saturating_add(states),
        _ => index,
    };
    match usize::try_from(depth) {
        Ok(depth) if depth <= n_layers => Ok(depth),
        _ => Err(format!(
            "`vision_feature_layer` is {index}, but the tower has {n_layers} layers"
        )),
    }
}

/// What transformers takes for the decoder where `text_config` is silent; `None` where such a decoder is
/// not supported below a tower.
fn class_defaults(family: DecoderFamily) -> Option<Value> {
    Some(match family {
        DecoderFamily::Llama => json!({
            "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
            "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-6,
        }),
        DecoderFamily::Mistral => json!({
            "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
            "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
            "max_position_embeddings": 131072, "rms_norm_eps": 1e-6, "sliding_window": 4096,
        }),
        DecoderFamily::Qwen2 => json!({
            "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016,
            "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
            "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "sliding_window": 4096,
        }),
        DecoderFamily::Qwen3 => json!({
            "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "head_dim": 128,
            "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
            "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "sliding_window": 4096,
        }),
        DecoderFamily::Gemma2 | DecoderFamily::Gpt2 => return None,
    })
}

impl ModelConfig for VisionLanguageConfig {
    fn kind(&self) -> &'static str {
        "vision-language model"
    }

    fn prefix(&self) -> &'static str {
        PREFIX
    }

    fn vocab_size(&self) -> Option<usize> {
        self.decoder.vocab_size()
    }

    fn token_table(&self) -> Option<String> {
        self.decoder.token_table()
    }

    fn ties_output(&self) -> bool {
        self.decoder.ties_output()
    }

    fn max_length(&self) -> Option<usize> {
        self.decoder.max_length()
    }

    fn image_shape(&self) -> Option<[usize; 2]> {
        self.tower.image_shape()
    }

    fn image_tokens(&self) -> Option<ImageTokens> {
        Some(ImageTokens {
            token: self.image_token,
            per_image: self.tokens_per_image(),
        })
    }

    /// Of the decoder, which nearly all of the model is.
    fn widths(&self) -> [usize; 2] {
        self.decoder.widths()
    }

    /// Of the decoder and of the part of the tower that is computed.
    fn n_layers(&self) -> usize {
        self.tower_depth + self.decoder.n_layers
    }

    /// Of the decoder.
    fn activations_per_row(&self) -> [usize; 2] {
        self.decoder.activations_per_row()
    }

    /// An example has one image.
    fn stacks(&self, max_length: usize) -> Vec<LayerStack> {
        let tower = self.tower.stacks(max_length).into_iter();
        let tower = tower.map(|stack| LayerStack {
            prefix: TOWER,
            n_layers: self.tower_depth,
            ..stack
        });
        let decoder = self.decoder.stacks(max_length).into_iter();
        let decoder = decoder.map(|stack| LayerStack {
            prefix: DECODER,
            ..stack
        });
        tower.chain(decoder).collect()
    }

    fn default_targets(&self) -> &'static [&'static str] {
        self.decoder.default_targets()
    }

    fn layers(&self) -> Vec<LinearLayer> {
        self.tower_layers()
            .chain(self.connector.layers())
            .chain(self.decoder.layers())
            .collect()
    }

    fn is_computed(&self, path: &str) -> bool {
        let above = self.tower_depth..self.tower.n_layers;
        let blocks = above.map(|layer| self.tower.block_path(layer));
        !blocks
            .chain([self.tower.part("head")])
            .any(|block| path.starts_with(&format!("{block}.")))
    }

    fn parameters(&self) -> usize {
        let connector = self.connector.layers();
        self.tower.parameters()
            + connector.iter().map(LinearLayer::parameters).sum::<usize>()
            + self.decoder.parameters()
    }

    fn own_head(&self, _saved_as: &str, _classifier: Option<HeadKind>) -> Option<HeadKind> {
        Some(HeadKind::LanguageModel)
    }

    fn usual_head(&self, _labels: usize) -> HeadKind {
        HeadKind::LanguageModel
    }

    fn head_layers(&self, kind: HeadKind) -> Option<Vec<LinearLayer>> {
        match kind {
            HeadKind::LanguageModel => self.decoder.head_layers(kind),
            _ => None,
        }
    }

    fn head_modules(&self, kind: HeadKind) -> Vec<&'static str> {
        self.decoder.head_modules(kind)
    }

    fn head_form(&self, kind: HeadKind) -> HeadForm {
        self.decoder.head_form(kind)
    }

    fn output_weight(&self) -> &'static str {
        self.decoder.output_weight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_a_hidden_state_counted_from_either_end() {
        let of = |layer: Value| depth(Some(&layer), 24);
        assert_eq!(of(json!(-2)), Ok(23));
        assert_eq!(of(json!(-1)), Ok(24));
        assert_eq!(of(json!(22)), Ok(22));
        assert_eq!(of(json!([-2])), Ok(23));
        assert_eq!(depth(None, 3), Ok(2));
        assert!(of(json!(25)).unwrap_err().contains("24 layers"));
        assert!(of(json!(-26)).is_err());
        assert!(of(json!([-2, -5])).unwrap_err().contains("several"));
    }

    #[test]
    fn a_published_configuration_leaves_out_what_is_the_default_of_its_class() {
        let json = json!({
            "model_type": "llava", "image_token_index": 32000, "tie_word_embeddings": false,
            "text_config": {
                "model_type": "llama", "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
                "vocab_size": 32064,
            },
            "vision_config": {
                "model_type": "clip_vision_model", "hidden_size": 1024, "image_size": 336,
                "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24,
                "patch_size": 14, "projection_dim": 768, "vocab_size": 32000,
            },
        });
        let found = VisionLanguageConfig::from_json(&json).expect("LLaVA 1.5");
        assert_eq!((found.tower_depth, found.tokens_per_image()), (23, 576));
        assert_eq!(
            (found.decoder.n_layers, found.decoder.d_model()),
            (32, 4096)
        );
        assert!(found.is_computed("model.vision_tower.encoder.layers.22.mlp.fc1"));
        assert!(!found.is_computed("model.vision_tower.encoder.layers.23.mlp.fc1"));
        assert!(!found.decoder.tied);

        let image_token = |id: u32| {
            let mut both = json.clone();
            both["image_token_id"] = json!(id);
            VisionLanguageConfig::from_json(&both).map(|found| found.image_token)
        };
        assert_eq!(image_token(32000), Ok(32000));
        assert!(image_token(7).unwrap_err().contains("mean the same"));
    }

    #[test]
    fn siglip_s_features_are_all_patches_of_its_last_layer() {
        let json = json!({
            "model_type": "llava", "image_token_index": 151646, "vision_feature_layer": -1,
            "vision_feature_select_strategy": "full",
            "text_config": {
                "model_type": "qwen2", "hidden_size": 1024, "intermediate_size": 2816,
                "num_attention_heads": 16, "num_hidden_layers": 24, "num_key_value_heads": 16,
                "vocab_size": 152000,
            },
            "vision_config": {
                "model_type": "siglip_vision_model", "hidden_size": 1152, "image_size": 384,
                "intermediate_size": 4304, "num_attention_heads": 16, "num_hidden_layers": 26,
                "patch_size": 14, "vision_use_head": false,
            },
        });
        let found = VisionLanguageConfig::from_json(&json).expect("LLaVA-Interleave");
        assert_eq!((found.tower_depth, found.tokens_per_image()), (26, 729));
        assert!(
            found
                .tower_layers()
                .all(|layer| found.is_computed(&layer.path))
        );
        let mut with_head = json;
        with_head["vision_config"]["vision_use_head"] = Value::Null;
        let with_head = VisionLanguageConfig::from_json(&with_head).expect("a pooling head");
        let above = with_head.tower_layers();
        let above: Vec<_> = above
            .filter(|layer| !with_head.is_computed(&layer.path))
            .collect();
        assert_eq!(above.len(), 3);
        // Its query and norm, the four projections of its attention, its feed-forward layers.
        let (d, d_ff) = (1152, 4304);
        let pooling = 3 * d + 4 * d * (d + 1) + 2 * d * d_ff + d + d_ff;
        assert_eq!(with_head.parameters() - found.parameters(), pooling);
    }

    #[test]
    fn parts_that_are_not_supported_are_named() {
        for (key, kind, expected) in [
            ("vision_config", "dinov2", "tower of type `dinov2`"),
            ("text_config", "gemma2", "decoder of type `gemma2`"),
        ] {
            let json = json!({"model_type": "llava", key: {"model_type": kind}});
            let problem = VisionLanguageConfig::from_json(&json).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
