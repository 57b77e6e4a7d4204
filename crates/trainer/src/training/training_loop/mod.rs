//! The training loop: steps, evaluations, checkpoints.

mod epoch_end;
mod pending_losses;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use eigenmix_adapter::Source;
use eigenmix_data::{EpochAugmentation, Split};
use eigenmix_kernels::computes_later;
use eigenmix_models::Network;
use eigenmix_moslora::{ParameterKind, ParameterNames, TrainedValues};

use pending_losses::PendingLosses;

use super::backward_pass::BackwardPass;
use super::gradient_sum::{GradientLayout, GradientSum, StepGradients, all_weights};
use super::micro_batches::division;
use super::optimizer::AdamW;
use super::shared_steps::SharedSteps;
use super::shows::Shows;
use super::speed::Speed;
use super::trained_model::{Minibatch, TrainedModel};
use super::training_data::TrainingData;
use crate::TrainerError;
use crate::checkpoint::{CheckpointState, TrainingProgress};
use crate::config::{Keep, TrainConfig};
use crate::metrics_log::{MetricsLog, StepRecord};
use crate::outcome::{Observer, RunOptions};
use crate::schedule::Scheduler;

/// The running state of a training.
pub(crate) struct Loop<'a, M: TrainedModel = Network> {
    config: &'a TrainConfig,
    data: &'a TrainingData<M>,
    options: &'a RunOptions<'a>,
    output: &'a Path,
    model: M,
    /// What evaluations are of instead, where the result is not the model as it was trained.
    result: Option<M>,
    names: ParameterNames,
    optimizer: AdamW,
    progress: TrainingProgress,
    best: Option<TrainedValues>,
    log: MetricsLog,
    device: Device,
    total_steps: usize,
    started: Instant,
    speed: Speed,
    /// Of several processes.
    layout: GradientLayout,
    /// Into how many micro-batches each batch is divided.
    parts: usize,
    /// What is shown of the model on the way.
    shown: Option<&'a dyn Shows<M>>,
    /// The process that was asked to stop, of several.
    stopped: Option<usize>,
    shared: Option<SharedSteps>,
    /// Of the steps since the last log, on a device that computes while batches are prepared.
    pending: PendingLosses,
}

/// The result of a loop that reached its end.
pub(crate) struct Finished {
    /// The trained values that are kept.
    pub values: TrainedValues,
    /// The metrics of the state that is kept.
    pub validation: Option<BTreeMap<String, f64>>,
    pub test: Option<BTreeMap<String, f64>>,
}

