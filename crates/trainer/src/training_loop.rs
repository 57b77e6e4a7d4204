//! The training loop: steps, evaluations, checkpoints.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use eigenmix_data::{BatchPlan, EpochAugmentation, Split};
use eigenmix_models::{Network, Recomputation};
use eigenmix_moslora::{ParameterNames, ParameterValues};

use crate::TrainerError;
use crate::checkpoint::{Best, CheckpointState, Progress, save};
use crate::config::Keep;
use crate::evaluation::{EvaluationOptions, evaluate};
use crate::examples::Part;
use crate::metrics_log::{EvaluationRecord, MetricsLog, StepRecord};
use crate::optimizer::{AdamW, NamedGradients, accumulate, clip, named_gradients};
use crate::outcome::{Observer, RunOptions};
use crate::schedule::Scheduler;
use crate::training::Training;

/// The running state of a training.
pub(crate) struct Loop<'a> {
    pub(crate) training: &'a Training,
    pub(crate) options: &'a RunOptions<'a>,
    pub(crate) output: &'a Path,
    pub(crate) model: Network,
    pub(crate) names: ParameterNames,
    pub(crate) optimizer: AdamW,
    pub(crate) progress: Progress,
    pub(crate) best: Option<ParameterValues>,
    pub(crate) log: MetricsLog,
    pub(crate) device: Device,
    pub(crate) total_steps: usize,
    pub(crate) started: Instant,
    pub(crate) speed: Speed,
    pub(crate) last_loss: Option<f64>,
    pub(crate) last_validation: Option<BTreeMap<String, f64>>,
}

