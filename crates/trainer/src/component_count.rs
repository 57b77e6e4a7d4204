//! `adapter.components`: how many directions a basis has a side.

use std::num::NonZeroUsize;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::adapter_config::AdapterConfig;
use crate::methods::LayerSizes;

/// A basis of this training's own has no more coefficients, by default, than one in so many of the
/// parameters of LoRA at the same rank.
const SHARE_OF_LORA: usize = 10;

/// The rank of LoRA where none is given.
const RANK: usize = 8;

/// How many principal components of a basis are used: a number, or the word for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ComponentCount {
    /// So many, or all if there are fewer.
    Count(NonZeroUsize),
    /// All that there are.
    All(AllComponents),
}

/// The word `"all"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AllComponents {
    All,
}

impl ComponentCount {
    /// The number, if it is one.
    pub fn count(self) -> Option<usize> {
        match self {
            Self::Count(count) => Some(count.get()),
            Self::All(_) => None,
        }
    }
}

impl AdapterConfig {
    /// The most principal components of a basis for a module W `[d_out, d_in]`.
    ///
    /// Where nothing is said: all of a subspace that was extracted before; otherwise the most whose
    /// coefficients are a tenth of the parameters r · (d_out + d_in) of LoRA, one at least.
    pub(crate) fn most_components(&self, [d_out, d_in]: [usize; 2]) -> usize {
        match self.components {
            Some(count) => count.count().unwrap_or(usize::MAX),
            None if self.subspace.is_some() => usize::MAX,
            None => {
                let rank = self.rank.unwrap_or(RANK);
                let most = rank.saturating_mul(d_out + d_in) / SHARE_OF_LORA;
                let trained = self.method.definition().trained;
                let fits = |columns: &usize| {
                    let sizes = LayerSizes {
                        rank,
                        d_out,
                        d_in,
                        p: *columns,
                        q: *columns,
                        adapters: 0,
                        flattened: None,
                    };
                    trained(&sizes) <= most
                };
                let widest = d_out.min(d_in);
                (1..=widest).take_while(fits).last().unwrap_or(1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(keys: &str) -> AdapterConfig {
        toml::from_str(&format!("adapters = ['a']\n{keys}")).unwrap()
    }

    #[test]
    fn the_default_trains_at_most_a_tenth_of_what_lora_does() {
        let shape = [384, 384];
        let eigenmix = config("method = 'eigenmix'\nrank = 8");
        // 24² = 576 and 25² = 625 of 8 · 768 / 10 = 614.
        assert_eq!(eigenmix.most_components(shape), 24);
        // 8 · (38 + 38) = 608.
        let eigenlorax = config("method = 'eigenlorax'\nrank = 8");
        assert_eq!(eigenlorax.most_components(shape), 38);
        let narrow = config("method = 'eigenmix'\nrank = 1");
        assert_eq!(narrow.most_components([4, 4]), 1);
    }

    #[test]
    fn what_is_asked_for_counts_and_a_subspace_is_used_whole() {
        let shape = [64, 32];
        let asked = |keys: &str| {
            config(&format!("method = 'eigenmix'\nrank = 4\n{keys}")).most_components(shape)
        };
        assert_eq!(asked("components = 3"), 3);
        assert_eq!(asked("components = \"all\""), usize::MAX);
        let made: AdapterConfig =
            toml::from_str("method = 'eigenmix'\nrank = 4\nsubspace = 's'").unwrap();
        assert_eq!(made.most_components(shape), usize::MAX);
        let file = "method = 'eigenmix'\nrank = 4\ncomponents = 'some'";
        assert!(toml::from_str::<AdapterConfig>(file).is_err());
    }
}
