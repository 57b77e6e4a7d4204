//! `adapter.basis` and `adapter.gradient`: what the basis of a method on a subspace is made of.

use std::num::NonZeroUsize;

use eigenmix_eigenlorax::Weights;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::adapter_config::AdapterConfig;
use crate::training::GradientOptions;

/// How much a gradient counts beside one adapter, unless `adapter.gradient.weight` says it.
const DEFAULT_WEIGHT: f64 = 3.0;

/// From so many examples on, half of the directions are the gradient's own, unless the file says otherwise.
/// With 75 examples the directions that the adapters share are the better half (docs/benchmarks.md).
const MANY_EXAMPLES: usize = 256;

/// What the basis is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BasisKind {
    /// The subspace of other adapters.
    #[default]
    Recycled,
    /// Random orthonormal directions: the control that a recycled basis has to beat.
    Random,
    /// The leading singular vectors of the frozen weights, as in LoRA-XS (arXiv 2405.17604).
    Weights,
    /// The leading directions of the task's own gradient alone.
    Gradient,
}

impl BasisKind {
    pub(crate) fn is_recycled(&self) -> bool {
        *self == Self::Recycled
    }
}

/// `adapter.gradient`: true, or a table.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum GradientKey {
    /// Whether the gradient is used, with the defaults.
    Used(bool),
    Options(GradientConfig),
}

/// How the gradient of the task goes into the basis.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GradientConfig {
    /// The most directions of the gradient that are taken of a module. Default: 24; where the gradient
    /// is the whole basis, `adapter.components`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub rank: Option<NonZeroUsize>,
    /// The most training examples that the gradient is the mean over.
    #[schemars(range(min = 1))]
    pub examples: NonZeroUsize,
    /// How it is joined with recycled adapters. Default: "auto", or "weight" where `weight` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join: Option<GradientJoin>,
    /// With join = "weight": how much it counts beside one adapter. Default: 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub weight: Option<f64>,
    /// Whether the training's head starts from the one that was fitted for the gradient, scaled down to
    /// where its loss is two thirds of that of a head that knows nothing. Default: true, where there is
    /// such a head and `init` brings none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<bool>,
}

/// How a gradient is joined with recycled adapters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GradientJoin {
    /// "augment" where the training has 256 examples or more, "weight" where it has fewer.
    #[default]
    Auto,
    /// As one more adapter.
    Weight,
    /// The directions of the adapters that the gradient asks for, instead of those of largest variance.
    Rotate,
    /// Half of the components as with "rotate", half the gradient's leading directions outside the adapters'.
    /// Where one of the two has fewer, the other has more.
    Augment,
}

impl Default for GradientConfig {
    fn default() -> Self {
        Self {
            rank: None,
            examples: GradientOptions::default().examples,
            join: None,
            weight: None,
            head: None,
        }
    }
}

impl AdapterConfig {
    /// How the gradient of the task joins recycled adapters, if it does.
    pub fn gradient_join(&self) -> Option<GradientJoin> {
        let gradient = self.gradient_config()?;
        (!self.is_gradient_whole()).then(|| gradient.join())
    }

    /// The same with what the number of training examples decides of how the gradient is joined.
    pub fn joining_for(&self, examples: usize) -> Self {
        let mut config = self.clone();
        if let (Some(GradientJoin::Auto), Some(gradient)) =
            (self.gradient_join(), self.gradient_config())
        {
            let join = match examples >= MANY_EXAMPLES {
                true => GradientJoin::Augment,
                false => GradientJoin::Weight,
            };
            config.gradient = Some(GradientKey::Options(GradientConfig {
                join: Some(join),
                ..gradient
            }));
        }
        config
    }

    /// Says which defaults of the basis it goes by, so that a run is not gone on with under others.
    pub(crate) fn say_defaults(&mut self) {
        self.say_weights(Weights::Equal);
        if let Some(GradientJoin::Auto) = self.gradient_join() {
            self.gradient = self.gradient_config().map(|gradient| {
                GradientKey::Options(GradientConfig {
                    join: Some(GradientJoin::Auto),
                    ..gradient
                })
            });
        }
    }

    /// Of a run that does not say how much each adapter counts: as it was before there was a choice.
    pub(crate) fn assume_weights(&mut self) {
        self.say_weights(Weights::Norms);
    }

    fn say_weights(&mut self, default: Weights) {
        let are_open = self.method.has_basis() && !self.adapters.is_empty();
        if are_open && self.given_weights().is_none() {
            self.weights = Some(default);
        }
    }

    /// How much each adapter counts, if it says so.
    pub(crate) fn given_weights(&self) -> Option<Weights> {
        self.weights.clone().filter(|weights| !weights.is_none())
    }
}

impl GradientConfig {
    pub(crate) fn options(&self) -> GradientOptions {
        GradientOptions {
            rank: self.rank.unwrap_or(GradientOptions::default().rank),
            examples: self.examples,
        }
    }

    pub(crate) fn join(&self) -> GradientJoin {
        let weighted = self.weight.map(|_| GradientJoin::Weight);
        self.join.or(weighted).unwrap_or_default()
    }

    pub(crate) fn weight(&self) -> f64 {
        self.weight.unwrap_or(DEFAULT_WEIGHT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(keys: &str) -> AdapterConfig {
        toml::from_str(&format!("method = 'eigenmix'\nrank = 4\n{keys}")).unwrap()
    }

    #[test]
    fn the_number_of_examples_decides_how_a_gradient_joins_where_the_file_leaves_it_open() {
        let joined =
            |keys: &str, examples: usize| adapter(keys).joining_for(examples).gradient_join();
        let open = "adapters = ['a']\ngradient = true";
        assert_eq!(joined(open, 255), Some(GradientJoin::Weight));
        assert_eq!(joined(open, 256), Some(GradientJoin::Augment));
        for (keys, expected) in [
            (
                "adapters = ['a']\ngradient = { weight = 2.0 }",
                Some(GradientJoin::Weight),
            ),
            (
                "adapters = ['a']\ngradient = { join = 'rotate' }",
                Some(GradientJoin::Rotate),
            ),
            ("adapters = ['a']", None),
            ("gradient = true", None),
        ] {
            assert_eq!(joined(keys, 1), expected, "{keys}");
            assert_eq!(joined(keys, 10_000), expected, "{keys}");
        }
    }

    #[test]
    fn what_a_run_leaves_open_is_the_default_and_of_an_older_run_what_it_was_then() {
        let weights = |keys: &str, say: fn(&mut AdapterConfig)| {
            let mut config = adapter(keys);
            say(&mut config);
            config.weights
        };
        let (now, then) = (AdapterConfig::say_defaults, AdapterConfig::assume_weights);
        let pool = "adapters = ['a', 'b']";
        assert_eq!(weights(pool, now), Some(Weights::Equal));
        assert_eq!(weights(pool, then), Some(Weights::Norms));
        let given = "adapters = ['a', 'b']\nweights = [1.0, 2.0]";
        for say in [now, then] {
            assert_eq!(weights(given, say), Some(Weights::Given(vec![1.0, 2.0])));
            assert_eq!(weights("subspace = 's'", say), None);
        }
    }
}
