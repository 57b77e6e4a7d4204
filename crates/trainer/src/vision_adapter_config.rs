//! The `[adapter.vision]` table of a training file.

use eigenmix_moslora::MixerInit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::adapter_config::AdapterConfig;
use crate::methods::Recipe;
use crate::{AdapterMethod, TrainerError};

/// The `[adapter.vision]` table: how the tower of a vision-language model is adapted. What it leaves out
/// is as in `[adapter]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VisionAdapterConfig {
    /// The method that trains the tower's layers: lora or moslora.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<AdapterMethod>,
    /// The rank of the factors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub rank: Option<usize>,
    /// The scaling is alpha / rank. Default: that of `[adapter]`, or twice the rank if a rank is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f32>,
    /// Dropout probability on the input of the update during training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub dropout: Option<f64>,
    /// MoSLoRA: how the mixer is initialised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixer: Option<MixerInit>,
}

impl VisionAdapterConfig {
    /// The options of the tower's layers as those of an adapter of their own.
    pub(crate) fn of(&self, whole: &AdapterConfig) -> AdapterConfig {
        let method = self.method.unwrap_or(whole.method);
        AdapterConfig {
            method,
            rank: self.rank.or(whole.rank),
            alpha: match (self.alpha, self.rank) {
                (None, None) => whole.alpha,
                (alpha, _) => alpha,
            },
            dropout: self.dropout.unwrap_or(whole.dropout),
            mixer: match method.definition().has_mixer {
                true => self.mixer.or(whole.mixer),
                false => None,
            },
            vision: None,
            ..whole.clone()
        }
    }

    /// Options that the method does not have, or that no method has.
    pub(crate) fn problems(&self, whole: &AdapterConfig) -> Vec<TrainerError> {
        let mut problems = Vec::new();
        let method = self.method.unwrap_or(whole.method);
        let refused = |key, reason: &str| TrainerError::Method {
            key,
            method: method.name(),
            reason: reason.to_owned(),
        };
        let definition = method.definition();
        if self.method.is_some() && !matches!(definition.recipe, Recipe::Factors { .. }) {
            problems.push(refused(
                "adapter.vision.method",
                "only lora and moslora are for a tower",
            ));
        }
        if self.rank == Some(0) {
            problems.push(refused(
                "adapter.vision.rank",
                "a rank of at least 1 is required",
            ));
        }
        if self.mixer.is_some() && !definition.has_mixer {
            problems.push(refused(
                "adapter.vision.mixer",
                "only moslora has a mixer of its own",
            ));
        }
        if let Some(found) = self.dropout.filter(|dropout| !(0.0..1.0).contains(dropout)) {
            let expected = "at least 0 and below 1";
            problems.push(TrainerError::value(
                "adapter.vision.dropout",
                expected,
                found,
            ));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(table: &str) -> AdapterConfig {
        toml::from_str(table).expect("a table")
    }

    #[test]
    fn the_tower_has_options_of_its_own_and_the_rest_of_the_decoders() {
        let whole = of(
            "method = \"moslora\"\nrank = 64\nalpha = 128\ndropout = 0.05\n\
                        [vision]\nalpha = 16",
        );
        let tower = whole.vision.as_ref().expect("a table").of(&whole);
        assert_eq!(
            (tower.method, tower.rank, tower.alpha),
            (AdapterMethod::Moslora, Some(64), Some(16.0))
        );
        assert_eq!(tower.dropout, 0.05);
        let whole = of(
            "method = \"moslora\"\nrank = 512\nalpha = 256\nmixer = \"orthogonal\"\n\
                        [vision]\nmethod = \"lora\"\nrank = 64",
        );
        let tower = whole.vision.as_ref().expect("a table").of(&whole);
        // Of another rank, twice that.
        assert_eq!(
            (tower.method, tower.alpha, tower.mixer),
            (AdapterMethod::Lora, None, None)
        );
        assert_eq!(tower.scaling(), 2.0);
    }

    #[test]
    fn options_that_have_no_effect_are_refused() {
        for (table, key) in [
            (
                "method = \"lora\"\nrank = 2\n[vision]\nmixer = \"orthogonal\"",
                "adapter.vision.mixer",
            ),
            (
                "method = \"lora\"\nrank = 2\n[vision]\nrank = 0",
                "adapter.vision.rank",
            ),
            (
                "method = \"lora\"\nrank = 2\n[vision]\nmethod = \"full\"",
                "adapter.vision.method",
            ),
            (
                "method = \"lora\"\nrank = 2\n[vision]\ndropout = 1.0",
                "adapter.vision.dropout",
            ),
            (
                "method = \"eigenmix\"\nrank = 2\nsubspace = \"s\"\n[vision]\nrank = 2",
                "adapter.vision",
            ),
        ] {
            let problems = of(table).problems();
            let messages: Vec<String> = problems.iter().map(ToString::to_string).collect();
            assert!(
                messages.iter().any(|message| message.contains(key)),
                "{messages:?}"
            );
        }
    }
}
