//! The end of an epoch: an evaluation if one is due, and a checkpoint.

use std::collections::BTreeMap;
use std::time::Instant;

use eigenmix_data::Split;

use super::super::same_inputs::digest_of_values;
use super::super::trained_model::TrainedModel;
use super::Loop;
use super::Speed;
use crate::TrainerError;
use crate::checkpoint::{CheckpointState, TrainingProgress, save};
use crate::checkpoint_bytes::first_state;
use crate::config::Keep;
use crate::metrics_log::EvaluationRecord;
use crate::outcome::Observer;
use crate::tasks::EvaluationOptions;

impl<M: TrainedModel> Loop<'_, M> {
    /// Evaluates if an evaluation is due, updates the best state and the schedule, and writes a
    /// checkpoint.
    pub(super) fn end_epoch(&mut self, observer: &mut dyn Observer) -> Result<(), TrainerError> {
        self.read_losses()?;
        self.align(observer)?;
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

    pub(super) fn evaluate(
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
            processes: self.options.processes,
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

    /// Writes a checkpoint, which the first of several processes does for all.
    pub(super) fn save(&mut self) -> Result<(), TrainerError> {
        if !self.options.processes.is_first() {
            return Ok(());
        }
        self.read_losses()?;
        self.progress.metrics_bytes = self.log.bytes()?;
        save(self.output, &self.checkpoint())?;
        Ok(())
    }

    fn checkpoint(&self) -> CheckpointState {
        let progress = TrainingProgress {
            seconds: self.progress.seconds + self.started.elapsed().as_secs_f64(),
            ..self.progress.clone()
        };
        CheckpointState {
            progress,
            parameters: self.values(),
            optimizer: self.optimizer.state(),
            best: self.best.clone(),
        }
    }

    /// Takes over the state of the first process, if that of another is not the same any more: unlike
    /// processors, and GPUs, may round the same step differently, and what they compute would drift apart.
    fn align(&mut self, observer: &mut dyn Observer) -> Result<(), TrainerError> {
        let processes = self.options.processes;
        if processes.is_alone() {
            return Ok(());
        }
        let digests = processes.exchange(&digest_of_values(&self.values()).to_le_bytes())?;
        let drifted = digests.iter().position(|digest| *digest != digests[0]);
        let Some(rank) = drifted else {
            return Ok(());
        };
        let state = first_state(self.output, processes, || Ok(Some(self.checkpoint())))?;
        if let Some(state) = state.filter(|_| !processes.is_first()) {
            self.restore(state)?;
        }
        observer.note(&format!(
            "process {rank} on `{}` rounds other than process 0 and has taken over its state",
            processes.host(rank)
        ));
        Ok(())
    }
}
