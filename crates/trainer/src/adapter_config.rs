//! The `[adapter]` table of a training file.

use eigenmix_moslora::MixerInit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::methods::Recipe;
use crate::{AdapterMethod, TrainerError};

/// The `[adapter]` table: the method and its options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdapterConfig {
    /// The method that trains the adapter.
    pub method: AdapterMethod,
    /// The rank of the factors, or of EigenLoRAx's coefficients. eigenmix has no rank; it uses the
    /// scaling that LoRA has at this rank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub rank: Option<usize>,
    /// The scaling is alpha / rank. Default: twice the rank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f32>,
    /// Dropout probability on the input of the update during training.
    #[serde(default)]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub dropout: f64,
    /// The linear layers to adapt, as in PEFT: a list of names, a regular expression, or
    /// "all-linear". Default: query and value; of a subspace, which it restricts, all modules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_modules: Option<TargetModulesConfig>,
    /// MoSLoRA: how the mixer is initialised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixer: Option<MixerInit>,
    /// The directory of an extracted subspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subspace: Option<String>,
    /// Adapters to extract the subspace from, instead of `subspace`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adapters: Vec<String>,
    /// With `adapters`: how much each counts in the subspace, in their order: its update of a module is
    /// scaled to this norm first. Default: each by its own norm.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<f64>,
    /// How many principal components of the subspace to use. Default: all. If the subspace also has
    /// a mean and random directions, they are always used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub components: Option<usize>,
    /// With `adapters`: the number of random directions to add to the basis.
    #[serde(default)]
    pub augment: usize,
    /// How the coefficients are initialised: "zero", "random" (EigenLoRAx only, as its authors do),
    /// "merge" (the average of the recycled adapters), or "project:ADAPTER" (the projection of one
    /// adapter).
    #[serde(default)]
    pub init: Init,
    /// Recycle adapters even if they name another base model.
    #[serde(default)]
    pub allow_base_mismatch: bool,
}

/// `target_modules` of a training file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TargetModulesConfig {
    Names(Vec<String>),
    /// A regular expression over whole paths, or "all-linear".
    Pattern(String),
}

/// How the coefficients on a basis are initialised.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub enum Init {
    #[default]
    Zero,
    Random,
    Project(String),
    Merge,
}

impl TryFrom<String> for Init {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "zero" => Ok(Self::Zero),
            "random" => Ok(Self::Random),
            "merge" => Ok(Self::Merge),
            other => match other.strip_prefix("project:") {
                Some(adapter) if !adapter.is_empty() => Ok(Self::Project(adapter.to_owned())),
                _ => Err(format!(
                    "init `{other}` is unknown; expected zero, random, merge or project:ADAPTER"
                )),
            },
        }
    }
}

impl From<Init> for String {
    fn from(init: Init) -> Self {
        match init {
            Init::Zero => "zero".into(),
            Init::Random => "random".into(),
            Init::Merge => "merge".into(),
            Init::Project(adapter) => format!("project:{adapter}"),
        }
    }
}

impl AdapterConfig {
    /// Options that the method does not have, and options that it needs and are missing.
    pub(crate) fn problems(&self) -> Vec<TrainerError> {
        let method = self.method;
        let definition = method.definition();
        let is_refused_random = match definition.recipe {
            Recipe::Basis {
                starts_randomly, ..
            } => !starts_randomly && self.init == Init::Random,
            _ => false,
        };
        let only = format!("only {}", AdapterMethod::names_with_basis());
        let is_basis_given = self.subspace.is_some() || !self.adapters.is_empty();
        let rules = [
            (
                !method.trains_everything() && self.rank.is_none_or(|rank| rank == 0),
                "adapter.rank",
                "a rank of at least 1 is required".to_owned(),
            ),
            (
                method.has_basis() && !is_basis_given,
                "adapter.subspace",
                "a subspace is required, or adapters to extract one from".to_owned(),
            ),
            (
                method.has_basis() && self.subspace.is_some() && !self.adapters.is_empty(),
                "adapter.adapters",
                "`adapter.subspace` is given as well".to_owned(),
            ),
            (
                method.has_basis() && self.subspace.is_some() && self.augment > 0,
                "adapter.augment",
                "`adapter.subspace` is made already; augment it when it is extracted".to_owned(),
            ),
            (
                !self.weights.is_empty() && self.adapters.is_empty(),
                "adapter.weights",
                "they weigh `adapter.adapters`, which are not given".to_owned(),
            ),
            (
                !method.has_basis() && is_basis_given,
                if self.subspace.is_some() {
                    "adapter.subspace"
                } else {
                    "adapter.adapters"
                },
                format!("{only} train on a subspace"),
            ),
            (
                !method.has_basis() && self.init != Init::Zero,
                "adapter.init",
                format!("{only} have coefficients to initialise"),
            ),
            (
                is_refused_random,
                "adapter.init",
                format!(
                    "{} can be initialised with zero, project:ADAPTER or merge",
                    method.name()
                ),
            ),
            (
                !definition.has_mixer && self.mixer.is_some(),
                "adapter.mixer",
                "only moslora has a mixer of its own".to_owned(),
            ),
            (
                self.mixer == Some(MixerInit::TwoSubspaces)
                    && self.rank.is_some_and(|rank| rank % 2 == 1),
                "adapter.mixer",
                "two-subspaces needs an even rank".to_owned(),
            ),
        ];
        let broken = rules.into_iter().filter(|(is_broken, ..)| *is_broken);
        let mut problems: Vec<TrainerError> = broken
            .map(|(_, key, reason)| TrainerError::Method {
                key,
                method: method.name(),
                reason,
            })
            .collect();
        if !(0.0..1.0).contains(&self.dropout) {
            let found = self.dropout;
            let expected = "at least 0 and below 1";
            problems.push(TrainerError::value("adapter.dropout", expected, found));
        }
        problems
    }

    /// The scaling of LoRA: alpha / rank.
    pub(crate) fn scaling(&self) -> f32 {
        self.alpha
            .map_or(2.0, |alpha| alpha / self.rank.unwrap_or(1) as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> AdapterConfig {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn every_init_is_read_back_as_written() {
        for text in ["zero", "random", "merge", "project:some/adapter"] {
            let init = Init::try_from(text.to_owned()).unwrap();
            assert_eq!(String::from(init), text);
        }
        assert!(Init::try_from("project:".to_owned()).is_err());
    }

    #[test]
    fn options_that_a_method_does_not_have_are_refused_by_name() {
        for (text, key) in [
            ("method = \"lora\"", "adapter.rank"),
            (
                "method = \"lora\"\nrank = 2\nsubspace = \"s\"",
                "adapter.subspace",
            ),
            ("method = \"eigenmix\"\nrank = 2", "adapter.subspace"),
            (
                "method = \"eigenmix\"\nrank = 2\nsubspace = \"s\"\ninit = \"random\"",
                "adapter.init",
            ),
            (
                "method = \"lora\"\nrank = 2\nmixer = \"kaiming\"",
                "adapter.mixer",
            ),
            (
                "method = \"moslora\"\nrank = 3\nmixer = \"two-subspaces\"",
                "adapter.mixer",
            ),
        ] {
            let problems = config(text).problems();
            let keys: Vec<_> = problems.iter().map(TrainerError::key).collect();
            assert_eq!(keys, [Some(key)], "{text}");
        }
    }
}
