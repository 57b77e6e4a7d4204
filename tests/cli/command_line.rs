//! Exit statuses, the two streams, and what is never overwritten.

use std::fs;

use crate::support::{Workplace, quickstart, random_adapter};

#[test]
fn wrong_usage_ends_with_status_2_and_help_with_0() {
    let place = Workplace::new();
    for arguments in [
        &[][..],
        &["no-such-command"],
        &["extract"],
        &["extract", "a", "--out", "b", "--components", "0"],
        &[
            "extract",
            "a",
            "--out",
            "b",
            "--components",
            "4",
            "--variance",
            "0.9",
        ],
        &["extract", "a", "--out", "b", "--variance", "much"],
        &["inspect", "a", "--device", "abacus"],
        &["inspect", "a", "--threads", "0"],
        &["inspect", "a", "--quiet", "--verbose"],
        &["train", "config.toml", "--set", "epochs"],
    ] {
        assert_eq!(place.run(arguments).status, 2, "{arguments:?}");
    }
    assert_eq!(place.run(&["--help"]).status, 0);
    assert_eq!(place.run(&["extract", "--help"]).status, 0);
    assert!(place.run(&["--version"]).stdout.starts_with("eigenmix "));
}

#[test]
fn json_is_one_line_and_text_is_not() {
    let place = Workplace::new();
    place.save("a", &random_adapter(1, 3));
    let words = place.run(&["inspect", "a"]);
    assert_eq!(words.status, 0, "{words:?}");
    assert!(words.stdout.contains("rank"), "{words:?}");
    let data = place.run(&["inspect", "a", "--json"]);
    assert_eq!(data.stdout.lines().count(), 1, "{data:?}");
    assert!(data.stdout.starts_with('{'), "{data:?}");
}

#[test]
fn quiet_silences_notes_but_not_the_result() {
    let place = Workplace::new();
    place.save("a", &random_adapter(1, 3));
    let outcome = place.run(&["extract", "a", "--out", "s", "--quiet"]);
    assert_eq!(outcome.stderr, "");
    assert!(outcome.stdout.contains("components"), "{outcome:?}");
}

#[test]
fn an_output_that_exists_is_replaced_only_with_force() {
    let place = Workplace::new();
    place.save("a", &random_adapter(1, 3));
    for arguments in [
        &["extract", "a", "--out", "out"][..],
        &["export", "a", "--out", "out"],
    ] {
        assert_eq!(place.run(arguments).status, 0);
        let message = place.run_refused(arguments);
        assert!(
            message.contains("`out`") && message.contains("--force"),
            "{message}"
        );
        let forced = place.run(&[arguments, &["--force"]].concat());
        assert_eq!(forced.status, 0, "{forced:?}");
        fs::remove_dir_all(place.path("out")).expect("the output");
    }
}

#[test]
fn force_replaces_neither_a_strangers_directory_nor_the_input() {
    let place = Workplace::new();
    place.save("a", &random_adapter(1, 3));
    fs::create_dir(place.path("home")).expect("a directory");
    fs::write(place.path("home/thesis.tex"), "years of work").expect("a file");
    let message = place.run_refused(&["extract", "a", "--out", "home", "--force"]);
    assert!(message.contains("`home`"), "{message}");
    assert!(place.path("home/thesis.tex").exists());

    let message = place.run_refused(&["export", "a", "--out", "a", "--force"]);
    assert!(message.contains("input"), "{message}");
}

#[test]
fn the_most_probable_labels_come_in_their_order_and_add_up() {
    let place = Workplace::new();
    fs::write(place.path("lines"), "please freeze my membership\n").expect("a file");
    let (base, gym) = (quickstart("base"), quickstart("adapters/gym"));
    let arguments = [
        "predict",
        "--base",
        &base,
        "--adapter",
        &gym,
        "--input",
        "lines",
        "--top",
    ];
    let predict = |top: &str| {
        let found = place.run_json(&[&arguments[..], &[top]].concat());
        found["predictions"][0].clone()
    };
    let all = predict("1000");
    let labels = all["labels"].as_array().expect("labels");
    let probability = |candidate: &serde_json::Value| candidate["probability"].as_f64();
    let sum: f64 = labels.iter().filter_map(probability).sum();
    assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    assert!(labels.is_sorted_by(|first, second| probability(first) >= probability(second)));
    assert_eq!(labels[0]["label"], all["label"]);
    let one = predict("1");
    assert_eq!(
        (&one["label"], &one["score"]),
        (&all["label"], &all["score"])
    );
    assert_eq!(one.get("labels"), None);
    let (arguments, _) = arguments.split_at(arguments.len() - 1);
    for flags in [
        &["--chat"][..],
        &["--chat", "--system", "Be brief."],
        &["--temperature", "0.5"],
        &["--max-new-tokens", "5"],
    ] {
        let refused = place.run_refused(&[arguments, flags].concat());
        let expected = format!("{} is for language models", flags[0]);
        assert!(refused.contains(&expected), "{refused}");
    }
}
