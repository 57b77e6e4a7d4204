//! Texts whose tokens are predicted, and their batches.

use burn::tensor::{Device, Tensor};
use eigenmix_data::metrics::{Metric, MetricError};
use eigenmix_data::{ChoiceExample, EpochAugmentation, LanguageExample};
use eigenmix_models::{Batch, Network, TokenBatch};

use super::evaluation::evaluate;
use super::example_images::ExampleImages;
use crate::TrainerError;
use crate::tasks::{Evaluation, EvaluationOptions, Examples, LabelledBatch, Objective};

/// Texts for a language model, with the choices and continuations to evaluate.
pub(super) struct LanguageExamples {
    pub examples: Vec<LanguageExample>,
    /// The row of each of them.
    pub rows: Vec<usize>,
    /// Those that stand in texts, if the model reads any.
    pub images: Option<ExampleImages>,
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
    /// The index of its row.
    pub row: usize,
    /// In tokens.
    pub prompt: Vec<u32>,
    pub expected: String,
    /// What people answered.
    pub answers: Vec<String>,
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

    fn have_images(&self) -> Vec<bool> {
        let has = |one: &LanguageExample| {
            let images = self.images.as_ref();
            images.is_some_and(|images| images.count(&one.ids) > 0)
        };
        self.examples.iter().map(has).collect()
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
            Metric::VqaAccuracy if self.images.is_none() => Some("questions about images"),
            Metric::ExactMatch | Metric::VqaAccuracy => {
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
                _ if self.images.is_some() => "language modelling of texts with images",
                (false, _) => "causal language modelling on multiple-choice data",
                (_, false) => "causal language modelling on prompts with completions",
                _ => "causal language modelling on texts",
            },
            possible: match self.images.is_some() {
                false => {
                    "`perplexity`, with multiple-choice data `accuracy`, with prompts and \
                     completions `exact-match`"
                }
                true => {
                    "`perplexity`, with multiple-choice data `accuracy`, with prompts and \
                     completions `exact-match` and `vqa-accuracy`"
                }
            },
        })
    }

    fn batch(
        &self,
        examples: &[usize],
        _showing: Option<EpochAugmentation>,
    ) -> Result<LabelledBatch, TrainerError> {
        let (batch, objective) = self.batch(examples)?;
        Ok(LabelledBatch {
            batch,
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
    /// A batch of texts that are not cached, with their images.
    ///
    /// - texts: each with its row
    ///
    /// # Errors
    /// If an image can't be read.
    pub(super) fn inputs(&self, texts: &[(usize, Vec<u32>)]) -> Result<Batch, TrainerError> {
        let sequences: Vec<Vec<u32>> = texts.iter().map(|(_, ids)| ids.clone()).collect();
        let of_rows = texts.iter().map(|(row, ids)| (*row, ids.as_slice()));
        let images = self.images.as_ref().map(|images| images.batch(of_rows));
        Ok(Batch {
            texts: Some(TokenBatch::continuing(&sequences, &vec![0; texts.len()])),
            images: images.transpose()?.flatten(),
        })
    }

    /// Token i of a text is predicted from the row of token i − 1.
    ///
    /// # Errors
    /// If an image can't be read.
    pub(super) fn batch(&self, examples: &[usize]) -> Result<(Batch, NextTokens), TrainerError> {
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
            sequences.push((self.rows[index], example.ids.clone()));
        }
        let batch = self.inputs(&sequences)?;
        let objective = NextTokens {
            rows,
            targets,
            label_smoothing: self.label_smoothing,
        };
        Ok((batch, objective))
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
            rows: vec![0, 1, 2],
            images: None,
            choices: vec![],
            continuations: vec![],
            stop: vec![],
            label_smoothing: 0.1,
        };
        let (batch, objective) = data.batch(&[2, 0]).expect("a batch without images");
        let tokens = batch.texts.expect("texts");
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
            rows: vec![],
            images: None,
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
            row: 0,
            answers: vec![],
            prompt: vec![3],
            expected: "w".to_owned(),
            expected_tokens: 1,
        });
        assert!(data.require_measurable(&metrics).is_ok());
        assert!(data.require_measurable(&[Metric::Accuracy]).is_err());
        assert!(data.require_measurable(&[Metric::F1]).is_err());
    }
}
