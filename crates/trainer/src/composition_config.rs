//! `adapter.composition`: which weights a composition of adapters has.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::adapter_config::AdapterConfig;
use crate::basis_config::BasisKind;
use crate::init::Init;
use crate::{AdapterMethod, TrainerError};

/// Which weights a composition has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WeightScope {
    /// One for each adapter, the same in all modules.
    Adapter,
    /// One for each adapter in each module.
    #[default]
    Module,
}

impl AdapterConfig {
    /// Which weights its composition has.
    pub(crate) fn composition(&self) -> WeightScope {
        self.composition.unwrap_or_default()
    }

    /// The composition of `adapters` that a training starts from. A start has one weight for each adapter
    /// unless the file says otherwise: fewer weights are found more surely in a few steps, and the training
    /// does the rest.
    pub(crate) fn composition_of(&self, adapters: Vec<String>) -> Self {
        Self {
            method: AdapterMethod::Compose,
            adapters,
            rank: None,
            alpha: None,
            dropout: 0.0,
            mixer: None,
            subspace: None,
            weights: None,
            basis: BasisKind::Recycled,
            gradient: None,
            components: None,
            augment: 0,
            composition: Some(self.composition.unwrap_or(WeightScope::Adapter)),
            init: Some(Init::Zero),
            ..self.clone()
        }
    }

    /// How many parameters all layers share, where there are no others.
    pub(crate) fn shared_parameters(&self) -> Option<usize> {
        let is_shared = self.method.is_composition() && self.composition() == WeightScope::Adapter;
        is_shared.then_some(self.adapters.len())
    }

    /// Options that a composition does not have, and the adapters that it needs.
    pub(crate) fn composition_problems(&self) -> Vec<TrainerError> {
        let is_composition = self.method.is_composition();
        let no_basis = "it has no basis: it weighs whole adapters; leave it out".to_owned();
        let rules = [
            (
                !is_composition && self.init() != Init::Compose && self.composition.is_some(),
                "adapter.composition",
                "only compose has weights of adapters, and init = \"compose\"".to_owned(),
            ),
            (
                is_composition && self.subspace.is_some(),
                "adapter.subspace",
                "it weighs whole adapters, not the directions that they share; name them in \
                 adapter.adapters"
                    .to_owned(),
            ),
            (
                is_composition && self.subspace.is_none() && self.adapters.is_empty(),
                "adapter.adapters",
                "adapters to compose are required".to_owned(),
            ),
            (
                is_composition && self.alpha.is_some(),
                "adapter.alpha",
                "every adapter keeps its own scaling; leave it out".to_owned(),
            ),
            (
                is_composition && self.given_weights().is_some(),
                "adapter.weights",
                "they are what it trains; leave them out".to_owned(),
            ),
            (
                is_composition && self.components.is_some(),
                "adapter.components",
                no_basis.clone(),
            ),
            (
                is_composition && self.augment > 0,
                "adapter.augment",
                no_basis.clone(),
            ),
            (
                is_composition && self.basis != BasisKind::Recycled,
                "adapter.basis",
                no_basis.clone(),
            ),
            (
                is_composition && self.gradient.is_some(),
                "adapter.gradient",
                no_basis,
            ),
            (
                is_composition && !matches!(self.init(), Init::Zero | Init::Merge),
                "adapter.init",
                "its weights start at \"zero\" or, with \"merge\", at those of the average"
                    .to_owned(),
            ),
        ];
        let broken = rules.into_iter().filter(|(is_broken, ..)| *is_broken);
        broken
            .map(|(_, key, reason)| TrainerError::Method {
                key,
                method: self.method.name(),
                reason,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_composition_does_not_have_is_refused_by_name() {
        for (text, keys) in [
            ("adapters = ['a']\ninit = 'compose'", vec!["adapter.init"]),
            ("adapters = ['a']", vec![]),
            ("adapters = ['a']\ninit = 'merge'", vec![]),
            ("adapters = ['a']\ncomposition = 'adapter'", vec![]),
            ("adapters = ['a']\nrank = 2", vec![]),
            ("adapters = ['a']\nrank = 0", vec!["adapter.rank"]),
            ("", vec!["adapter.adapters"]),
            ("subspace = 's'", vec!["adapter.subspace"]),
            ("adapters = ['a']\nalpha = 2.0", vec!["adapter.alpha"]),
            ("adapters = ['a']\nweights = [2.0]", vec!["adapter.weights"]),
            (
                "adapters = ['a']\ncomponents = 2",
                vec!["adapter.components"],
            ),
            ("adapters = ['a']\naugment = 2", vec!["adapter.augment"]),
            ("adapters = ['a']\nbasis = 'random'", vec!["adapter.basis"]),
            (
                "adapters = ['a']\ngradient = true",
                vec!["adapter.gradient"],
            ),
            ("adapters = ['a']\ninit = 'random'", vec!["adapter.init"]),
            ("adapters = ['a']\ninit = 'org/one'", vec!["adapter.init"]),
            (
                "adapters = ['a']\nmixer = 'identity'",
                vec!["adapter.mixer"],
            ),
        ] {
            let table = format!("method = 'compose'\n{text}");
            let config: AdapterConfig = toml::from_str(&table).unwrap();
            let problems = config.problems();
            let found: Vec<_> = problems.iter().filter_map(TrainerError::key).collect();
            assert_eq!(found, keys, "{text}");
        }
        let table = "method = 'lora'\nrank = 2\ncomposition = 'module'";
        let config: AdapterConfig = toml::from_str(table).unwrap();
        let problems = config.problems();
        assert_eq!(problems[0].key(), Some("adapter.composition"));
    }
}
