//! How much a training counts the examples of each label.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::error::quoted;
use crate::labels::LabelMap;
use crate::target::{EncodedTargets, Targets};

/// `task.class_weights`: a word, or a weight for each label by its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ClassWeights {
    Rule(WeightRule),
    Named(BTreeMap<String, f64>),
}

/// How weights follow from the training examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WeightRule {
    /// Rare labels count more, so that all weigh the same in the sum.
    Balanced,
}

/// Why there are no weights.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ClassWeightError {
    #[error(
        "task.class_weights are for labels, and task.target = \"number\" has none; leave them out"
    )]
    NoLabels,

    #[error(
        "task.class_weights names {unknown}, which the training data do not have; their labels are {known}"
    )]
    Unknown { unknown: String, known: String },

    #[error("task.class_weights has no weight for {missing}; give every label one")]
    Missing { missing: String },

    #[error(
        "task.class_weights = \"balanced\": the label `{label}` is on none of the {examples} training \
         examples; draw more of them, or give the weights by name"
    )]
    Absent { label: String, examples: usize },

    #[error(
        "task.class_weights = \"balanced\": the label `{label}` is on all of the {examples} training \
         examples; give the weights by name, or leave the label out"
    )]
    Everywhere { label: String, examples: usize },
}

impl ClassWeights {
    /// A label whose weight is not a number above 0, and the weight.
    pub fn invalid(&self) -> Option<(&str, f64)> {
        let Self::Named(weights) = self else {
            return None;
        };
        let mut weights = weights.iter();
        weights
            .find(|(_, weight)| !(weight.is_finite() && **weight > 0.0))
            .map(|(name, weight)| (name.as_str(), *weight))
    }

    /// The weight of each output.
    ///
    /// Balanced, of n examples of which n_c have the label c of k:
    ///
    /// - for classes n / (k · n_c), as scikit-learn's `compute_class_weight("balanced", …)`,
    /// - for several labels a row (n − n_c) / n_c, with which positives and negatives of a label weigh
    ///   the same, as PyTorch's documentation of `BCEWithLogitsLoss(pos_weight)` proposes.
    ///
    /// # Errors
    /// When a label has no weight, a weight no label, or a balanced one is not a number above 0.
    pub fn resolve(
        &self,
        targets: &Targets,
        examples: &EncodedTargets,
    ) -> Result<Vec<f64>, ClassWeightError> {
        let (Targets::Classes(labels) | Targets::Labels { labels, .. }) = targets else {
            return Err(ClassWeightError::NoLabels);
        };
        match self {
            Self::Named(weights) => by_name(weights, labels),
            Self::Rule(WeightRule::Balanced) => balanced(labels, examples),
        }
    }
}

fn by_name(
    weights: &BTreeMap<String, f64>,
    labels: &LabelMap,
) -> Result<Vec<f64>, ClassWeightError> {
    let names = labels.names();
    let known = |name: &str| names.iter().any(|known| known == name.trim());
    let unknown: Vec<&String> = weights.keys().filter(|name| !known(name)).collect();
    if !unknown.is_empty() {
        return Err(ClassWeightError::Unknown {
            unknown: quoted(&unknown),
            known: quoted(names),
        });
    }
    let weight = |name: &String| {
        let mut weights = weights.iter();
        weights
            .find(|(key, _)| key.trim() == name)
            .map(|(_, weight)| *weight)
    };
    let missing: Vec<&String> = names.iter().filter(|name| weight(name).is_none()).collect();
    match missing.is_empty() {
        true => Ok(names.iter().filter_map(weight).collect()),
        false => Err(ClassWeightError::Missing {
            missing: quoted(&missing),
        }),
    }
}

