//! `eigenmix tune`: settings chosen by measuring.

mod support;

use std::fs;

use serde_json::Value;
use support::{Workplace, quickstart, read_json};

fn file(adapter: &str, data: &str) -> String {
    format!(
        "output = \"unused\"\n[base]\nmodel = {:?}\n[data]\npath = {:?}\nmax_length = 24\n\
         examples_per_class = 4\n{data}\n[adapter]\n{adapter}\n[training]\nepochs = 2\nbatch_size = 16\n\
         learning_rate = 5e-3\n",
        quickstart("base"),
        quickstart("tasks/ferry_port"),
    )
}

fn recycling() -> String {
    let adapters = ["adapters/gym", "adapters/library"].map(quickstart);
    format!("method = \"eigenmix\"\nrank = 2\ncomponents = 4\nadapters = {adapters:?}")
}

fn measurements(candidate: &Value) -> Vec<&String> {
    let found = candidate["measurements"].as_object().expect("measurements");
    found.keys().collect()
}

#[test]
fn the_winner_is_trained_on_all_rows_and_its_file_repeats_it() {
    let place = Workplace::new();
    fs::write(place.path("t.toml"), file(&recycling(), "")).expect("a file");
    let arguments = ["tune", "t.toml", "--out", "tuned", "--budget", "8s"];
    let report =
        place.run_json(&[&arguments[..], &["--parameters", "400", "--folds", "4"]].concat());
    let candidates = report["candidates"].as_array().expect("candidates");
    assert!(candidates.len() > 1, "{report}");
    for candidate in candidates {
        assert!(candidate["parameters"].as_u64().expect("a number") <= 400);
    }
    // What went on to the next round was measured on the same folds as the file itself.
    let of_file = candidates
        .iter()
        .find(|candidate| candidate["changes"] == "the file as it is")
        .map(measurements)
        .expect("the file");
    for candidate in candidates {
        assert!(
            measurements(candidate)
                .iter()
                .all(|fold| of_file.contains(fold))
        );
    }
    assert!(of_file[0].starts_with("fold "), "{of_file:?}");
    let winner = report["winner"].as_u64().expect("a winner") as usize;
    let gain = &candidates[winner]["gain"];
    assert!(gain.as_f64().is_some_and(|gain| gain >= 0.0), "{gain}");

    let written = read_json(&place.path("tuned/report.json"));
    assert_eq!(written["candidates"], report["candidates"]);
    assert!(!place.path("tuned/trials").exists() && !place.path("unused").exists());
    let again = place.run_json(&["train", "tuned/winner.toml", "--set", "output=again"]);
    assert_eq!(again["test"], report["outcome"]["test"]);
    assert!(again["test"]["accuracy"].is_number(), "{again}");
    let message = place.run_refused(&arguments);
    assert!(
        message.contains("tuned") && message.contains("--force"),
        "{message}"
    );
    place.run_json(&[&arguments[..], &["--force"]].concat());
}

#[test]
fn what_it_reads_is_not_overwritten_and_an_earlier_result_stays_till_there_is_a_winner() {
    let place = Workplace::new();
    for name in ["gym", "library"] {
        let copy = quickstart(&format!("adapters/{name}"));
        assert_eq!(place.run(&["export", &copy, "--out", name]).status, 0);
    }
    let pack = ["pack", "gym", "library", "--out", "store", "--dtype", "f32"];
    assert_eq!(place.run(&pack).status, 0);
    fs::create_dir(place.path("own")).expect("a directory");
    fs::write(place.path("own/report.json"), "{}").expect("a file");
    let adapter = |adapters: &str| {
        format!(
            "method = \"eigenmix\"\nrank = 2\nadapters = [{adapters}]\nallow_base_mismatch = true"
        )
    };
    for (adapters, file_name, out, problem) in [
        ("\"store#gym\"", "t.toml", "store", "contains the input"),
        (
            "\"store#gym\"",
            "t.toml",
            "store/adapters/new",
            "is inside the input",
        ),
        ("\"gym\"", "t.toml", "gym", "contains the input"),
        ("\"gym\"", "own/t.toml", "own", "contains the input"),
    ] {
        fs::write(place.path(file_name), file(&adapter(adapters), "")).expect("a file");
        for command in [&["tune"][..], &["gradient"]] {
            let arguments = [command, &[file_name, "--out", out, "--force"]].concat();
            let message = place.run_refused(&arguments);
            assert!(message.contains(problem), "{arguments:?}: {message}");
        }
        fs::remove_file(place.path(file_name)).expect("a file");
    }

    fs::write(place.path("t.toml"), file(&recycling(), "")).expect("a file");
    let tune = ["tune", "t.toml", "--out", "tuned", "--budget", "1s"];
    place.run_json(&tune);
    let before = place.entries();
    let diverging = ["--set", "training.learning_rate=1e30", "--force"];
    let outcome = place.run(&[&tune[..], &diverging].concat());
    assert_eq!(outcome.status, 2, "{outcome:?}");
    assert_eq!(place.entries(), before);
}

#[test]
fn what_cannot_be_tuned_is_refused_before_anything_is_written() {
    let place = Workplace::new();
    let refused = |text: &str, more: &[&str]| {
        fs::write(place.path("t.toml"), text).expect("a file");
        let message = place.run_refused(&[&["tune", "t.toml", "--out", "tuned"], more].concat());
        assert!(!place.path("tuned").exists());
        message
    };
    let message = refused(&file(&recycling(), "fold = \"1/3\""), &[]);
    assert!(
        message.contains("data.fold") && message.contains("--folds"),
        "{message}"
    );
    let message = refused(&file(&recycling(), ""), &["--parameters", "5"]);
    assert!(message.contains("--parameters 5"), "{message}");
    let message = refused(&file(&recycling(), ""), &["--folds", "1"]);
    assert!(message.contains("--folds 1"), "{message}");
    let soon = place.run(&["tune", "t.toml", "--out", "tuned", "--budget", "soon"]);
    assert_eq!(soon.status, 2);
    assert!(soon.stderr.contains("such as 90s, 10m or 2h"), "{soon:?}");
}
