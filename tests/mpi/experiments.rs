//! Experiments on several processes: the cells split over them, or each cell on all.

use std::fs;

use serde_json::Value;

use crate::launched::{Result, several, together};
use crate::support::{Outcome, Workplace, quickstart, read_json};

/// An experiment with stages of every kind, four trainings, one of which fails, and an evaluation.
fn experiment(place: &Workplace, output: &str, processes: &str) -> String {
    let text = format!(
        r#"
        output = "{output}"
        processes = "{processes}"
        seeds = [1, 2]
        [base]
        model = {base:?}
        [data]
        path = {ferry:?}
        max_length = 40
        examples_per_class = 5
        [adapter]
        method = "lora"
        rank = 3
        [training]
        epochs = 1
        batch_size = 16
        micro_batches = 2
        learning_rate = 5e-3
        [[train]]
        name = "gym"
        data.path = {gym:?}
        [[train]]
        name = "library"
        data.path = {library:?}
        [[extract]]
        name = "shared"
        adapters = ["train:gym", "train:library"]
        components = 4
        [[merge]]
        name = "both"
        adapters = ["train:gym", "train:library"]
        space = "core"
        method = "sum"
        [[arm]]
        name = "plain"
        [[arm]]
        name = "recycled"
        adapter = {{ method = "eigenmix", subspace = "extract:shared" }}
        [[arm]]
        name = "wrong"
        seeds = [1]
        data.text = "no_such_column"
        [[arm]]
        name = "merged"
        evaluate = "merge:both"
        head = "train:gym"
        data.path = {gym:?}
        "#,
        base = quickstart("base"),
        ferry = quickstart("tasks/ferry_port"),
        gym = quickstart("tasks/gym"),
        library = quickstart("tasks/library"),
    );
    let name = format!("{output}.toml");
    fs::write(place.path(&name), text).expect("a file");
    name
}

/// The arms of a report, without what depends on the clock.
fn arms(place: &Workplace, output: &str) -> Vec<(Value, Value, Value)> {
    let report = read_json(&place.path(output).join("report.json"));
    let arms = report["arms"].as_array().expect("arms").iter();
    arms.map(|arm| {
        (
            arm["name"].clone(),
            arm["test"].clone(),
            arm["failures"].clone(),
        )
    })
    .collect()
}

#[test]
fn cells_that_are_split_and_cells_that_are_shared_give_the_report_of_one_process() {
    let place = Workplace::new();
    let run = |output: &str, sharing: &str, processes: usize| {
        let file = experiment(&place, output, sharing);
        let outcome = match processes {
            1 => place.run(&["run", &file]),
            processes => together(&place, processes, &["run", &file]),
        };
        // The failed cell.
        assert_eq!(outcome.status, 1, "{outcome:?}");
        assert!(
            outcome.stderr.contains("1 of 6 cells failed"),
            "{outcome:?}"
        );
        assert!(outcome.stderr.contains("no_such_column"), "{outcome:?}");
        let cells = [
            "plain/seed-1",
            "plain/seed-2",
            "recycled/seed-1",
            "recycled/seed-2",
        ];
        let cells = cells.map(|cell| Result::of(&place, &format!("{output}/{cell}")));
        (cells, arms(&place, output), outcome)
    };
    let (cells, report, _) = run("alone", "cells", 1);
    for (output, sharing) in [("split", "cells"), ("shared", "steps")] {
        let found = run(output, sharing, 3);
        assert_eq!(found.0, cells, "{sharing}");
        assert_eq!(found.1, report, "{sharing}");
        let outcome: &Outcome = &found.2;
        let tables = outcome.stdout.matches("recycled").count();
        assert!(tables > 0, "{outcome:?}");
        let file = format!("{output}.toml");
        let again = together(&place, 2, &["run", &file]);
        assert!(again.stderr.contains("already finished"), "{again:?}");
    }
    let outcome = read_json(&place.path("shared/plain/seed-1/outcome.json"));
    assert_eq!(outcome["processes"]["count"], 3);
    let outcome = read_json(&place.path("split/plain/seed-1/outcome.json"));
    assert_eq!(outcome.get("processes"), None);
}

#[test]
fn a_shard_is_run_by_each_process_alone() {
    let place = Workplace::new();
    let file = experiment(&place, "x", "cells");
    let shard = |part: &'static str| {
        [
            vec!["run"],
            vec![file.as_str(), "--dry-run", "--shard", part],
        ]
        .concat()
    };
    let (first, second) = (shard("1/2"), shard("2/2"));
    let output = several(&place, &[(1, "", &first), (1, "", &second)]).output();
    let outcome = Outcome::of(output.expect("mpirun runs"));
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("plain/seed-1"), "{outcome:?}");
    assert!(outcome.stdout.contains("plain/seed-2"), "{outcome:?}");
}
