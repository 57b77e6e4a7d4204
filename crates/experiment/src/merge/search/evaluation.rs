//! Evaluates merged updates on every task.

use std::num::NonZeroUsize;

use eigenmix_adapter::Adapter;
use eigenmix_data::metrics::hits_at;
use eigenmix_trainer::{
    BaseModel, Classifier, Device, LabelUnion, TaskClassifiers, TaskHeads, TrainerError,
};
use serde::Serialize;

use super::task::{SearchTask, TaskExamples};
use crate::BadInput;
use crate::ExperimentError;
use crate::error::Within;
use crate::listener::Listener;
use crate::load_report;
use crate::opened_adapter::OpenedAdapter;

/// The tasks on one base model, which is loaded once: only updates and heads change.
pub struct SearchEvaluation<'a> {
    base: &'a BaseModel,
    tasks: &'a [SearchTask],
    heads: TaskHeads,
    device: Device,
    batch_size: NonZeroUsize,
    allow_partial: bool,
}

/// The accuracy of every task, in their order.
pub type Accuracies = Vec<f64>;

/// The joint evaluation of a merged model, which does not know which task an example belongs to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Joint {
    /// The number of labels of all tasks; a label that several have counts once.
    pub labels: usize,
    /// The number of test examples of all tasks.
    pub examples: usize,
    pub hits_at_1: f64,
    pub hits_at_3: f64,
    pub hits_at_5: f64,
}

impl<'a> SearchEvaluation<'a> {
    /// # Errors
    /// If the heads cannot be placed.
    pub fn new(
        base: &'a BaseModel,
        tasks: &'a [SearchTask],
        device: Device,
        batch_size: NonZeroUsize,
        allow_partial: bool,
    ) -> Result<Self, ExperimentError> {
        let heads: Vec<_> = tasks.iter().map(|task| task.head.clone()).collect();
        Ok(Self {
            heads: TaskHeads::new(base, &heads)?,
            base,
            tasks,
            device,
            batch_size,
            allow_partial,
        })
    }

    /// The accuracy of each adapter alone, on the validation and on the test split.
    ///
    /// # Errors
    /// If an adapter does not fit the base model, or gets everything wrong: an accuracy of 0 cannot
    /// be a reference.
    pub fn own(
        &self,
        adapters: &[OpenedAdapter],
        listener: &dyn Listener,
    ) -> Result<(Accuracies, Accuracies), ExperimentError> {
        let examples = |task: &SearchTask| task.validation.len() + task.test.len();
        let total = self.tasks.iter().map(examples).sum();
        let progress = listener.progress("evaluating the adapters", total, "examples");
        let advance = |count| (0..count).for_each(|_| progress.advance());
        let mut validation = Vec::new();
        let mut test = Vec::new();
        for (task, adapter) in self.tasks.iter().zip(adapters) {
            let location = adapter.file.location();
            let classifier = self
                .alone(task, adapter)
                .within(|| format!("adapter `{location}`"))?;
            if let Some(report) = &classifier.report {
                load_report::show(report, listener);
            }
            let accuracy = |examples: &TaskExamples, split: &str| -> Result<f64, ExperimentError> {
                let inputs = &*examples.inputs;
                let logits = classifier.all_logits(inputs, self.batch_size, &advance)?;
                let accuracy = examples.accuracy(&logits, classifier.outputs())?;
                if accuracy > 0.0 {
                    return Ok(accuracy);
                }
                Err(BadInput(format!(
                    "adapter `{location}` gets every {split} example of `{}` wrong, so its accuracy cannot be a reference; do data and labels belong to it?",
                    task.data
                ))
                .into())
            };
            validation.push(accuracy(&task.validation, "validation")?);
            test.push(accuracy(&task.test, "test")?);
        }
        Ok((validation, test))
    }

    /// An adapter under the head of its task.
    fn alone(
        &self,
        task: &SearchTask,
        adapter: &OpenedAdapter,
    ) -> Result<Classifier, TrainerError> {
        if !self.allow_partial {
            adapter.file.require_clean()?;
        }
        let (adapter, head) = (adapter.file.load()?, Some(&task.head));
        let adapter = Some(&adapter);
        Classifier::assemble(self.base, adapter, head, self.allow_partial, &self.device)
    }

