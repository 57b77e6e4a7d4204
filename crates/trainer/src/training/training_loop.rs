//! The training loop: steps, evaluations, checkpoints.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use eigenmix_adapter::Source;
use eigenmix_data::{EpochAugmentation, Split};
use eigenmix_models::{Loaded, Network};
use eigenmix_moslora::{ParameterKind, ParameterNames, TrainedValues};

use super::backward_pass::BackwardPass;
use super::optimizer::{AdamW, NamedGradients, clip};
use super::speed::Speed;
use super::training_data::TrainingData;
use crate::TrainerError;
use crate::checkpoint::{CheckpointState, TrainingProgress, save};
use crate::config::{Keep, TrainConfig};
use crate::metrics_log::{EvaluationRecord, MetricsLog, StepRecord};
use crate::outcome::{Observer, RunOptions};
use crate::schedule::Scheduler;
use crate::tasks::{EvaluationOptions, LabelledBatch};

/// The running state of a training.
pub(crate) struct Loop<'a> {
    config: &'a TrainConfig,
    data: &'a TrainingData,
    options: &'a RunOptions<'a>,
    output: &'a Path,
    model: Network,
    /// What evaluations are of instead, where the result is not the model as it was trained.
    result: Option<Network>,
    names: ParameterNames,
    optimizer: AdamW,
    progress: TrainingProgress,
    best: Option<TrainedValues>,
    log: MetricsLog,
    device: Device,
    total_steps: usize,
    started: Instant,
    speed: Speed,
}

/// The result of a loop that reached its end.
pub(crate) struct Finished {
    /// The trained values that are kept.
    pub values: TrainedValues,
    /// The metrics of the state that is kept.
    pub validation: Option<BTreeMap<String, f64>>,
    pub test: Option<BTreeMap<String, f64>>,
}

impl<'a> Loop<'a> {
    /// A loop over `data`, at its start or where `checkpoint` was written.
    ///
    /// - output: the directory of the run
    /// - loaded: the model, with autodiff
    ///
    /// # Errors
    /// If the checkpoint belongs to another model.
    pub fn new(
        config: &'a TrainConfig,
        data: &'a TrainingData,
        options: &'a RunOptions<'a>,
        output: &'a Path,
        loaded: Loaded,
        log: MetricsLog,
        checkpoint: Option<CheckpointState>,
    ) -> Result<Self, TrainerError> {
        let mut state = Self {
            config,
            data,
            options,
            output,
            model: loaded.model,
            result: None,
            names: loaded.names,
            optimizer: AdamW::new(&config.training),
            progress: TrainingProgress::default(),
            best: None,
            log,
            device: options.device.clone().autodiff(),
            total_steps: data.length.steps(),
            started: Instant::now(),
            speed: Speed::new(),
        };
        if let Some(checkpoint) = checkpoint {
            state.restore(checkpoint)?;
        }
        Ok(state)
    }

