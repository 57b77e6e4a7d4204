//! Measuring a model on a split.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use burn::tensor::Device;
use eigenmix_data::metrics::Metric;
use eigenmix_data::{BatchPlan, ChoiceExample, EncodedTargets, Targets, TextTokenizer};
use eigenmix_models::{Architecture, Batch, Network, Task, TokenBatch};

use crate::classifier::{all_logits, figures};
use crate::config::TaskKind;
use crate::examples::{Continuation, Examples, LanguageData};
use crate::generation::{GenerationOptions, Prompt, Sampling, generate};
use crate::loaded_model::{LoadedModel, host};
use crate::loss::host_loss;
use crate::{BaseModel, TrainerError};

/// How a model did on a split.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The mean loss: over the examples, or over the predicted tokens of a language model.
    pub loss: f64,
    /// The metrics by name.
    pub figures: BTreeMap<String, f64>,
}

/// How an evaluation is run.
pub(crate) struct EvaluationOptions<'a> {
    pub metrics: &'a [Metric],
    pub batch_size: NonZeroUsize,
    pub device: &'a Device,
    /// To read what a language model writes.
    pub tokenizer: Option<&'a TextTokenizer>,
    /// Hears of examples that are done.
    pub progress: &'a dyn Fn(usize),
}

impl LoadedModel {
    /// What kind of task it is for.
    pub fn task_kind(&self, base: &BaseModel) -> TaskKind {
        match (self.task, &base.architecture) {
            (Task::LanguageModel, _) => TaskKind::CausalLm,
            (_, Architecture::Vision(_)) => TaskKind::ImageClassification,
            _ => TaskKind::SequenceClassification,
        }
    }

    /// What the labels of data are for it; a language model has none.
    ///
    /// # Errors
    /// If it has several outputs and nobody says what they stand for, or gives no labels at all.
    pub fn targets(&self) -> Result<Option<Targets>, TrainerError> {
        match (&self.labels, self.task) {
            (_, Task::LanguageModel) => Ok(None),
            (Some(labels), _) => Ok(Some(Targets::Classes(labels.clone()))),
            (None, Task::Classification { labels: 1 }) => Ok(Some(Targets::Regression)),
            (None, _) => Err(TrainerError::NoHead),
        }
    }

    /// Measures it on examples.
    ///
    /// - tokenizer: to read what a language model writes
    /// - progress: hears how many examples more are done
    ///
    /// # Errors
    /// If a metric does not go with the task, or an image can't be read.
    pub fn evaluate(
        &self,
        examples: &Examples,
        metrics: &[Metric],
        batch_size: NonZeroUsize,
        tokenizer: Option<&TextTokenizer>,
        progress: &dyn Fn(usize),
    ) -> Result<Evaluation, TrainerError> {
        let options = EvaluationOptions {
            metrics,
            batch_size,
            device: &self.device,
            tokenizer,
            progress,
        };
        evaluate(&self.network, examples, &options)
    }
}

/// Measures `network` on `examples`.
///
/// # Errors
/// If a metric does not go with the task, or an image can't be read.
pub(crate) fn evaluate(
    network: &Network,
    examples: &Examples,
    options: &EvaluationOptions,
) -> Result<Evaluation, TrainerError> {
    match examples {
        Examples::Labelled { inputs, targets } => {
            let outputs = match targets {
                EncodedTargets::Classes(_) => None,
                EncodedTargets::Values(_) => Some(1),
            };
            let logits = all_logits(
                network,
                inputs,
                options.batch_size,
                options.device,
                options.progress,
            )?;
            let outputs = outputs.unwrap_or(logits.len() / inputs.len().max(1));
            Ok(Evaluation {
                loss: host_loss(&logits, outputs, targets),
                figures: figures(options.metrics, &logits, outputs, targets)?,
            })
        }
        Examples::Language(data) => language(network, data, options),
    }
}

fn language(
    network: &Network,
    data: &LanguageData,
    options: &EvaluationOptions,
) -> Result<Evaluation, TrainerError> {
    data.require_measurable(options.metrics)?;
    let loss = mean_token_loss(network, data, options);
    let mut figures = BTreeMap::new();
    for &metric in options.metrics {
        let figure = match metric {
            Metric::Accuracy => choice_accuracy(network, &data.choices, options),
            Metric::ExactMatch => exact_match(network, &data.continuations, options)?,
            // Nothing else is measurable.
            _ => loss.exp(),
        };
        figures.insert(metric.name().to_owned(), figure);
    }
    Ok(Evaluation { loss, figures })
}

