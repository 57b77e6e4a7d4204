//! The report of a search, for display and for files.

use std::fmt;
use std::num::NonZeroUsize;

use eigenmix_charts::Page;
use eigenmix_merging::{SearchGrid, SearchOutcome, Setting};
use serde::Serialize;

use super::SearchPlan;
use super::evaluation::{Accuracies, Joint, normalised_mean};
use super::task::SearchTask;
use crate::table::Table;

/// The report of a search, without anything that depends on the clock.
#[derive(Clone, Debug, Serialize)]
pub struct SearchReport {
    pub(super) base: String,
    pub(super) grid: SearchGrid,
    /// How many validation rows of each task were drawn; all if `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) search_rows: Option<NonZeroUsize>,
    pub(super) trials: Vec<TrialReport>,
    pub(super) best: Setting,
    /// The mean over the tasks of accuracy / own accuracy on the validation split, at the best.
    pub(super) validation_score: f64,
    /// The same on the test split.
    pub(super) test_score: f64,
    pub(super) tasks: Vec<TaskReport>,
    pub(super) joint: Joint,
}

/// A setting and its score.
#[derive(Clone, Debug, Serialize)]
pub(super) struct TrialReport {
    #[serde(flatten)]
    pub(super) setting: Setting,
    pub(super) score: f64,
    /// Of every task, on the validation split.
    pub(super) accuracies: Accuracies,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct TaskReport {
    pub(super) name: String,
    /// The adapter whose task it is, and whose head was used.
    pub(super) adapter: String,
    pub(super) data: String,
    pub(super) labels: usize,
    pub(super) validation: SplitReport,
    pub(super) test: SplitReport,
    /// The accuracy of the task's head on the base model alone, on the test split.
    pub(super) base: f64,
}

/// The metrics of a task on a split.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct SplitReport {
    pub(super) examples: usize,
    /// The accuracy of the merged adapter with the task's head.
    pub(super) accuracy: f64,
    /// The accuracy of the task's adapter alone.
    pub(super) own: f64,
    /// accuracy / own
    pub(super) normalised: f64,
}

/// What was measured.
pub(super) struct SearchMeasurements {
    pub outcome: SearchOutcome,
    /// Of every trial.
    pub trials: Vec<Accuracies>,
    pub own_validation: Accuracies,
    pub own_test: Accuracies,
    pub base_test: Accuracies,
    pub test: Accuracies,
    pub joint: Joint,
}

impl SearchReport {
    /// The report as a page of tables and charts.
    pub fn page(&self, title: &str) -> Page {
        super::page::page(title, self)
    }

    /// - locations: the locations of the adapters, in their order
    pub(super) fn new(
        plan: &SearchPlan,
        tasks: &[SearchTask],
        locations: &[&str],
        measured: SearchMeasurements,
    ) -> Self {
        let SearchMeasurements {
            outcome,
            trials,
            own_validation,
            own_test,
            base_test,
            test,
            joint,
        } = measured;
        let of_best = outcome.trials.iter().zip(&trials);
        let at_best = of_best
            .filter(|(trial, _)| trial.setting == outcome.best.setting)
            .map(|(_, accuracies)| accuracies.clone())
            .next()
            .unwrap_or_default();
        let task_reports = tasks.iter().zip(locations).enumerate();
        let task_reports = task_reports.map(|(index, (task, location))| TaskReport {
            name: task.name.clone(),
            adapter: (*location).to_owned(),
            data: task.data.clone(),
            labels: task.labels.names().len(),
            validation: SplitReport::new(
                task.validation.len(),
                at_best[index],
                own_validation[index],
            ),
            test: SplitReport::new(task.test.len(), test[index], own_test[index]),
            base: base_test[index],
        });
        Self {
            base: plan.base.to_owned(),
            grid: plan.grid.clone(),
            search_rows: plan.search_rows,
            best: outcome.best.setting,
            validation_score: outcome.best.score,
            test_score: normalised_mean(&test, &own_test),
            tasks: task_reports.collect(),
            joint,
            trials: outcome
                .trials
                .into_iter()
                .zip(trials)
                .map(|(trial, accuracies)| TrialReport {
                    setting: trial.setting,
                    score: trial.score,
                    accuracies,
                })
                .collect(),
        }
    }
}

impl SplitReport {
    fn new(examples: usize, accuracy: f64, own: f64) -> Self {
        Self {
            examples,
            accuracy,
            own,
            normalised: accuracy / own,
        }
    }
}

impl fmt::Display for SearchReport {
    /// Without a newline at the end.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "  best     {}, of {} settings: {:.4} on validation\n",
            Parameters(&self.best),
            self.trials.len(),
            self.validation_score
        )?;
        let mut table =
            Table::with_header(["test", "examples", "base", "alone", "merged", "normalised"]);
        for task in &self.tasks {
            let SplitReport {
                examples,
                accuracy,
                own,
                normalised,
            } = task.test;
            table.push([
                task.name.clone(),
                examples.to_string(),
                format!("{:.4}", task.base),
                format!("{own:.4}"),
                format!("{accuracy:.4}"),
                format!("{normalised:.4}"),
            ]);
        }
        let mean = |value: fn(&TaskReport) -> f64| {
            let values = self.tasks.iter().map(value);
            format!("{:.4}", values.sum::<f64>() / self.tasks.len() as f64)
        };
        table.push([
            "mean".to_owned(),
            String::new(),
            mean(|task| task.base),
            mean(|task| task.test.own),
            mean(|task| task.test.accuracy),
            format!("{:.4}", self.test_score),
        ]);
        let Joint {
            labels,
            examples,
            hits_at_1,
            hits_at_3,
            hits_at_5,
        } = self.joint;
        write!(
            formatter,
            "{table}\n\nall {labels} labels at once, {examples} examples: Hits@1 {hits_at_1:.4}, Hits@3 {hits_at_3:.4}, Hits@5 {hits_at_5:.4}"
        )
    }
}

/// A setting as text.
pub(super) struct Parameters<'a>(pub &'a Setting);

impl fmt::Display for Parameters<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let coordinates = eigenmix_merging::Coordinate::of(self.0.method).into_iter();
        let words: Vec<String> = coordinates
            .filter_map(|coordinate| {
                let value = self.0.get(coordinate)?;
                Some(format!("{} {value}", coordinate.name()))
            })
            .collect();
        formatter.write_str(&words.join(", "))
    }
}
