//! Metrics of language models: loss, perplexity, choices, continuations.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use eigenmix_data::metrics::{Metric, vqa_accuracy};
use eigenmix_data::{BatchPlan, ChoiceExample};
use eigenmix_models::Network;

use super::examples::{Continuation, LanguageExamples};
use crate::TrainerError;
use crate::generation::{GenerationOptions, Prompt, generate};
use crate::host_values::host_values;
use crate::sampling::Sampling;
use crate::tasks::{Evaluation, EvaluationOptions, Examples};

/// Evaluates `network` on `data`.
///
/// # Errors
/// If the data lack what a metric needs, or generated tokens can't be decoded.
pub(super) fn evaluate(
    network: &Network,
    data: &LanguageExamples,
    options: &EvaluationOptions,
) -> Result<Evaluation, TrainerError> {
    data.require_measurable(options.metrics)?;
    let loss = mean_token_loss(network, data, options)?;
    // Both metrics of what a model writes are of the same texts.
    let writes = |metric: &Metric| matches!(metric, Metric::ExactMatch | Metric::VqaAccuracy);
    let written = match options.metrics.iter().any(writes) {
        true => continued(network, data, options)?,
        false => Vec::new(),
    };
    let mut metrics = BTreeMap::new();
    for &metric in options.metrics {
        let value = match metric {
            Metric::Accuracy => choice_accuracy(network, data, options)?,
            Metric::ExactMatch => mean(data, &written, |text, one| {
                f64::from(u8::from(text.trim() == one.expected.trim()))
            }),
            Metric::VqaAccuracy => {
                mean(data, &written, |text, one| vqa_accuracy(text, &one.answers))
            }
            // No other metric is defined for language models.
            _ => loss.exp(),
        };
        metrics.insert(metric.name().to_owned(), value);
    }
    Ok(Evaluation {
        loss,
        metrics,
        by_label: Vec::new(),
    })
}

/// The mean cross-entropy over all predicted tokens.
///
/// # Errors
/// If an image can't be read.
fn mean_token_loss(
    network: &Network,
    data: &LanguageExamples,
    options: &EvaluationOptions,
) -> Result<f64, TrainerError> {
    let lengths: Vec<usize> = data.examples.iter().map(|one| one.ids.len()).collect();
    let (mut sum, mut count) = (0.0, 0);
    for examples in BatchPlan::evaluation(&lengths, options.batch_size).batches() {
        let (batch, objective) = data.batch(examples)?;
        let hidden = network.hidden_states(&batch, options.device);
        let targets = objective.targets.len();
        // The plain loss, whatever the training's was.
        let loss = network.next_token_loss(hidden, &objective.rows, &objective.targets, 0.0);
        sum += f64::from(loss.into_scalar::<f32>()) * targets as f64;
        count += targets;
        (options.progress)(examples.len());
    }
    Ok(sum / count as f64)
}

/// The share of questions whose correct choice is the most likely one, by the sum of its tokens'
/// log-probabilities; the first if several are equal.
///
/// # Errors
/// If an image can't be read.
fn choice_accuracy(
    network: &Network,
    data: &LanguageExamples,
    options: &EvaluationOptions,
) -> Result<f64, TrainerError> {
    let questions: &[ChoiceExample] = &data.choices;
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
        // Every row is a question.
        let sequences: Vec<(usize, Vec<u32>)> = batch
            .iter()
            .map(|&place| (places[place].0, tokens(&places[place])))
            .collect();
        let (mut rows, mut targets, mut owners) = (Vec::new(), Vec::new(), Vec::new());
        let mut start = 0;
        for (&place, (_, sequence)) in batch.iter().zip(&sequences) {
            let (question, _) = places[place];
            let prompt = questions[question].prompt.len();
            for (position, &token) in sequence.iter().enumerate().skip(prompt) {
                rows.push((start + position - 1) as i32);
                targets.push(token as i32);
                owners.push(place);
            }
            start += sequence.len();
        }
        let batch = data.inputs(&sequences)?;
        let hidden = network.hidden_states(&batch, options.device);
        let found = host_values(network.target_log_probabilities(hidden, &rows, &targets));
        for (owner, logarithm) in owners.into_iter().zip(found) {
            let (question, choice) = places[owner];
            scores[question][choice] += f64::from(logarithm);
        }
    }
    let right = questions.iter().zip(&scores).filter(|(question, scores)| {
        let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        scores.iter().position(|&score| score == best) == Some(question.answer)
    });
    Ok(right.count() as f64 / questions.len() as f64)
}

/// The mean over the continuations of what each is worth.
///
/// - written: as [`continued`] gives them
fn mean(
    data: &LanguageExamples,
    written: &[String],
    worth: impl Fn(&str, &Continuation) -> f64,
) -> f64 {
    if written.is_empty() {
        return f64::NAN;
    }
    let pairs = written.iter().zip(&data.continuations);
    let sum: f64 = pairs.map(|(text, one)| worth(text, one)).sum();
    sum / written.len() as f64
}

/// The greedy continuation of each prompt; none without a tokenizer.
///
/// # Errors
/// If an image can't be read, or what is written can't be decoded.
fn continued(
    network: &Network,
    data: &LanguageExamples,
    options: &EvaluationOptions,
) -> Result<Vec<String>, TrainerError> {
    let continuations = &data.continuations;
    let Some(tokenizer) = options.tokenizer else {
        return Ok(Vec::new());
    };
    let lengths: Vec<usize> = continuations.iter().map(|one| one.prompt.len()).collect();
    let mut written = vec![String::new(); continuations.len()];
    for batch in BatchPlan::evaluation(&lengths, options.batch_size).batches() {
        let prompts: Vec<Prompt> = batch
            .iter()
            .map(|&index| {
                let one = &continuations[index];
                let text = [(one.row, one.prompt.as_slice())];
                let images = data.images.as_ref().map(|images| images.batch(text));
                Ok(Prompt {
                    tokens: one.prompt.clone(),
                    images: images.transpose()?.flatten(),
                    // One token more than expected shows that a text continues where it should have
                    // ended.
                    max_new_tokens: NonZeroUsize::MIN.saturating_add(one.expected_tokens),
                })
            })
            .collect::<Result<_, TrainerError>>()?;
        let generation = GenerationOptions {
            sampling: Sampling::Greedy,
            stop: data.stop.clone(),
            batch_size: NonZeroUsize::MIN.saturating_add(prompts.len()),
        };
        let (texts, _) = generate(network, &prompts, &generation, options.device, &mut |_| {});
        for (&index, text) in batch.iter().zip(texts) {
            written[index] = tokenizer.decode(&text, true)?;
        }
    }
    Ok(written)
}