    /// The accuracy of every task on its validation split, with its own head.
    ///
    /// # Errors
    /// If the merged adapter does not fit the base model.
    pub fn validation(&self, merged: &Adapter) -> Result<Accuracies, ExperimentError> {
        let placed = self.placed(Some(merged))?;
        let tasks = self.tasks.iter().enumerate();
        tasks
            .map(|(index, task)| {
                let inputs = &*task.validation.inputs;
                let logits = placed.logits(index, inputs, self.batch_size, &|_| {})?;
                task.validation.accuracy(&logits, task.labels.names().len())
            })
            .collect()
    }

    /// The accuracy of every task on its test split with its own head on the base model alone,
    /// which is the baseline of a merge.
    ///
    /// # Errors
    /// If a head does not fit the base model.
    pub fn base_alone(&self, listener: &dyn Listener) -> Result<Accuracies, ExperimentError> {
        let placed = self.placed(None)?;
        let examples = self.tasks.iter().map(|task| task.test.len());
        let progress = listener.progress("evaluating the base model", examples.sum(), "examples");
        let advance = |count| (0..count).for_each(|_| progress.advance());
        let tasks = self.tasks.iter().enumerate();
        tasks
            .map(|(index, task)| {
                let inputs = &*task.test.inputs;
                let logits = placed.logits(index, inputs, self.batch_size, &advance)?;
                task.test.accuracy(&logits, task.labels.names().len())
            })
            .collect()
    }

    fn placed(&self, adapter: Option<&Adapter>) -> Result<TaskClassifiers, TrainerError> {
        let (base, device) = (self.base, &self.device);
        self.heads.on(base, adapter, self.allow_partial, device)
    }

    /// The accuracy of every task on its test split with its own head, and the joint evaluation:
    /// all heads on every example.
    ///
    /// # Errors
    /// If the merged adapter does not fit the base model, or a logit is NaN.
    pub fn test(
        &self,
        merged: &Adapter,
        listener: &dyn Listener,
    ) -> Result<(Accuracies, Joint), ExperimentError> {
        let placed = self.placed(Some(merged))?;
        let labels: Vec<_> = self.tasks.iter().map(|task| &task.labels).collect();
        let union = LabelUnion::new(&labels);
        let examples = self.tasks.iter().map(|task| task.test.len()).sum::<usize>();
        let total = examples * self.heads.passes();
        let progress = listener.progress("evaluating the merge", total, "examples");
        let advance = |count| (0..count).for_each(|_| progress.advance());
        let mut accuracies = Vec::new();
        let mut united = Vec::new();
        let mut expected = Vec::new();
        for (index, task) in self.tasks.iter().enumerate() {
            let inputs = &*task.test.inputs;
            let joint = placed.joint_logits(inputs, self.batch_size, &advance)?;
            if joint.iter().any(|logit| logit.is_nan()) {
                let problem = "the merged model's outputs are NaN";
                return Err(BadInput(problem.to_owned()).into());
            }
            let own = placed.own(index, &joint);
            accuracies.push(task.test.accuracy(&own, task.labels.names().len())?);
            united.extend(union.unite(&joint));
            let outputs = task.test.expected.iter();
            expected.extend(outputs.map(|&output| union.label(index, output)));
        }
        let count = union.names().len();
        let hits = |k| hits_at(k, &united, count, &expected);
        let joint = Joint {
            labels: count,
            examples,
            hits_at_1: hits(1)?,
            hits_at_3: hits(3)?,
            hits_at_5: hits(5)?,
        };
        Ok((accuracies, joint))
    }
}

/// The mean over the tasks of accuracy / own accuracy.
pub fn normalised_mean(accuracies: &[f64], own: &[f64]) -> f64 {
    let ratios = accuracies.iter().zip(own).map(|(found, own)| found / own);
    ratios.sum::<f64>() / accuracies.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_counts_the_same_and_relative_to_its_own_adapter() {
        // 0.5/1 and 0.6/0.8.
        assert_eq!(normalised_mean(&[0.5, 0.6], &[1.0, 0.8]), 0.625);
    }
}