impl<'a, M: TrainedModel> Loop<'a, M> {
    /// A loop over `data`, at its start or where `checkpoint` was written.
    ///
    /// - output: the directory of the run
    /// - model: with autodiff, and the names of what is trained in it
    ///
    /// # Errors
    /// If the checkpoint belongs to another model.
    pub fn new(
        config: &'a TrainConfig,
        data: &'a TrainingData<M>,
        options: &'a RunOptions<'a>,
        output: &'a Path,
        (model, names): (M, ParameterNames),
        log: MetricsLog,
        checkpoint: Option<CheckpointState>,
    ) -> Result<Self, TrainerError> {
        let training = &config.training;
        let processes = options.processes;
        let parts = division(
            training.micro_batches,
            training.gradient_accumulation,
            processes.size(),
        );
        let mut state = Self {
            layout: match processes.is_alone() {
                true => GradientLayout::default(),
                false => GradientLayout::new(&names.values_of(&model)),
            },
            parts,
            shown: None,
            stopped: None,
            shared: SharedSteps::of(processes, parts),
            pending: PendingLosses::default(),
            config,
            data,
            options,
            output,
            model,
            result: None,
            names,
            optimizer: AdamW::new(training),
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

    /// Shows the model on the way, before the first step and whenever it is due.
    pub fn show(&mut self, shown: &'a dyn Shows<M>) {
        self.shown = Some(shown);
    }

    /// Shows the model if that is due after the steps that were taken, or the training is over.
    fn show_if_due(&mut self) -> Result<(), TrainerError> {
        let step = self.progress.step;
        let is_over = self.is_over();
        let shown = self.shown.filter(|shown| is_over || shown.is_due(step));
        let Some(shown) = shown else {
            return Ok(());
        };
        let images = shown.show(&self.model, step)?;
        self.speed = Speed::new();
        self.log.images(step, &images)
    }

    /// The names of the trained parameters.
    pub fn names(&self) -> &ParameterNames {
        &self.names
    }

    /// The values of the trained parameters as they are.
    pub fn values(&self) -> TrainedValues {
        self.names.values_of(&self.model)
    }

    /// How many parameters are trained, head included.
    pub fn trained_parameters(&self) -> usize {
        let values = self.values();
        values.values().map(|value| value.values.len()).sum()
    }

    /// What the processes told each other in the steps, if there are several.
    pub fn shared(&self) -> Option<&SharedSteps> {
        self.shared.as_ref()
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
    pub fn evaluate_with(&mut self, result: M) {
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
        self.show_if_due()?;
        // A training that was stopped right after its last step has the end of that epoch to come.
        while self.progress.epoch < config.epochs && (!self.is_over() || self.is_unjudged()) {
            let plan = data.batches.plan(self.progress.epoch);
            let groups: Vec<&[Vec<usize>]> = plan
                .batches()
                .chunks(config.gradient_accumulation.get())
                .collect();
            while self.progress.batch < groups.len() && !self.is_over() {
                self.step(groups[self.progress.batch], groups.len(), observer)?;
                self.show_if_due()?;
                let due = config
                    .save_every
                    .is_some_and(|every| self.progress.step % every == 0);
                if self.is_stopped(observer) {
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
        // Evaluations may have ended it.
        self.show_if_due()?;
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

    /// Whether to stop after this step. Several processes agree on it in the exchange of the step's gradients.
    fn is_stopped(&self, observer: &mut dyn Observer) -> bool {
        let processes = self.options.processes;
        if processes.is_alone() {
            return self.options.stop.load(Ordering::Relaxed);
        }
        if let Some(rank) = self.stopped.filter(|rank| *rank > 0) {
            let host = processes.host(rank);
            observer.note(&format!("process {rank} on `{host}` was asked to stop"));
        }
        self.stopped.is_some()
    }

    /// One optimizer step over a group of batches.
    fn step(
        &mut self,
        group: &[Vec<usize>],
        groups: usize,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainerError> {
        let started = Instant::now();
        let processes = self.options.processes;
        let traffic = processes.traffic();
        let config = &self.config;
        let augmented = EpochAugmentation {
            augmentation: config.data.augmentation(),
            seed: config.seed,
            epoch: self.progress.epoch,
        };
        let micro_batches = self.data.batches.micro_batches(group, self.parts);
        let own = processes.part(micro_batches.len());
        let batches = micro_batches[own.clone()]
            .iter()
            .map(|indices| self.data.train.batch(indices, Some(augmented)))
            .collect::<Result<Vec<M::Batch>, TrainerError>>()?;
        let weights = all_weights(processes, &batches)?;
        let targets: f64 = weights.iter().sum();
        let pass = BackwardPass {
            config: self.config,
            model: &self.model,
            names: &self.names,
            device: &self.device,
            step: self.progress.step,
        };
        let device = self.device.clone().inner();
        let mut sum = GradientSum::new(processes, &self.layout, &device);
        let reads_later = processes.is_alone() && computes_later(&device);
        let mut unread: Option<Tensor<1>> = None;
        for (number, batch) in own.zip(&batches) {
            // The group's loss is the mean over all its targets, however they fall into batches.
            let weight = batch.weight() / targets;
            let (loss, gradients) = match reads_later {
                false => pass.run(batch, number, weight),
                true => {
                    let (loss, gradients) = pass.unread(batch, number, weight);
                    unread = Some(match unread {
                        Some(sum) => sum + loss,
                        None => loss,
                    });
                    (0.0, gradients)
                }
            };
            sum.add(weight * loss, batch, gradients);
        }
        let counts = (0..processes.size()).map(|rank| processes.part_of(rank, micro_batches.len()));
        let counts: Vec<usize> = counts.map(|part| part.len()).collect();
        let StepGradients {
            totals,
            gradients,
            stopped,
        } = sum.finish(self.options.stop.load(Ordering::Relaxed), &counts)?;
        let step_loss = totals.loss;
        self.stopped = stopped;
        self.speed.count(totals.examples, totals.tokens);
        self.progress.examples += totals.examples;
        if !step_loss.is_finite() {
            let (step, loss) = (self.progress.step + 1, step_loss as f32);
            return Err(TrainerError::Diverged { step, loss });
        }
        let scale = self.schedule()?;
        let base = config.training.learning_rate;
        let head = config.training.head_learning_rate.unwrap_or(base);
        let names = &self.names;
        let rate = |name: &str| match names.kind(name) {
            Some(ParameterKind::Factor) => scale * base,
            Some(ParameterKind::Tensor) | None => scale * head,
        };
        let limit = config.training.gradient_clip;
        self.model = self
            .optimizer
            .clipped_step(self.model.clone(), names, gradients, limit, rate);
        self.progress.step += 1;
        self.progress.batch += 1;
        match unread {
            Some(loss) => self.pending.add(loss),
            None => {
                self.progress.loss_sum += step_loss;
                self.progress.loss_count += 1;
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        self.progress.step_seconds += seconds;
        if let Some(shared) = &mut self.shared {
            shared.add(processes.traffic().since(traffic), seconds);
        }
        observer.stepped(self.progress.step);
        let step = self.progress.step;
        if step == 1 || step % config.training.log_every == 0 || step == self.total_steps {
            self.read_losses()?;
            self.log_step(groups, scale * base, observer)?;
        }
        Ok(())
    }

    /// Waits for a device that computes on its own, and reads the losses of its latest steps.
    ///
    /// # Errors
    /// If one of them is not finite.
    fn read_losses(&mut self) -> Result<(), TrainerError> {
        let started = Instant::now();
        let losses = self.pending.read(self.progress.step)?;
        if !losses.is_empty() {
            self.progress.step_seconds += started.elapsed().as_secs_f64();
        }
        self.progress.loss_count += losses.len();
        self.progress.loss_sum += losses.into_iter().sum::<f64>();
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
}
