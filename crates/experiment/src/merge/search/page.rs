//! `report.html` beside a merge that was searched: its tasks and the course of the search.

use eigenmix_charts::{
    Axis, Bar, BarGroup, Bars, Figure, LineChart, Page, PageTable, Point, Series,
};
use eigenmix_merging::Coordinate;

use super::report::{Parameters, SearchReport, TaskReport, TrialReport};

/// The page of a search.
///
/// - title: the title of the page
pub(super) fn page(title: &str, report: &SearchReport) -> Page {
    let mut page = Page::new(title);
    page.paragraph(&format!(
        "Best of {} settings: {}. Normalised accuracy {:.4} on validation data, {:.4} on test data (mean over the tasks).",
        report.trials.len(),
        Parameters(&report.best),
        report.validation_score,
        report.test_score
    ));
    page.heading("Tasks");
    page.table(&table(&report.tasks));
    page.figures([accuracies(&report.tasks), normalised(&report.tasks)]);
    let joint = &report.joint;
    page.paragraph(&format!(
        "All {} labels at once, {} examples: Hits@1 {:.4}, Hits@3 {:.4}, Hits@5 {:.4}.",
        joint.labels, joint.examples, joint.hits_at_1, joint.hits_at_3, joint.hits_at_5
    ));
    page.heading("Search");
    page.paragraph(
        "The score is the normalised accuracy on the validation data: the mean over the tasks of the accuracy divided by that of the task's own adapter.",
    );
    page.figures([scores(&report.trials)]);
    page
}

fn table(tasks: &[TaskReport]) -> PageTable {
    let header = [
        "task",
        "test examples",
        "labels",
        "base",
        "alone",
        "merged",
        "normalised",
    ];
    let row = |task: &TaskReport| {
        vec![
            task.name.clone(),
            task.test.examples.to_string(),
            task.labels.to_string(),
            format!("{:.4}", task.base),
            format!("{:.4}", task.test.own),
            format!("{:.4}", task.test.accuracy),
            format!("{:.4}", task.test.normalised),
        ]
    };
    PageTable {
        header: header.map(str::to_owned).to_vec(),
        rows: tasks.iter().map(row).collect(),
    }
}

fn accuracies(tasks: &[TaskReport]) -> Figure {
    let groups = tasks.iter().map(|task| BarGroup {
        name: task.name.clone(),
        bars: [task.base, task.test.own, task.test.accuracy]
            .map(|accuracy| Some(Bar::new(accuracy)))
            .to_vec(),
    });
    let bars = Bars {
        axis: Axis::linear("accuracy on the test data"),
        series: ["head alone", "adapter alone", "merged"]
            .map(str::to_owned)
            .to_vec(),
        groups: groups.collect(),
    };
    bars.figure("Accuracy of each task")
}

fn normalised(tasks: &[TaskReport]) -> Figure {
    let groups = tasks.iter().map(|task| BarGroup {
        name: task.name.clone(),
        bars: vec![Some(Bar::new(task.test.normalised))],
    });
    let bars = Bars {
        axis: Axis::linear("accuracy / own accuracy"),
        series: Vec::new(),
        groups: groups.collect(),
    };
    bars.figure("Normalised accuracy of each task")
}

/// The scores over λ, one line for each choice of the other parameters.
fn scores(trials: &[TrialReport]) -> Figure {
    let mut series: Vec<Series> = Vec::new();
    for trial in trials {
        let name = others(trial);
        let point = Point::new(trial.setting.scale, trial.score);
        match series.iter_mut().find(|series| series.name == name) {
            Some(series) => series.points.push(point),
            None => series.push(Series::new(name, vec![point])),
        }
    }
    for series in &mut series {
        series
            .points
            .sort_by(|left, right| left.x.total_cmp(&right.x));
    }
    let chart = LineChart {
        x: Axis::linear("λ"),
        y: Axis::linear("score"),
        series,
    };
    chart.figure("Score of each setting")
}

/// The parameters of a trial other than λ.
fn others(trial: &TrialReport) -> String {
    let coordinates = Coordinate::of(trial.setting.method).into_iter();
    let others: Vec<String> = coordinates
        .filter(|&coordinate| coordinate != Coordinate::Scale)
        .filter_map(|coordinate| {
            let value = trial.setting.get(coordinate)?;
            Some(format!("{} {value}", coordinate.name()))
        })
        .collect();
    match others.is_empty() {
        true => trial.setting.method.name().to_owned(),
        false => others.join(", "),
    }
}