    /// Continues where a checkpoint was written.
    fn restore(&mut self, state: CheckpointState) -> Result<(), TrainerError> {
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

    /// Keeps in checkpoints which adapter the training started from, with which scalings, and what its
    /// basis is made of.
    pub fn began_with(
        &mut self,
        adapter: Option<Source>,
        scalings: BTreeMap<String, f32>,
        basis: Vec<Source>,
    ) {
        let progress = &mut self.progress;
        (progress.started_from, progress.scalings, progress.basis) = (adapter, scalings, basis);
    }

    /// The names of the trained parameters.
    pub fn names(&self) -> &ParameterNames {
        &self.names
    }

    /// How many parameters are trained, head included.
    pub fn trained_parameters(&self) -> usize {
        let values = self.names.values_of(&self.model);
        values.values().map(|value| value.values.len()).sum()
    }

    /// How many steps the training takes if it is not stopped.
    pub fn total_steps(&self) -> usize {
        self.total_steps
    }

    /// How many steps were taken.
    pub fn steps(&self) -> usize {
        self.progress.step
    }

    /// How many seconds it took so far.
    pub fn seconds(&self) -> f64 {
        self.progress.seconds + self.started.elapsed().as_secs_f64()
    }

    /// The last training loss that was logged.
    pub fn last_loss(&self) -> Option<f64> {
        self.progress.last_loss
    }

    /// The metrics of the last evaluation on the validation split.
    pub fn last_validation(&self) -> Option<&BTreeMap<String, f64>> {
        self.progress.last_validation.as_ref()
    }

    /// The trained values of the state to keep.
    pub fn kept_values(&self) -> TrainedValues {
        match &self.best {
            Some(best) if self.config.training.keep == Keep::Best => best.clone(),
            _ => self.names.values_of(&self.model),
        }
    }

    /// Evaluates another model from now on, which is what becomes of the trained one.
    ///
    /// - result: on the same device, with autodiff
    pub fn evaluate_with(&mut self, result: Network) {
        self.result = Some(result);
    }

    /// Takes the state to keep and evaluates it.
    ///
    /// # Errors
    /// If an evaluation fails or can't be logged.
    pub fn finish(&mut self, observer: &mut dyn Observer) -> Result<Finished, TrainerError> {
        let keep_best = self.config.training.keep == Keep::Best;
        let values = self.kept_values();
        let validation = match (keep_best, &self.progress.last_validation) {
            (true, _) => {
                self.model = self.names.with_values(self.model.clone(), &values)?;
                self.evaluate(Split::Validation, observer)?
            }
            (false, Some(metrics)) if self.result.is_none() => Some(metrics.clone()),
            // Of another model, or resumed from a checkpoint of an earlier release, after its last step.
            (false, _) => self.evaluate(Split::Validation, observer)?,
        };
        let test = self.evaluate(Split::Test, observer)?;
        Ok(Finished {
            values,
            validation,
            test,
        })
    }

    /// Runs to the end; returns whether it got there.
    pub fn run(&mut self, observer: &mut dyn Observer) -> Result<bool, TrainerError> {
        let config = &self.config.training;
        let data = self.data;
        // A training that was stopped right after its last step has the end of that epoch to come.
        while self.progress.epoch < config.epochs && (!self.is_over() || self.is_unjudged()) {
            let plan = data.batches.plan(self.progress.epoch);
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

    /// Training examples per second, evaluations excluded.
    pub fn examples_per_second(&self) -> Option<f64> {
        let TrainingProgress {
            examples,
            step_seconds,
            ..
        } = self.progress;
        (step_seconds > 0.0).then(|| examples as f64 / step_seconds)
    }

    fn is_over(&self) -> bool {
        let patience = self.config.training.early_stopping;
        self.progress.step >= self.total_steps
            || patience.is_some_and(|patience| self.progress.without_improvement >= patience.get())
    }

    /// Whether steps were taken since the last epoch end, where evaluations belong.
    fn is_unjudged(&self) -> bool {
        self.progress.batch > 0 && self.progress.ended_at != Some(self.progress.step)
    }

    /// One optimizer step over a group of batches.
    fn step(
        &mut self,
        group: &[Vec<usize>],
        groups: usize,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainerError> {
        let started = Instant::now();
        let config = &self.config;
        let augmented = EpochAugmentation {
            augmentation: config.data.augmentation(),
            seed: config.seed,
            epoch: self.progress.epoch,
        };
        let batches = group
            .iter()
            .map(|indices| self.data.train.batch(indices, Some(augmented)))
            .collect::<Result<Vec<LabelledBatch>, TrainerError>>()?;
        let targets: f64 = batches.iter().map(|batch| batch.objective.weight()).sum();
        let pass = BackwardPass {
            config: self.config,
            model: &self.model,
            names: &self.names,
            device: &self.device,
            step: self.progress.step,
        };
        let mut gradients = NamedGradients::new();
        let mut step_loss = 0.0;
        for (number, batch) in batches.iter().enumerate() {
            // The group's loss is the mean over all its targets, however they fall into batches.
            let weight = batch.objective.weight() / targets;
            step_loss += weight * pass.run(batch, number, weight, &mut gradients);
            self.speed
                .count(batch.batch.examples(), batch.batch.tokens());
            self.progress.examples += batch.batch.examples();
        }
        if !step_loss.is_finite() {
            let (step, loss) = (self.progress.step + 1, step_loss as f32);
            return Err(TrainerError::Diverged { step, loss });
        }
        clip(&mut gradients, 1.0, config.training.gradient_clip);
        let scale = self.schedule()?;
        let base = config.training.learning_rate;
        let head = config.training.head_learning_rate.unwrap_or(base);
        let names = &self.names;
        let rate = |name: &str| match names.kind(name) {
            Some(ParameterKind::Factor) => scale * base,
            Some(ParameterKind::Tensor) | None => scale * head,
        };
        self.model = self
            .optimizer
            .step(self.model.clone(), names, gradients, rate);
        self.progress.step += 1;
        self.progress.batch += 1;
        self.progress.loss_sum += step_loss;
        self.progress.loss_count += 1;
        self.progress.step_seconds += started.elapsed().as_secs_f64();
        observer.stepped(self.progress.step);
        let step = self.progress.step;
        if step == 1 || step % config.training.log_every == 0 || step == self.total_steps {
            self.log_step(groups, scale * base, observer)?;
        }
        Ok(())
    }

    /// The factor on the learning rates at the current step.
    fn schedule(&self) -> Result<f64, TrainerError> {
        let config = &self.config;
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
        self.progress.last_loss = Some(loss);
        self.progress.loss_sum = 0.0;
        self.progress.loss_count = 0;
        self.speed = Speed::new();
        Ok(())
    }

    /// Evaluates if an evaluation is due, updates the best state and the schedule, and writes a
    /// checkpoint.
    fn end_epoch(&mut self, observer: &mut dyn Observer) -> Result<(), TrainerError> {
        let config = &self.config.training;
        let last = self.progress.step >= self.total_steps;
        let due = match config.evaluate_every {
            0 => last,
            every => last || self.progress.epoch.is_multiple_of(every),
        };
        if due && let Some(metrics) = self.evaluate(Split::Validation, observer)? {
            let metric = self.data.metrics[0];
            let value = metrics.get(metric.name()).copied().unwrap_or(f64::NAN);
            let higher_is_better = metric.higher_is_better();
            let plateau = &config.plateau;
            if self.progress.judge(value, higher_is_better, plateau) && config.keep == Keep::Best {
                self.best = Some(self.names.values_of(&self.model));
            }
            self.progress.last_validation = Some(metrics);
        }
        self.progress.ended_at = Some(self.progress.step);
        self.save()
    }

    fn evaluate(
        &mut self,
        split: Split,
        observer: &mut dyn Observer,
    ) -> Result<Option<BTreeMap<String, f64>>, TrainerError> {
        let Some(examples) = self.data.split(split) else {
            return Ok(None);
        };
        let started = Instant::now();
        let options = EvaluationOptions {
            metrics: &self.data.metrics,
            batch_size: self.config.training.evaluation_batch_size,
            device: &self.device.clone().inner(),
            tokenizer: self.data.tokenizer.as_ref(),
            progress: &|_| {},
        };
        let model = self.result.as_ref().unwrap_or(&self.model).valid();
        let evaluation = examples.evaluate(&model, &options)?;
        let record = EvaluationRecord {
            step: self.progress.step,
            epoch: self.progress.epoch as f64,
            split,
            loss: evaluation.loss,
            metrics: evaluation.metrics.clone(),
            examples_per_second: examples.len() as f64 / started.elapsed().as_secs_f64(),
        };
        self.log.evaluation(&record)?;
        observer.evaluated(&record);
        self.speed = Speed::new();
        Ok(Some(evaluation.metrics))
    }

    fn save(&mut self) -> Result<(), TrainerError> {
        self.progress.metrics_bytes = self.log.bytes()?;
        let progress = TrainingProgress {
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
