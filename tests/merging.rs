//! `eigenmix merge` through files: what is written is the merge that was asked for.

mod support;

use adapter::{AdapterFile, Matrix};
use serde_json::Value;
use support::{DOWN, QUERY, Workplace, classifier_adapter, largest_difference, random_adapter};

fn two_adapters() -> Workplace {
    let place = Workplace::new();
    place.save("a", &random_adapter(1, 2));
    place.save("b", &random_adapter(2, 3));
    place
}

fn update(place: &Workplace, adapter: &str, module: &str) -> Matrix {
    let file = AdapterFile::open(&place.path(adapter)).expect("an adapter");
    file.module(module).expect("a module").update()
}

#[test]
fn a_weighted_sum_is_the_same_in_every_space_and_honours_alpha() {
    let place = two_adapters();
    for space in ["full", "knots", "core"] {
        let outcome = place.run(&[
            "merge",
            "a",
            "b",
            "--out",
            space,
            "--space",
            space,
            "--method",
            "sum",
            "--weights",
            "0.5,-0.25",
            "--scale",
            "2",
        ]);
        assert_eq!(outcome.status, 0, "{outcome:?}");
        for module in [QUERY, DOWN] {
            let (a, b) = (update(&place, "a", module), update(&place, "b", module));
            let pairs = a.values().iter().zip(b.values());
            let expected: Vec<f32> = pairs.map(|(a, b)| a - 0.5 * b).collect();
            let found = update(&place, space, module);
            // Entries are of size ten, in f32.
            let difference = largest_difference(found.values(), &expected);
            assert!(difference < 2e-5, "{space}, {module}: {difference}");
        }
    }
}

#[test]
fn truncation_keeps_the_rank_and_tells_the_energy() {
    let place = two_adapters();
    let outcome = place.run(&[
        "merge", "a", "b", "--out", "m", "--space", "core", "--method", "average", "--rank", "2",
        "--json",
    ]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let found: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let energy = found["energy_kept"].as_f64().expect("a number");
    assert!((0.3..0.9999).contains(&energy), "{energy}");
    let file = AdapterFile::open(&place.path("m")).expect("an adapter");
    assert_eq!(file.shape(QUERY).expect("a module").0, 2);
}

#[test]
fn heads_are_kept_apart_and_mentioned() {
    let place = Workplace::new();
    place.save("a", &classifier_adapter(1, 2));
    place.save("b", &classifier_adapter(2, 2));
    let outcome = place.run(&[
        "merge", "a", "b", "--out", "m", "--space", "core", "--method", "tsv",
    ]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.stderr.contains("classifier.weight"), "{outcome:?}");
    let file = AdapterFile::open(&place.path("m")).expect("an adapter");
    assert_eq!(file.head_names().count(), 0);
}

#[test]
fn what_cannot_be_merged_is_refused_before_anything_is_written() {
    let place = two_adapters();
    let mut stranger = random_adapter(3, 2);
    stranger.config = stranger
        .config
        .with("base_model_name_or_path", "org/other".into())
        .expect("a configuration");
    place.save("stranger", &stranger);
    for (arguments, expected) in [
        (&["a", "--method", "ties"][..], "ties"),
        (&["a", "b", "--method", "sum", "--weights", "1"], "2"),
        (&["a", "b", "--method", "ties", "--density", "0"], "density"),
        (
            &["a", "b", "--method", "sum", "--density", "0.5"],
            "--density",
        ),
        (&["a", "stranger", "--method", "sum"], "org/other"),
        (&["a", "nowhere", "--method", "sum"], "nowhere"),
    ] {
        let mut all = vec!["merge", "--out", "m", "--space", "core"];
        all.extend(arguments);
        let outcome = place.run(&all);
        assert_eq!(outcome.status, 2, "{arguments:?}: {outcome:?}");
        assert!(
            outcome.stderr.contains(expected),
            "{arguments:?}: {outcome:?}"
        );
        assert!(!place.path("m").exists(), "{arguments:?}");
    }
}