fn balanced(labels: &LabelMap, targets: &EncodedTargets) -> Result<Vec<f64>, ClassWeightError> {
    let names = labels.names();
    let mut counts = vec![0_usize; names.len()];
    let examples = match targets {
        EncodedTargets::Classes(classes) => {
            classes.iter().for_each(|class| counts[*class] += 1);
            classes.len()
        }
        EncodedTargets::Labels { outputs, .. } => {
            outputs
                .iter()
                .flatten()
                .for_each(|label| counts[*label] += 1);
            outputs.len()
        }
        EncodedTargets::Values(_) => return Err(ClassWeightError::NoLabels),
    };
    let total = examples as f64;
    let weight = |(count, name): (&usize, &String)| {
        let label = || name.clone();
        match (targets, *count) {
            (_, 0) => Err(ClassWeightError::Absent {
                label: label(),
                examples,
            }),
            (EncodedTargets::Labels { .. }, count) if count == examples => {
                Err(ClassWeightError::Everywhere {
                    label: label(),
                    examples,
                })
            }
            (EncodedTargets::Labels { .. }, count) => Ok((total - count as f64) / count as f64),
            (_, count) => Ok(total / (names.len() as f64 * count as f64)),
        }
    };
    counts.iter().zip(names).map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threshold::Threshold;

    fn labels() -> LabelMap {
        LabelMap::from_names(["ham", "spam", "tofu"].map(str::to_owned).into()).unwrap()
    }

    fn classes() -> (Targets, EncodedTargets) {
        let examples = EncodedTargets::Classes(vec![0, 0, 0, 1, 0, 2, 0, 1]);
        (Targets::Classes(labels()), examples)
    }

    fn lists(outputs: &[&[usize]]) -> (Targets, EncodedTargets) {
        let threshold = Threshold::default();
        let outputs = outputs.iter().map(|labels| labels.to_vec()).collect();
        (
            Targets::Labels {
                labels: labels(),
                threshold,
            },
            EncodedTargets::Labels { outputs, threshold },
        )
    }

    const BALANCED: ClassWeights = ClassWeights::Rule(WeightRule::Balanced);

    fn named(weights: &[(&str, f64)]) -> ClassWeights {
        let weights = weights.iter();
        ClassWeights::Named(
            weights
                .map(|(name, weight)| ((*name).to_owned(), *weight))
                .collect(),
        )
    }

    #[test]
    fn balanced_weights_are_those_of_scikit_learn() {
        // scikit-learn 1.9.1: compute_class_weight("balanced", classes=np.arange(3),
        // y=[0, 0, 0, 1, 0, 2, 0, 1])
        let (targets, examples) = classes();
        let found = BALANCED.resolve(&targets, &examples).unwrap();
        assert_eq!(
            found,
            [0.5333333333333333, 1.3333333333333333, 2.6666666666666665]
        );
    }

    #[test]
    fn balanced_weights_of_lists_are_negatives_by_positives() {
        let (targets, examples) = lists(&[&[0], &[0, 1], &[], &[0, 2], &[1]]);
        let found = BALANCED.resolve(&targets, &examples).unwrap();
        assert_eq!(found, [2.0 / 3.0, 1.5, 4.0]);
    }

    #[test]
    fn weights_go_by_the_names_of_labels() {
        let (targets, examples) = classes();
        let weights = named(&[("tofu ", 3.0), ("ham", 0.5), ("spam", 1.0)]);
        let found = weights.resolve(&targets, &examples).unwrap();
        assert_eq!(found, [0.5, 1.0, 3.0]);
    }

    #[test]
    fn labels_without_a_weight_and_weights_without_a_label_are_named() {
        let (targets, examples) = classes();
        let error = |weights: &[(&str, f64)]| {
            named(weights)
                .resolve(&targets, &examples)
                .unwrap_err()
                .to_string()
        };
        let message = error(&[("ham", 1.0), ("span", 2.0), ("tofu", 1.0)]);
        assert!(message.contains("names `span`") && message.contains("`ham`, `spam`, `tofu`"));
        let message = error(&[("ham", 1.0)]);
        assert!(
            message.contains("no weight for `spam`, `tofu`"),
            "{message}"
        );
        let values = BALANCED.resolve(&Targets::Regression, &EncodedTargets::Values(vec![1.0]));
        assert_eq!(values, Err(ClassWeightError::NoLabels));
    }

    #[test]
    fn nothing_is_balanced_without_examples_of_every_label() {
        let (targets, _) = classes();
        let error = BALANCED.resolve(&targets, &EncodedTargets::Classes(vec![0, 2]));
        let message = error.unwrap_err().to_string();
        assert!(message.contains("`spam` is on none of the 2"), "{message}");
        let (targets, examples) = lists(&[&[0, 1], &[1, 2]]);
        let message = BALANCED
            .resolve(&targets, &examples)
            .unwrap_err()
            .to_string();
        assert!(message.contains("`spam` is on all of the 2"), "{message}");
    }

    #[test]
    fn weights_are_written_as_a_word_or_a_table() {
        #[derive(Deserialize)]
        struct File {
            class_weights: ClassWeights,
        }
        let read = |text: &str| toml::from_str::<File>(text).map(|file| file.class_weights);
        assert_eq!(read("class_weights = \"balanced\"").unwrap(), BALANCED);
        let table = read("class_weights = { ham = 1, spam = 2.5 }").unwrap();
        assert_eq!(table, named(&[("ham", 1.0), ("spam", 2.5)]));
        assert_eq!(table.invalid(), None);
        assert!(read("class_weights = \"equal\"").is_err());
        let zero = named(&[("ham", 1.0), ("spam", 0.0)]);
        assert_eq!(zero.invalid(), Some(("spam", 0.0)));
    }
}
