//! The examples of any task, and the batches that are made of them.

use eigenmix_data::metrics::{Metric, MetricError};
use eigenmix_data::{ChoiceExample, EncodedTargets, EpochAugmentation, LanguageExample};
use eigenmix_models::{Batch, TokenBatch};

use crate::TrainerError;
use crate::inputs::Inputs;
use crate::objective::Objective;

/// A split as the model takes it.
pub enum Examples {
    /// Texts or images, each with its class or number.
    Labelled {
        inputs: Inputs,
        targets: EncodedTargets,
    },
    /// Texts of which tokens are predicted.
    Language(LanguageData),
}

/// Texts for a language model, and what else can be measured on them.
pub struct LanguageData {
    pub examples: Vec<LanguageExample>,
    /// Questions with several continuations, where the data are multiple-choice.
    pub choices: Vec<ChoiceExample>,
    /// Prompts with the text that is to come, where the data have such.
    pub continuations: Vec<Continuation>,
}

/// A prompt and the text that should follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continuation {
    /// In tokens.
    pub prompt: Vec<u32>,
    pub expected: String,
    /// How many tokens that is.
    pub expected_tokens: usize,
}

/// A batch and what it is trained towards.
pub(crate) struct Part {
    pub batch: Batch,
    pub objective: Objective,
}

impl Examples {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Labelled { inputs, .. } => inputs.len(),
            Self::Language(data) => data.examples.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How long each is, in tokens; an image counts as one.
    pub(crate) fn lengths(&self) -> Vec<usize> {
        match self {
            Self::Labelled { inputs, .. } => inputs.lengths(),
            Self::Language(data) => data.examples.iter().map(|one| one.ids.len()).collect(),
        }
    }

    /// How many were cut to fit.
    pub(crate) fn truncated(&self) -> usize {
        match self {
            Self::Labelled { inputs, .. } => inputs.truncated(),
            Self::Language(data) => data.examples.iter().filter(|one| one.truncated).count(),
        }
    }

    /// What is measured unless a configuration says otherwise; the first decides which state of a
    /// training is the best.
    pub fn default_metrics(&self) -> Vec<Metric> {
        match self {
            Self::Labelled { targets, .. } => match targets {
                EncodedTargets::Classes(_) => vec![Metric::Accuracy],
                EncodedTargets::Values(_) => vec![Metric::Pearson, Metric::Spearman],
            },
            Self::Language(data) => match data.choices.is_empty() {
                true => vec![Metric::Perplexity],
                false => vec![Metric::Accuracy, Metric::Perplexity],
            },
        }
    }

    /// Examples as one batch with its objective.
    ///
    /// - augmented: how training varies images; `None` for evaluations
    ///
    /// # Errors
    /// If an image can't be read.
    pub(crate) fn part(
        &self,
        examples: &[usize],
        augmented: Option<EpochAugmentation>,
    ) -> Result<Part, TrainerError> {
        match self {
            Self::Labelled { inputs, targets } => Ok(Part {
                batch: inputs.batch(examples, augmented)?,
                objective: match targets {
                    EncodedTargets::Classes(classes) => Objective::Classes(
                        examples
                            .iter()
                            .map(|&index| classes[index] as i32)
                            .collect(),
                    ),
                    EncodedTargets::Values(values) => Objective::Values(
                        examples.iter().map(|&index| values[index] as f32).collect(),
                    ),
                },
            }),
            Self::Language(data) => Ok(data.part(examples)),
        }
    }
}

impl LanguageData {
    /// Checks that the data have what the metrics are measured on, before anything is computed.
    ///
    /// # Errors
    /// If they do not, naming the metric.
    pub(crate) fn require_measurable(&self, metrics: &[Metric]) -> Result<(), MetricError> {
        let wanted = |metric: &Metric| match metric {
            Metric::Perplexity => None,
            Metric::Accuracy => self.choices.is_empty().then_some("multiple-choice data"),
            Metric::ExactMatch => {
                let is_missing = self.continuations.is_empty();
                is_missing.then_some("prompts with completions")
            }
            _ => Some("labels"),
        };
        let missing = metrics
            .iter()
            .find_map(|metric| Some((*metric, wanted(metric)?)));
        let Some((metric, wanted)) = missing else {
            return Ok(());
        };
        Err(MetricError::WrongTask {
            metric,
            wanted,
            found: match (self.choices.is_empty(), self.continuations.is_empty()) {
                (false, _) => "causal language modelling on multiple-choice data",
                (_, false) => "causal language modelling on prompts with completions",
                _ => "causal language modelling on texts",
            },
            possible: "`perplexity`, with multiple-choice data `accuracy`, with prompts and \
                       completions `exact-match`",
        })
    }

    /// Token i of a text is predicted from the row of token i − 1.
    pub(crate) fn part(&self, examples: &[usize]) -> Part {
        let (mut rows, mut targets) = (Vec::new(), Vec::new());
        let mut sequences = Vec::with_capacity(examples.len());
        let mut start = 0;
        for &index in examples {
            let example = &self.examples[index];
            for (place, &id) in example.ids.iter().enumerate() {
                if example.trained[place] {
                    rows.push((start + place - 1) as i32);
                    targets.push(id as i32);
                }
            }
            start += example.ids.len();
            sequences.push(example.ids.clone());
        }
        let before = vec![0; sequences.len()];
        Part {
            batch: Batch::Tokens(TokenBatch::continuing(&sequences, &before)),
            objective: Objective::Tokens { rows, targets },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_predicted_from_the_one_before_it_in_its_own_text() {
        let example = |ids: &[u32], trained: &[bool]| LanguageExample {
            ids: ids.to_vec(),
            trained: trained.to_vec(),
            truncated: false,
        };
        let data = LanguageData {
            examples: vec![
                example(&[5, 6, 7], &[false, false, true]),
                example(&[1], &[false]),
                example(&[8, 9, 10], &[false, true, true]),
            ],
            choices: vec![],
            continuations: vec![],
        };
        let part = data.part(&[2, 0]);
        assert_eq!(
            part.objective,
            Objective::Tokens {
                rows: vec![0, 1, 4],
                targets: vec![9, 10, 7],
            }
        );
        let Batch::Tokens(tokens) = part.batch else {
            panic!("texts are tokens");
        };
        assert_eq!(tokens.ids(), [8, 9, 10, 5, 6, 7]);
    }

    #[test]
    fn a_metric_that_the_data_have_nothing_for_is_refused() {
        let mut data = LanguageData {
            examples: vec![],
            choices: vec![],
            continuations: vec![],
        };
        assert!(data.require_measurable(&[Metric::Perplexity]).is_ok());
        let metrics = [Metric::Perplexity, Metric::ExactMatch];
        let error = data.require_measurable(&metrics).unwrap_err().to_string();
        let expected = "metric `exact-match` is for prompts with completions, and this is causal \
                        language modelling on texts; choose one of `perplexity`";
        assert!(error.starts_with(expected), "{error}");
        data.continuations.push(Continuation {
            prompt: vec![3],
            expected: "w".to_owned(),
            expected_tokens: 1,
        });
        assert!(data.require_measurable(&metrics).is_ok());
        assert!(data.require_measurable(&[Metric::Accuracy]).is_err());
        assert!(data.require_measurable(&[Metric::F1]).is_err());
    }
}
