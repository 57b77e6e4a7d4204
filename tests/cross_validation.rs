//! `data.fold`: a fold of the training rows is the validation split.

mod support;

use std::fs;

use support::{Workplace, quickstart, read_json};

fn file(data: &str, training: &str) -> String {
    format!(
        "output = \"run\"\n[base]\nmodel = {:?}\n[data]\npath = {:?}\nmax_length = 24\n{data}\n\
         [adapter]\nmethod = \"lora\"\nrank = 2\n[training]\nepochs = 1\nbatch_size = 16\n\
         learning_rate = 5e-3\n{training}\n",
        quickstart("base"),
        quickstart("tasks/ferry_port"),
    )
}

#[test]
fn a_fold_is_held_out_of_the_sample_and_measured_on() {
    let place = Workplace::new();
    let text = file(
        "examples_per_class = 5\nfold = \"2/5\"",
        "evaluate_test = false",
    );
    fs::write(place.path("t.toml"), text).expect("a file");
    let plain = file("examples_per_class = 5", "evaluate_test = false");
    fs::write(place.path("plain.toml"), plain).expect("a file");
    let all = place.run_json(&["train", "plain.toml", "--set", "output=plain"]);
    let folded = place.run_json(&["train", "t.toml"]);
    let rows = |outcome: &serde_json::Value| outcome["steps"].as_u64().expect("steps");
    assert!(rows(&folded) <= rows(&all));
    let accuracy = folded["validation"]["accuracy"].as_f64();
    assert!(accuracy.is_some(), "{folded}");
    for outcome in [&all, &folded] {
        assert!(
            outcome["test"].is_null(),
            "no test split is measured: {outcome}"
        );
    }
    let made = read_json(&place.path("run/adapter/eigenmix.json"));
    assert!(made.is_object());
}

#[test]
fn what_is_no_fold_is_refused_by_what_is_expected() {
    let place = Workplace::new();
    let refused = |data: &str| {
        fs::write(place.path("t.toml"), file(data, "")).expect("a file");
        place.run_refused(&["train", "t.toml"])
    };
    let message = refused("fold = \"6/5\"");
    assert!(
        message.contains("`6/5`") && message.contains("\"1/5\""),
        "{message}"
    );
    let message = refused("examples_per_class = 1\nfold = \"1/500\"");
    assert!(
        message.contains("`1/500`") && message.contains("fewer folds"),
        "{message}"
    );
}
