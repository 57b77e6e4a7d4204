//! Texts whose tokens are predicted, and their batches.

use burn::tensor::{Device, Tensor};
use eigenmix_data::metrics::{Metric, MetricError};
use eigenmix_data::{ChoiceExample, EpochAugmentation, LanguageExample};
use eigenmix_models::{Network, TokenBatch};

use super::evaluation::evaluate;
use crate::TrainerError;
use crate::tasks::{Evaluation, EvaluationOptions, Examples, LabelledBatch, Objective};

/// Texts for a language model, with the choices and continuations to evaluate.
pub(super) struct LanguageExamples {
    pub examples: Vec<LanguageExample>,
    /// Questions with several continuations, if the data are multiple-choice.
    pub choices: Vec<ChoiceExample>,
    /// Prompts with the expected continuation, if the data have them.
    pub continuations: Vec<Continuation>,
    /// The tokens that end a continuation.
    pub stop: Vec<u32>,
    /// The share of each training target that is spread over the vocabulary.
    pub label_smoothing: f64,
}

/// A prompt and its expected continuation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Continuation {
    /// In tokens.
    pub prompt: Vec<u32>,
    pub expected: String,
    /// How many tokens that is.
    pub expected_tokens: usize,
}

/// A target token for each of some rows of a batch: cross-entropy.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NextTokens {
    pub rows: Vec<i32>,
    pub targets: Vec<i32>,
    pub label_smoothing: f64,
}

impl Objective for NextTokens {
    fn weight(&self) -> f64 {
        self.targets.len() as f64
    }

    fn loss(&self, network: &Network, hidden: Tensor<2>, _device: &Device) -> Tensor<1> {
        let smoothing = self.label_smoothing as f32;
        network.next_token_loss(hidden, &self.rows, &self.targets, smoothing)
    }
}

impl Examples for LanguageExamples {
    fn len(&self) -> usize {
        self.examples.len()
    }

    fn lengths(&self) -> Vec<usize> {
        self.examples.iter().map(|one| one.ids.len()).collect()
    }

    fn truncated(&self) -> usize {
        self.examples.iter().filter(|one| one.truncated).count()
    }

    fn default_metrics(&self) -> Vec<Metric> {
        match self.choices.is_empty() {
            true => vec![Metric::Perplexity],
            false => vec![Metric::Accuracy, Metric::Perplexity],
        }
    }

    fn require_measurable(&self, metrics: &[Metric]) -> Result<(), MetricError> {
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

    fn batch(
        &self,
        examples: &[usize],
        _showing: Option<EpochAugmentation>,
    ) -> Result<LabelledBatch, TrainerError> {
        let (batch, objective) = self.batch(examples);
        Ok(LabelledBatch {
            batch: batch.into(),
            objective: Box::new(objective),
        })
    }

    fn evaluate(
        &self,
        network: &Network,
        options: &EvaluationOptions,
    ) -> Result<Evaluation, TrainerError> {
        evaluate(network, self, options)
    }
}

impl LanguageExamples {
    /// Token i of a text is predicted from the row of token i − 1.
    pub(super) fn batch(&self, examples: &[usize]) -> (TokenBatch, NextTokens) {
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
        let batch = TokenBatch::continuing(&sequences, &before);
        let objective = NextTokens {
            rows,
            targets,
            label_smoothing: self.label_smoothing,
        };
        (batch, objective)
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
        let data = LanguageExamples {
            examples: vec![
                example(&[5, 6, 7], &[false, false, true]),
                example(&[1], &[false]),
                example(&[8, 9, 10], &[false, true, true]),
            ],
            choices: vec![],
            continuations: vec![],
            stop: vec![],
            label_smoothing: 0.1,
        };
        let (tokens, objective) = data.batch(&[2, 0]);
        assert_eq!(
            objective,
            NextTokens {
                rows: vec![0, 1, 4],
                targets: vec![9, 10, 7],
                label_smoothing: 0.1,
            }
        );
        assert_eq!(tokens.ids(), [8, 9, 10, 5, 6, 7]);
    }

    #[test]
    fn a_metric_that_the_data_have_nothing_for_is_refused() {
        let mut data = LanguageExamples {
            examples: vec![],
            choices: vec![],
            continuations: vec![],
            stop: vec![],
            label_smoothing: 0.0,
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