impl Loop<'_> {
    /// Continues where a checkpoint was written.
    pub(crate) fn restore(&mut self, state: CheckpointState) -> Result<(), TrainerError> {
        self.model = self
            .names
            .with_values(self.model.clone(), &state.parameters)?;
        let device = self.device.clone().inner();
        self.optimizer
            .restore(&state.optimizer, state.progress.step, &device)?;
        self.progress = state.progress;
        self.best = state.best;
        Ok(())
    }

    /// Runs to the end; returns whether it got there.
    pub(crate) fn run(&mut self, observer: &mut dyn Observer) -> Result<bool, TrainerError> {
        let config = &self.training.config.training;
        let lengths = self.training.train.lengths();
        while self.progress.epoch < config.epochs && !self.is_over() {
            let plan = BatchPlan::training(
                &lengths,
                config.batch_size,
                config.batching,
                self.training.config.seed,
                self.progress.epoch,
            );
            let groups: Vec<&[Vec<usize>]> = plan
                .batches()
                .chunks(config.gradient_accumulation.get())
                .collect();
            while self.progress.batch < groups.len() && !self.is_over() {
                self.step(groups[self.progress.batch], groups.len(), observer)?;
                let due = config
                    .save_every
                    .is_some_and(|every| self.progress.step % every == 0);
                if self.options.stop.load(Ordering::Relaxed) {
                    self.save()?;
                    return Ok(false);
                }
                if due && self.progress.batch < groups.len() {
                    self.save()?;
                }
            }
            // `max_steps` may end the training inside an epoch.
            if self.progress.batch == groups.len() {
                self.progress.epoch += 1;
                self.progress.batch = 0;
            }
            self.end_epoch(observer)?;
        }
        Ok(true)
    }

    pub(crate) fn examples_per_second(&self) -> Option<f64> {
        let Progress {
            examples,
            step_seconds,
            ..
        } = self.progress;
        (step_seconds > 0.0).then(|| examples as f64 / step_seconds)
    }

    fn is_over(&self) -> bool {
        let patience = self.training.config.training.early_stopping;
        self.progress.step >= self.total_steps
            || patience.is_some_and(|patience| self.progress.without_improvement >= patience.get())
    }

    /// One optimizer step over a group of batches.
    fn step(
        &mut self,
        group: &[Vec<usize>],
        groups: usize,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainerError> {
        let started = Instant::now();
        let config = &self.training.config;
        let augmented = EpochAugmentation {
            augmentation: config.data.augmentation(),
            seed: config.seed,
            epoch: self.progress.epoch,
        };
        let parts = group
            .iter()
            .map(|indices| self.training.train.part(indices, Some(augmented)))
            .collect::<Result<Vec<Part>, TrainerError>>()?;
        let targets: usize = parts.iter().map(|part| part.objective.targets()).sum();
        let mut gradients = NamedGradients::new();
        let mut step_loss = 0.0;
        for (number, part) in parts.iter().enumerate() {
            // The group's loss is the mean over all its targets, however they fall into batches.
            let weight = part.objective.targets() as f64 / targets as f64;
            step_loss += weight * self.backward(part, number, weight, &mut gradients);
            self.speed.count(part.batch.examples(), part.batch.tokens());
            self.progress.examples += part.batch.examples();
        }
        if !step_loss.is_finite() {
            let (step, loss) = (self.progress.step + 1, step_loss as f32);
            return Err(TrainerError::Diverged { step, loss });
        }
        clip(&mut gradients, 1.0, config.training.gradient_clip);
        let scale = self.schedule()?;
        let base = config.training.learning_rate;
        let head = config.training.head_learning_rate.unwrap_or(base);
        let is_factor = |name: &str| name.contains('/');
        self.model = self
            .optimizer
            .step(self.model.clone(), &self.names, gradients, |name| {
                scale * if is_factor(name) { base } else { head }
            });
        self.progress.step += 1;
        self.progress.batch += 1;
        self.progress.loss_sum += step_loss;
        self.progress.loss_count += 1;
        self.progress.step_seconds += started.elapsed().as_secs_f64();
        observer.advanced(self.progress.step);
        let step = self.progress.step;
        if step == 1 || step % config.training.log_every == 0 || step == self.total_steps {
            self.log_step(groups, scale * base, observer)?;
        }
        Ok(())
    }

    /// The mean loss of a batch; its gradients, times `weight`, are added to `gradients`.
    ///
    /// - number: which batch of the step it is
    fn backward(
        &self,
        part: &Part,
        number: usize,
        weight: f64,
        gradients: &mut NamedGradients,
    ) -> f64 {
        let Part { batch, objective } = part;
        let (model, device) = (&self.model, &self.device);
        let before = |layer: Option<usize>| self.seed_dropout(number, layer);
        let mut collect = |mut found| {
            accumulate(gradients, named_gradients(model, &self.names, &mut found));
        };
        let loss = if self.training.config.training.gradient_checkpointing {
            let recomputation = Recomputation { before: &before };
            let weighted = |hidden| objective.loss(model, hidden, device) * weight;
            model.backward_by_layers(batch, device, &recomputation, weighted, collect)
        } else {
            before(None);
            let hidden = model.trunk(batch, device);
            let loss = objective.loss(model, hidden, device) * weight;
            collect(loss.backward());
            loss
        };
        f64::from(loss.into_scalar::<f32>()) / weight
    }

    /// A seed a step makes a resumed training drop what an uninterrupted one drops.
    fn seed_dropout(&self, batch: usize, layer: Option<usize>) {
        let config = &self.training.config;
        if config.base.dropout > 0.0 || config.adapter.dropout > 0.0 {
            let part = (batch as u64) << 16 | layer.map_or(0, |layer| layer as u64 + 1);
            let step = (self.progress.step as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.device
                .seed(config.seed ^ step ^ part.wrapping_mul(0xd1b5_4a32_d192_ed03));
        }
    }

    /// What the learning rates are multiplied by at the present step.
    fn schedule(&self) -> Result<f64, TrainerError> {
        let config = &self.training.config;
        let warmup = config.warmup()?.steps(self.total_steps);
        let scheduler = config.training.scheduler;
        let scale = scheduler.learning_rate(self.progress.step, self.total_steps, 1.0, warmup);
        Ok(match scheduler {
            Scheduler::ReduceOnPlateau => scale * self.progress.plateau.factor,
            _ => scale,
        })
    }

    fn log_step(
        &mut self,
        groups: usize,
        learning_rate: f64,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainerError> {
        let loss = self.progress.loss_sum / self.progress.loss_count as f64;
        let (examples_per_second, tokens_per_second) = self.speed.rates();
        let record = StepRecord {
            step: self.progress.step,
            epoch: self.progress.epoch as f64 + self.progress.batch as f64 / groups as f64,
            loss,
            learning_rate,
            examples_per_second,
            tokens_per_second,
        };
        self.log.step(&record)?;
        observer.logged(&record);
        self.last_loss = Some(loss);
        self.progress.loss_sum = 0.0;
        self.progress.loss_count = 0;
        self.speed = Speed::new();
        Ok(())
    }

    /// Evaluates if it is due, updates what depends on it, and writes a checkpoint.
    fn end_epoch(&mut self, observer: &mut dyn Observer) -> Result<(), TrainerError> {
        let config = &self.training.config.training;
        let last = self.progress.step >= self.total_steps;
        let due = match config.evaluate_every {
            0 => last,
            every => last || self.progress.epoch.is_multiple_of(every),
        };
        if due && let Some(figures) = self.evaluate(Split::Validation, observer)? {
            let metric = self.training.metrics[0];
            let figure = figures.get(metric.name()).copied().unwrap_or(f64::NAN);
            let better =
                self.progress
                    .best
                    .as_ref()
                    .is_none_or(|best| match metric.higher_is_better() {
                        true => figure > best.figure,
                        false => figure < best.figure,
                    });
            if better {
                self.progress.best = Some(Best {
                    step: self.progress.step,
                    figure,
                });
                self.progress.without_improvement = 0;
                if config.keep == Keep::Best {
                    self.best = Some(self.names.values_of(&self.model));
                }
            } else {
                self.progress.without_improvement += 1;
            }
            self.progress
                .plateau
                .update(figure, metric.higher_is_better(), &config.plateau);
            self.last_validation = Some(figures);
        }
        self.save()
    }

    pub(crate) fn evaluate(
        &mut self,
        split: Split,
        observer: &mut dyn Observer,
    ) -> Result<Option<BTreeMap<String, f64>>, TrainerError> {
        let training = self.training;
        let examples = match split {
            Split::Train => Some(&training.train),
            Split::Validation => training.validation.as_ref(),
            Split::Test => training.test.as_ref(),
        };
        let Some(examples) = examples else {
            return Ok(None);
        };
        let started = Instant::now();
        let options = EvaluationOptions {
            metrics: &training.metrics,
            batch_size: training.config.training.evaluation_batch_size,
            device: &self.device.clone().inner(),
            tokenizer: training.tokenizer.as_ref(),
            progress: &|_| {},
        };
        let evaluation = evaluate(&self.model.valid(), examples, &options)?;
        let record = EvaluationRecord {
            step: self.progress.step,
            epoch: self.progress.epoch as f64,
            split,
            loss: evaluation.loss,
            metrics: evaluation.figures.clone(),
            examples_per_second: examples.len() as f64 / started.elapsed().as_secs_f64(),
        };
        self.log.evaluation(&record)?;
        observer.evaluated(&record);
        self.speed = Speed::new();
        Ok(Some(evaluation.figures))
    }

    fn save(&mut self) -> Result<(), TrainerError> {
        self.progress.metrics_bytes = self.log.bytes()?;
        let progress = Progress {
            seconds: self.progress.seconds + self.started.elapsed().as_secs_f64(),
            ..self.progress.clone()
        };
        save(
            self.output,
            &CheckpointState {
                progress,
                parameters: self.names.values_of(&self.model),
                optimizer: self.optimizer.state(),
                best: self.best.clone(),
            },
        )?;
        Ok(())
    }
}

/// Examples and tokens since the last logged line.
pub(crate) struct Speed {
    since: Instant,
    examples: usize,
    tokens: usize,
}

impl Speed {
    pub(crate) fn new() -> Self {
        Self {
            since: Instant::now(),
            examples: 0,
            tokens: 0,
        }
    }

    fn count(&mut self, examples: usize, tokens: usize) {
        self.examples += examples;
        self.tokens += tokens;
    }

    fn rates(&self) -> (f64, f64) {
        let seconds = self.since.elapsed().as_secs_f64();
        (self.examples as f64 / seconds, self.tokens as f64 / seconds)
    }
}
