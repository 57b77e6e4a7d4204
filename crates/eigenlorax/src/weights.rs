//! How much each adapter counts in a basis.

use std::str::FromStr;

use eigenmix_adapter::LoraModule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::EigenloraxError;
use crate::low_rank::LowRank;
use crate::options::Factors;

/// How much each adapter counts in a basis, module by module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(into = "Form", from = "Form")]
pub enum Weights {
    /// All the same: every update is scaled to norm 1 first, so that a loud adapter does not drown the
    /// others.
    Equal,
    /// Each by the norm of its own update.
    Norms,
    /// By these numbers, in the order of the adapters: every update is scaled to norms in this proportion
    /// first.
    Given(Vec<f64>),
}

impl FromStr for Weights {
    type Err = String;

    /// A word, or numbers with commas between them.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "equal" => Ok(Self::Equal),
            "norms" => Ok(Self::Norms),
            numbers => {
                let numbers = numbers.split(',').map(|number| number.trim().parse());
                numbers.collect::<Result<_, _>>().map(Self::Given).map_err(|_| {
                    format!("`{text}` is neither `equal`, `norms` nor numbers with commas between them")
                })
            }
        }
    }
}

/// How weights are written.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Form {
    Word(Word),
    Numbers(Vec<f64>),
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Word {
    Equal,
    Norms,
}

impl From<Form> for Weights {
    fn from(form: Form) -> Self {
        match form {
            Form::Word(Word::Equal) => Self::Equal,
            Form::Word(Word::Norms) => Self::Norms,
            Form::Numbers(numbers) => Self::Given(numbers),
        }
    }
}

impl From<Weights> for Form {
    fn from(weights: Weights) -> Self {
        match weights {
            Weights::Equal => Self::Word(Word::Equal),
            Weights::Norms => Self::Word(Word::Norms),
            Weights::Given(numbers) => Self::Numbers(numbers),
        }
    }
}

impl Weights {
    /// Those of subspaces that do not say it: before release 0.1 had weights.
    pub(crate) fn unsaid() -> Option<Self> {
        Some(Self::Norms)
    }

    /// What is usual for factors of this form: equal weights of balanced ones, and the norms of factors as
    /// they are stored, which is the paper's PCA.
    pub fn usual(factors: Factors) -> Self {
        match factors {
            Factors::Balanced => Self::Equal,
            Factors::Raw => Self::Norms,
        }
    }

    /// Whether they are the empty list, with which a file takes back what it gives elsewhere.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Given(weights) if weights.is_empty())
    }

    /// Refuses weights that are not one for each adapter, or no weights at all.
    ///
    /// # Errors
    /// [`EigenloraxError::Weights`].
    pub fn check(&self, adapters: usize) -> Result<(), EigenloraxError> {
        let Self::Given(weights) = self else {
            return Ok(());
        };
        let is_one = |weight: &f64| weight.is_finite() && *weight >= 0.0;
        let problem = match weights.iter().find(|weight| !is_one(weight)) {
            Some(weight) => format!("{weight} is no weight"),
            None if weights.len() != adapters => format!("there are {}", weights.len()),
            None if weights.iter().all(|weight| *weight == 0.0) => "all are 0".to_owned(),
            None => return Ok(()),
        };
        Err(EigenloraxError::Weights { adapters, problem })
    }

    /// Those of some of the adapters.
    pub fn of(&self, adapters: &[usize]) -> Self {
        match self {
            Self::Given(weights) => {
                let own = adapters.iter();
                Self::Given(own.filter_map(|&one| weights.get(one).copied()).collect())
            }
            same => same.clone(),
        }
    }

    /// With as much for each of some further adapters as for the heaviest.
    pub(crate) fn extended(&self, adapters: usize) -> Self {
        match self {
            Self::Given(weights) => {
                let heaviest = weights.iter().copied().fold(0.0, f64::max);
                let further = std::iter::repeat_n(heaviest, adapters);
                Self::Given(weights.iter().copied().chain(further).collect())
            }
            same => same.clone(),
        }
    }

    /// The update of an adapter, counting as its weight says.
    ///
    /// - adapter: its place among the adapters
    pub(crate) fn weighted(&self, adapter: usize, module: &LoraModule) -> LowRank {
        let mut update = LowRank::of(module);
        let weight = match self {
            Self::Norms => return update,
            Self::Equal => 1.0,
            Self::Given(weights) => {
                // Only the proportions of weights shape a basis, and these are numbers of at most 1.
                let largest = weights.iter().copied().fold(0.0, f64::max);
                weights.get(adapter).copied().unwrap_or(largest) / largest
            }
        };
        let norm = update.norm();
        if norm > 0.0 {
            // Shared out, so that factors that are stacked as they are stored are weighted on both sides.
            let scale = faer::Scale((weight / norm).sqrt());
            update.left *= scale;
            update.right *= scale;
        }
        update
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_written_as_a_word_or_as_numbers() {
        for (weights, written) in [
            (Weights::Equal, "\"equal\""),
            (Weights::Norms, "\"norms\""),
            (Weights::Given(vec![1.0, 0.5]), "[1.0,0.5]"),
        ] {
            assert_eq!(serde_json::to_string(&weights).unwrap(), written);
            let read: Weights = serde_json::from_str(written).unwrap();
            assert_eq!(read, weights);
        }
        assert!(serde_json::from_str::<Weights>("\"even\"").is_err());
        assert_eq!("norms".parse(), Ok(Weights::Norms));
        assert_eq!("1, 0.5".parse(), Ok(Weights::Given(vec![1.0, 0.5])));
        let refused = "even".parse::<Weights>().unwrap_err();
        assert!(refused.contains("`equal`"), "{refused}");
    }
}
