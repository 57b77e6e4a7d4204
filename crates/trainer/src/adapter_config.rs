//! The `[adapter]` table of a training file.

use std::num::NonZeroUsize;

use eigenmix_eigenlorax::Weights;
use eigenmix_moslora::{FactorInit, MixerInit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::basis_config::{BasisKind, GradientConfig, GradientJoin, GradientKey};
use crate::component_count::ComponentCount;
use crate::composition_config::WeightScope;
use crate::init::Init;
use crate::methods::Recipe;
use crate::training::GradientOptions;
use crate::vision_adapter_config::VisionAdapterConfig;
use crate::{AdapterMethod, TrainerError};

/// The `[adapter]` table: the method and its options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdapterConfig {
    /// The method that trains the adapter.
    pub method: AdapterMethod,
    /// The rank of the factors, or of EigenLoRAx's coefficients. eigenmix has no rank; it uses the
    /// scaling that LoRA has at this rank. Required, except where `init` names an adapter for lora or
    /// moslora: default then its rank. compose truncates its result to it, if it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub rank: Option<usize>,
    /// The scaling is alpha / rank. Default: twice the rank, or that of the adapter that lora or
    /// moslora start from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f32>,
    /// Dropout probability on the input of the update during training.
    #[serde(default)]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub dropout: f64,
    /// The linear layers to adapt, as in PEFT: a list of names, a regular expression, or
    /// "all-linear". Default: query and value; of a subspace, which it restricts, all modules, and so
    /// of an adapter that lora or moslora start from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_modules: Option<TargetModulesConfig>,
    /// Modules that are trained and saved whole beside the adapter, as in PEFT: of a vision-language model
    /// `multi_modal_projector`. Default: none, or those of the adapter that lora or moslora start from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules_to_save: Vec<String>,
    /// Of a vision-language model: the options of its tower, where they are others than the decoder's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vision: Option<VisionAdapterConfig>,
    /// MoSLoRA: how the mixer is initialised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixer: Option<MixerInit>,
    /// LoRA and MoSLoRA: how A is initialised. Default: "kaiming".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor_init: Option<FactorInit>,
    /// The directory of an extracted subspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subspace: Option<String>,
    /// Adapters to extract the subspace from, instead of `subspace`; of compose those to weigh.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adapters: Vec<String>,
    /// With `adapters`: how much each counts in the subspace: "equal", "norms" (each by its own), or a number
    /// for each in their order; its update of a module is scaled to this norm first. Default: "equal".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
    /// What the basis is made of. With "random" and "weights", the controls, `subspace` or `adapters` may
    /// stay: they give the modules and the number of directions.
    #[serde(default, skip_serializing_if = "BasisKind::is_recycled")]
    pub basis: BasisKind,
    /// Whether the gradient of this task, taken once before the training, is joined to the basis: true, or a
    /// table that says how. Without `subspace` and `adapters` it is the whole basis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient: Option<GradientKey>,
    /// compose, or `init` = "compose": whether every adapter has one weight, or one in each module.
    /// Default: "module" of compose, "adapter" of a start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub composition: Option<WeightScope>,
    /// How many principal components of the basis to use, or "all". Default: all of a `subspace`;
    /// otherwise as many in each module as keep the coefficients at a tenth of the parameters of LoRA of
    /// this rank. If a subspace also has a mean and random directions, they are always used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub components: Option<ComponentCount>,
    /// With `adapters`: the number of random directions to add to the basis.
    #[serde(default)]
    pub augment: usize,
    /// Where the training starts. Default: "auto" of eigenmix with `adapters`, otherwise "zero" (ΔW = 0). It may
    /// be an adapter to go on from, as the path of its directory or of a run, or a Hub id. lora and moslora
    /// start from its factors, methods on a subspace from its projection; its head is taken along if it is
    /// for the same labels. On a subspace also "auto" (zero or the merge, whichever the task's own examples ask
    /// for before the training; zero where `basis` is not the recycled one), "random" (EigenLoRAx only, as its
    /// authors do), "merge" (the average of the recycled adapters, from which compose can start, too),
    /// "compose" (their sum with weights that are found on the task's examples first), or "project:ADAPTER"
    /// (the projection alone, with a new head). A path that equals one of these words is written with `./`
    /// before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
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

/// The widest layers have fewer directions than this.
const MOST_RANK: usize = 1 << 16;

impl AdapterConfig {
    /// Options that the method does not have, and options that it needs and are missing.
    pub(crate) fn problems(&self) -> Vec<TrainerError> {
        let method = self.method;
        let init = &self.init();
        let definition = method.definition();
        let is_refused_random = match definition.recipe {
            Recipe::Basis {
                starts_randomly, ..
            } => !starts_randomly && *init == Init::Random,
            _ => false,
        };
        let is_composition = method.is_composition();
        let is_without_basis = !method.is_on_adapters();
        let only = format!("only {}", AdapterMethod::names_with_basis());
        let is_basis_given = self.is_recycling();
        let gradient = self.gradient_config();
        let is_control = matches!(self.basis, BasisKind::Random | BasisKind::Weights);
        let is_made = is_basis_given || gradient.is_some() || !self.basis.is_recycled();
        let rules = [
            (
                !method.trains_everything()
                    && self.rank.map_or(
                        !is_composition && !self.starts_from_factors(),
                        |rank| rank == 0,
                    ),
                "adapter.rank",
                "a rank of at least 1 is required".to_owned(),
            ),
            (
                self.rank.is_some_and(|rank| rank > MOST_RANK),
                "adapter.rank",
                format!("a rank of at most {MOST_RANK} is expected; no layer has more directions"),
            ),
            (
                method.has_basis() && !is_made,
                "adapter.subspace",
                "a subspace is required, or adapters to extract one from, or adapter.gradient = true \
                 for a basis of the task's own gradient"
                    .to_owned(),
            ),
            (
                is_without_basis && !self.basis.is_recycled(),
                "adapter.basis",
                format!("{only} train on a basis"),
            ),
            (
                is_without_basis && self.gradient.is_some(),
                "adapter.gradient",
                format!("{only} train on a basis"),
            ),
            (
                method.has_basis() && is_control && gradient.is_some(),
                "adapter.gradient",
                "adapter.basis is a control, which the gradient does not go into; leave one of them out"
                    .to_owned(),
            ),
            (
                self.basis == BasisKind::Gradient && self.gradient == Some(GradientKey::Used(false)),
                "adapter.gradient",
                "adapter.basis = \"gradient\" needs it; leave one of them out".to_owned(),
            ),
            (
                method.has_basis()
                    && is_made
                    && !is_basis_given
                    && matches!(init, Init::Merge | Init::Compose | Init::Auto),
                "adapter.init",
                "there are no recycled adapters to start from; name them in adapter.adapters".to_owned(),
            ),
            (
                method.has_basis() && self.subspace.is_some() && !self.adapters.is_empty(),
                "adapter.adapters",
                "`adapter.subspace` is given as well".to_owned(),
            ),
            (
                method.has_basis() && is_made && self.adapters.is_empty() && self.augment > 0,
                "adapter.augment",
                match self.subspace {
                    Some(_) => {
                        "`adapter.subspace` is made already; augment it when it is extracted".to_owned()
                    }
                    None => "there are no adapters to add random directions to; adapter.components \
                             counts all directions"
                        .to_owned(),
                },
            ),
            (
                is_without_basis && self.components.is_some(),
                "adapter.components",
                format!("{only} train on a basis that has components"),
            ),
            (
                self.given_weights().is_some() && self.adapters.is_empty(),
                "adapter.weights",
                "they weigh `adapter.adapters`, which are not given".to_owned(),
            ),
            (
                is_without_basis && is_basis_given,
                if self.subspace.is_some() {
                    "adapter.subspace"
                } else {
                    "adapter.adapters"
                },
                format!("{only} train on a subspace"),
            ),
            (
                is_without_basis
                    && matches!(
                        init,
                        Init::Random
                            | Init::Merge
                            | Init::Compose
                            | Init::Auto
                            | Init::Project(_)
                    ),
                "adapter.init",
                match (init, method.trains_everything()) {
                    (Init::Project(adapter), false) => format!(
                        "{only} project onto a subspace; init = \"{adapter}\" goes on from its factors"
                    ),
                    _ => format!("{only} have coefficients to initialise"),
                },
            ),
            (
                method.trains_everything() && matches!(init, Init::Adapter(_)),
                "adapter.init",
                "it trains the base model itself; `eigenmix export ADAPTER --merge-into-base MODEL \
                 --out DIR` makes a base model of the adapter to start from"
                    .to_owned(),
            ),
            (
                definition.has_mixer
                    && matches!(init, Init::Adapter(_))
                    && self.mixer.is_some_and(|mixer| mixer != MixerInit::Identity),
                "adapter.mixer",
                "going on from an adapter, the mixer starts at the identity, so that the first step \
                 has the adapter's ΔW; leave adapter.mixer out"
                    .to_owned(),
            ),
            (
                is_refused_random,
                "adapter.init",
                format!(
                    "{} can be initialised with zero, merge, compose, auto, project:ADAPTER or \
                     ADAPTER",
                    method.name()
                ),
            ),
            (
                self.vision.is_some() && !matches!(definition.recipe, Recipe::Factors { .. }),
                "adapter.vision",
                "only lora and moslora have options for a tower of its own; leave it out".to_owned(),
            ),
            (
                method.trains_everything() && !self.modules_to_save.is_empty(),
                "adapter.modules_to_save",
                "all modules are trained whole; leave it out".to_owned(),
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
        if let Some(vision) = &self.vision {
            problems.extend(vision.problems(self));
        }
        problems.extend(self.composition_problems());
        problems.extend(self.factor_init_problem());
        problems.extend(gradient.and_then(|gradient| self.unused_join(gradient)));
        problems
    }

    /// Whether activations are dropped before some update.
    pub(crate) fn drops_out(&self) -> bool {
        let of_tower = self.vision.as_ref().and_then(|vision| vision.dropout);
        self.dropout > 0.0 || of_tower.is_some_and(|dropout| dropout > 0.0)
    }

    /// Whether there are adapters, or the subspace of some, to recycle.
    pub fn is_recycling(&self) -> bool {
        self.subspace.is_some() || !self.adapters.is_empty()
    }

    /// Whether the gradient, where it is used, is all of the basis.
    pub(crate) fn is_gradient_whole(&self) -> bool {
        self.basis == BasisKind::Gradient || !self.is_recycling()
    }

    /// What `adapter.gradient` says of how it is joined, and cannot be or is not used.
    fn unused_join(&self, gradient: GradientConfig) -> Option<TrainerError> {
        let refused = |key, reason: &str| {
            Some(TrainerError::Method {
                key,
                method: self.method.name(),
                reason: reason.to_owned(),
            })
        };
        const ALONE: &str =
            "the gradient is the whole basis here, with nothing to join it to; leave it out";
        const NO_WEIGHT: &str = "only join = \"weight\" reads it; leave one of them out";
        match (gradient.join, gradient.weight) {
            (_, Some(weight)) if !(weight.is_finite() && weight >= 0.0) => {
                let expected = "a number of at least 0";
                Some(TrainerError::value(
                    "adapter.gradient.weight",
                    expected,
                    weight,
                ))
            }
            (Some(_), _) if self.is_gradient_whole() => refused("adapter.gradient.join", ALONE),
            (_, Some(_)) if self.is_gradient_whole() => refused("adapter.gradient.weight", ALONE),
            (Some(join), Some(_)) if join != GradientJoin::Weight => {
                refused("adapter.gradient.weight", NO_WEIGHT)
            }
            _ => None,
        }
    }

    /// How the gradient of the task goes into the basis, if it does.
    pub(crate) fn gradient_config(&self) -> Option<GradientConfig> {
        let mut config = match self.gradient {
            Some(GradientKey::Options(config)) => config,
            Some(GradientKey::Used(true)) => GradientConfig::default(),
            None if self.basis == BasisKind::Gradient => GradientConfig::default(),
            None | Some(GradientKey::Used(false)) => return None,
        };
        let all = |components: usize| NonZeroUsize::new(components.saturating_add(self.augment));
        let own = self
            .components
            .and_then(ComponentCount::count)
            .filter(|_| self.is_gradient_whole())
            .and_then(all);
        config.rank = config
            .rank
            .or(own)
            .or(GradientOptions::default().rank.into());
        Some(config)
    }

    /// Whether the training starts from the factors of an adapter.
    fn starts_from_factors(&self) -> bool {
        let has_factors = matches!(self.method.definition().recipe, Recipe::Factors { .. });
        has_factors && matches!(self.init, Some(Init::Adapter(_)))
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
    fn options_that_a_method_does_not_have_are_refused_by_name() {
        for (text, key) in [
            ("method = \"lora\"", "adapter.rank"),
            (
                "method = \"lora\"\nrank = 9223372036854775807",
                "adapter.rank",
            ),
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
                "method = \"moslora\"\ninit = \"org/adapter\"\nmixer = \"kaiming\"",
                "adapter.mixer",
            ),
            (
                "method = \"lora\"\nrank = 2\ninit = \"project:org/adapter\"",
                "adapter.init",
            ),
            ("method = \"full\"\ninit = \"org/adapter\"", "adapter.init"),
            (
                "method = \"lora\"\nrank = 2\ninit = \"auto\"",
                "adapter.init",
            ),
            (
                "method = \"eigenmix\"\nrank = 2\ngradient = true\ninit = \"auto\"",
                "adapter.init",
            ),
            (
                "method = \"eigenmix\"\nsubspace = \"s\"\ninit = \"org/adapter\"",
                "adapter.rank",
            ),
            (
                "method = \"moslora\"\nrank = 3\nmixer = \"two-subspaces\"",
                "adapter.mixer",
            ),
            (
                "method = \"lora\"\nrank = 2\nbasis = \"random\"",
                "adapter.basis",
            ),
            (
                "method = \"lora\"\nrank = 2\ngradient = false",
                "adapter.gradient",
            ),
            (
                "method = \"eigenmix\"\nrank = 2\nbasis = \"random\"\ngradient = true",
                "adapter.gradient",
            ),
            (
                "method = \"eigenmix\"\nrank = 2\nbasis = \"gradient\"\ngradient = false",
                "adapter.gradient",
            ),
            (
                "method = \"eigenmix\"\nrank = 2\ngradient = true\ninit = \"merge\"",
                "adapter.init",
            ),
            (
                "method = \"eigenmix\"\nrank = 2\ngradient = true\naugment = 2",
                "adapter.augment",
            ),
            (
                "method = \"eigenmix\"\nrank = 2\ngradient = { weight = -1.0 }",
                "adapter.gradient.weight",
            ),
            (
                "method = \"eigenmix\"\nrank = 2\ngradient = { weight = 2.0 }",
                "adapter.gradient.weight",
            ),
            (
                "method = \"eigenmix\"\nrank = 2\nsubspace = \"s\"\nbasis = \"gradient\"\n\
                 gradient = { join = \"rotate\" }",
                "adapter.gradient.join",
            ),
            (
                "method = \"eigenmix\"\nrank = 2\nsubspace = \"s\"\n\
                 gradient = { join = \"rotate\", weight = 2.0 }",
                "adapter.gradient.weight",
            ),
        ] {
            let problems = config(text).problems();
            let keys: Vec<_> = problems.iter().map(TrainerError::key).collect();
            assert_eq!(keys, [Some(key)], "{text}");
        }
    }

    #[test]
    fn an_adapter_to_start_from_gives_its_rank() {
        for file in [
            "method = \"lora\"\ninit = \"org/adapter\"",
            "method = \"moslora\"\ninit = \"org/adapter\"\nmixer = \"identity\"",
        ] {
            assert!(config(file).problems().is_empty(), "{file}");
        }
    }
}