/// The mean cross-entropy over all predicted tokens.
fn mean_token_loss(network: &Network, data: &LanguageData, options: &EvaluationOptions) -> f64 {
    let lengths: Vec<usize> = data.examples.iter().map(|one| one.ids.len()).collect();
    let (mut sum, mut count) = (0.0, 0);
    for examples in BatchPlan::evaluation(&lengths, options.batch_size).batches() {
        let part = data.part(examples);
        let hidden = network.trunk(&part.batch, options.device);
        let targets = part.objective.targets();
        let loss = part.objective.loss(network, hidden, options.device);
        sum += f64::from(loss.into_scalar::<f32>()) * targets as f64;
        count += targets;
        (options.progress)(examples.len());
    }
    sum / count as f64
}

/// The part of the questions whose right choice is the most likely one, by the sum of its tokens'
/// log-probabilities; the first of several.
fn choice_accuracy(
    network: &Network,
    questions: &[ChoiceExample],
    options: &EvaluationOptions,
) -> f64 {
    let places: Vec<(usize, usize)> = questions
        .iter()
        .enumerate()
        .flat_map(|(question, example)| {
            (0..example.choices.len()).map(move |choice| (question, choice))
        })
        .collect();
    let tokens = |&(question, choice): &(usize, usize)| {
        let example = &questions[question];
        [&example.prompt[..], &example.choices[choice][..]].concat()
    };
    let lengths: Vec<usize> = places.iter().map(|place| tokens(place).len()).collect();
    let mut scores: Vec<Vec<f64>> = questions
        .iter()
        .map(|question| vec![0.0; question.choices.len()])
        .collect();
    for batch in BatchPlan::evaluation(&lengths, options.batch_size).batches() {
        let sequences: Vec<Vec<u32>> = batch.iter().map(|&place| tokens(&places[place])).collect();
        let (mut rows, mut targets, mut owners) = (Vec::new(), Vec::new(), Vec::new());
        let mut start = 0;
        for (&place, sequence) in batch.iter().zip(&sequences) {
            let (question, _) = places[place];
            let prompt = questions[question].prompt.len();
            for (position, &token) in sequence.iter().enumerate().skip(prompt) {
                rows.push((start + position - 1) as i32);
                targets.push(token as i32);
                owners.push(place);
            }
            start += sequence.len();
        }
        let before = vec![0; sequences.len()];
        let batch = Batch::Tokens(TokenBatch::continuing(&sequences, &before));
        let hidden = network.trunk(&batch, options.device);
        let found = host(network.target_log_probabilities(hidden, &rows, &targets));
        for (owner, logarithm) in owners.into_iter().zip(found) {
            let (question, choice) = places[owner];
            scores[question][choice] += f64::from(logarithm);
        }
    }
    let right = questions.iter().zip(&scores).filter(|(question, scores)| {
        let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        scores.iter().position(|&score| score == best) == Some(question.answer)
    });
    right.count() as f64 / questions.len() as f64
}

/// The part of the prompts that the model continues, greedily, with exactly the expected text, blanks
/// around it aside.
fn exact_match(
    network: &Network,
    continuations: &[Continuation],
    options: &EvaluationOptions,
) -> Result<f64, TrainerError> {
    let Some(tokenizer) = options.tokenizer else {
        return Ok(f64::NAN);
    };
    let lengths: Vec<usize> = continuations.iter().map(|one| one.prompt.len()).collect();
    let mut right = 0;
    for batch in BatchPlan::evaluation(&lengths, options.batch_size).batches() {
        let prompts: Vec<Prompt> = batch
            .iter()
            .map(|&index| Prompt {
                tokens: continuations[index].prompt.clone(),
                // One token more than expected shows that a text goes on where it should have ended.
                max_new_tokens: NonZeroUsize::MIN
                    .saturating_add(continuations[index].expected_tokens),
            })
            .collect();
        let generation = GenerationOptions {
            sampling: Sampling::Greedy,
            stop: tokenizer.stop_ids().to_vec(),
        };
        let texts = generate(
            network,
            &prompts,
            &generation,
            options.device,
            &mut |_, _| {},
        );
        for (&index, text) in batch.iter().zip(texts) {
            let text = tokenizer.decode(&text, true)?;
            right += usize::from(text.trim() == continuations[index].expected.trim());
        }
    }
    Ok(right as f64 / continuations.len() as f64)
}
