//! The display of a running training.

use eigenmix_trainer::{EvaluationRecord, Observer, StepRecord, TrainingPlan};

use crate::console::Console;
use crate::progress::Progress;

/// Shows steps as progress and evaluations as lines, all on standard error.
pub(crate) struct TrainingDisplay<'a> {
    console: &'a Console,
    action: String,
    progress: Option<Progress>,
    loss: String,
}

impl<'a> TrainingDisplay<'a> {
    /// - action: the name of the progress, such as `training`
    pub(crate) fn new(console: &'a Console, action: impl Into<String>) -> Self {
        Self {
            console,
            action: action.into(),
            progress: None,
            loss: String::new(),
        }
    }
}

impl Observer for TrainingDisplay<'_> {
    fn started(&mut self, plan: &TrainingPlan) {
        self.console.detail(format_args!(
            "{}: {} trains {} parameters in {} modules and {} in the head; the base model has {}; {} examples, {} steps",
            self.action,
            plan.method.name(),
            plan.adapter_parameters,
            plan.adapted_modules,
            plan.head_parameters,
            plan.base_parameters,
            plan.train_examples,
            plan.total_steps
        ));
        if plan.truncated_examples > 0 {
            self.console.note(format_args!(
                "{} of {} training examples are longer than data.max_length and were cut",
                plan.truncated_examples, plan.train_examples
            ));
        }
        if plan.resumed_steps > 0 {
            self.console
                .note(format_args!("resuming after step {}", plan.resumed_steps));
        }
        let progress = self
            .console
            .progress(&self.action, plan.total_steps, "steps");
        progress.start_at(plan.resumed_steps);
        self.progress = Some(progress);
    }

    fn gradient(&mut self, done: usize, total: usize) {
        let progress = self
            .progress
            .get_or_insert_with(|| self.console.progress("gradient", total, "examples"));
        progress.set(done, String::new());
        if done >= total {
            self.progress = None;
        }
    }

    fn starts_measured(&mut self, done: usize, total: usize) {
        let progress = self
            .progress
            .get_or_insert_with(|| self.console.progress("start", total, "examples"));
        progress.set(done, String::new());
        if done >= total {
            self.progress = None;
        }
    }

    fn encoded(&mut self, done: usize, total: usize) {
        let progress = self
            .progress
            .get_or_insert_with(|| self.console.progress("encoding", total, "steps"));
        progress.set(done, String::new());
        if done >= total {
            self.progress = None;
        }
    }

    fn composed(&mut self, done: usize, total: usize) {
        let progress = self
            .progress
            .get_or_insert_with(|| self.console.progress("composition", total, "steps"));
        progress.set(done, String::new());
        if done >= total {
            self.progress = None;
        }
    }

    fn stepped(&mut self, step: usize) {
        if let Some(progress) = &self.progress {
            progress.set(step, self.loss.clone());
        }
    }

    fn logged(&mut self, record: &StepRecord) {
        self.loss = format!("loss {:.4}", record.loss);
    }

    fn evaluated(&mut self, record: &EvaluationRecord) {
        if !self.console.is_verbose() {
            return;
        }
        let metrics: Vec<String> = record
            .metrics
            .iter()
            .map(|(name, value)| format!("{name} {value:.4}"))
            .collect();
        self.console.note(format_args!(
            "epoch {:.0}, {}: loss {:.4}, {}",
            record.epoch,
            record.split,
            record.loss,
            metrics.join(", ")
        ));
    }

    fn note(&mut self, note: &str) {
        self.console.note(note);
    }
}
