//! Metrics of language models: loss, perplexity, choices, continuations.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;

use eigenmix_data::metrics::{Metric, vqa_accuracy};
use eigenmix_data::{BatchPlan, ChoiceExample};
use eigenmix_models::Network;

use super::examples::LanguageExamples;
use crate::TrainerError;
use crate::generation::{GenerationEvent, GenerationOptions, Prompt, generate};
use crate::host_values::host_values;
use crate::sampling::Sampling;
use crate::tasks::{Evaluation, EvaluationOptions, Examples};

/// How many batches of prompts are one share of the work of several processes.
const BATCHES_OF_SHARE: usize = 8;

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
        true => judge_continuations(network, data, options)?,
        false => Judgement::none(),
    };
    let mut metrics = BTreeMap::new();
    for &metric in options.metrics {
        let value = match metric {
            Metric::Accuracy => choice_accuracy(network, data, options)?,
            Metric::ExactMatch => written.exact_match,
            Metric::VqaAccuracy => written.vqa_accuracy,
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
    let plan = BatchPlan::evaluation(&lengths, options.batch_size);
    let batches = plan.batches();
    let sums = options.processes.share_out(batches.len(), |number| {
        let examples = &batches[number];
        let (batch, objective) = data.batch(examples)?;
        let hidden = network.hidden_states(&batch, options.device);
        let targets = objective.targets.len();
        // The plain loss, whatever the training's was.
        let loss = network.next_token_loss(hidden, &objective.rows, &objective.targets, 0.0);
        (options.progress)(examples.len());
        let targets = targets as f64;
        Ok::<_, TrainerError>(vec![
            f64::from(loss.into_scalar::<f32>()) * targets,
            targets,
        ])
    })?;
    let total = |which: usize| sums.iter().map(|sums| sums[which]).sum::<f64>();
    Ok(total(0) / total(1))
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
    let plan = BatchPlan::evaluation(&lengths, options.batch_size);
    let batches = plan.batches();
    let found = options.processes.share_out(batches.len(), |number| {
        // Every row is a question.
        let sequences: Vec<(usize, Vec<u32>)> = batches[number]
            .iter()
            .map(|&place| (places[place].0, tokens(&places[place])))
            .collect();
        let (mut rows, mut targets) = (Vec::new(), Vec::new());
        let mut start = 0;
        for (&place, (_, sequence)) in batches[number].iter().zip(&sequences) {
            let (question, _) = places[place];
            let prompt = questions[question].prompt.len();
            for (position, &token) in sequence.iter().enumerate().skip(prompt) {
                rows.push((start + position - 1) as i32);
                targets.push(token as i32);
            }
            start += sequence.len();
        }
        let batch = data.inputs(&sequences)?;
        let hidden = network.hidden_states(&batch, options.device);
        let found = host_values(network.target_log_probabilities(hidden, &rows, &targets));
        Ok::<_, TrainerError>(found.into_iter().map(f64::from).collect())
    })?;
    for (batch, found) in batches.iter().zip(found) {
        let mut found = found.into_iter();
        for &place in batch {
            let (question, choice) = places[place];
            let own = questions[question].choices[choice].len();
            found
                .by_ref()
                .take(own)
                .for_each(|logarithm| scores[question][choice] += logarithm);
        }
    }
    let right = questions.iter().zip(&scores).filter(|(question, scores)| {
        let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        scores.iter().position(|&score| score == best) == Some(question.answer)
    });
    Ok(right.count() as f64 / questions.len() as f64)
}

/// What the continuations that a model writes are worth on average.
struct Judgement {
    exact_match: f64,
    vqa_accuracy: f64,
}

/// Writes the greedy continuation of each prompt and judges it; without a tokenizer there is no judgement.
///
/// # Errors
/// If an image can't be read, or what is written can't be decoded.
fn judge_continuations(
    network: &Network,
    data: &LanguageExamples,
    options: &EvaluationOptions,
) -> Result<Judgement, TrainerError> {
    let continuations = &data.continuations;
    let Some(tokenizer) = options.tokenizer else {
        return Ok(Judgement::none());
    };
    let prompt = |index: usize| -> Result<Prompt, TrainerError> {
        let one = &continuations[index];
        let text = [(one.row, one.prompt.as_slice())];
        let images = data.images.as_ref().map(|images| images.batch(text));
        Ok(Prompt {
            tokens: one.prompt.clone(),
            images: images.transpose()?.flatten(),
            // One token more than expected shows that a text continues where it should have ended.
            max_new_tokens: NonZeroUsize::MIN.saturating_add(one.expected_tokens),
        })
    };
    let lengths: Vec<usize> = continuations.iter().map(|one| one.prompt.len()).collect();
    // By length, so that those that are read together are of about the same. A process fills its batches up
    // within a share, whose texts do not depend on the number of processes. The images of a share are in
    // memory together.
    let plan = BatchPlan::evaluation(&lengths, options.batch_size);
    let share = if data.images.is_some() { 1 } else { BATCHES_OF_SHARE };
    let shares: Vec<&[Vec<usize>]> = plan.batches().chunks(share).collect();
    let judged = options.processes.share_out(shares.len(), |number| {
        let order = || shares[number].iter().flatten().copied();
        let prompts = order().map(prompt).collect::<Result<Vec<_>, TrainerError>>()?;
        let generation = GenerationOptions {
            sampling: Sampling::Greedy,
            stop: data.stop.clone(),
            batch_size: options.batch_size,
        };
        let mut go_on = |_: GenerationEvent| ControlFlow::Continue(());
        let (texts, _) = generate(network, &prompts, &generation, options.device, &mut go_on);
        let mut sums = vec![0.0, 0.0];
        for (index, text) in order().zip(texts) {
            let one = &continuations[index];
            let text = tokenizer.decode(&text, true)?;
            sums[0] += f64::from(u8::from(text.trim() == one.expected.trim()));
            sums[1] += vqa_accuracy(&text, &one.answers);
        }
        Ok::<_, TrainerError>(sums)
    })?;
    let mean = |which: usize| {
        let sum: f64 = judged.iter().map(|sums| sums[which]).sum();
        sum / continuations.len() as f64
    };
    Ok(Judgement {
        exact_match: mean(0),
        vqa_accuracy: mean(1),
    })
}

impl Judgement {
    fn none() -> Self {
        Self {
            exact_match: f64::NAN,
            vqa_accuracy: f64::NAN,
        }
    }
}
