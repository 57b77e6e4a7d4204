//! Flattened subspaces through the command line: a number for each adapter and side.

use std::fs;

use crate::support::{Workplace, quickstart};
use serde_json::Value;

/// Three adapters of the quick start, which have one rank.
fn extract(place: &Workplace, out: &str, more: &[&str]) -> Value {
    let adapters = ["adapters/gym", "adapters/library", "adapters/theatre"].map(quickstart);
    let adapters: Vec<&str> = adapters.iter().map(String::as_str).collect();
    place.run_json(&[&["extract", "--out", out], more, &adapters[..]].concat())
}

fn write(place: &Workplace, name: &str, adapter: &str) {
    let text = format!(
        "output = \"run-{name}\"\n[base]\nmodel = {:?}\n[data]\npath = {:?}\nmax_length = 24\n\
         examples_per_class = 3\n[adapter]\nallow_base_mismatch = true\n{adapter}\n[training]\nepochs = 1\n\
         batch_size = 16\nlearning_rate = 5e-3\nevaluate_every = 0\n",
        quickstart("base"),
        quickstart("tasks/ferry_port"),
    );
    fs::write(place.path(&format!("{name}.toml")), text).expect("a file");
}

#[test]
fn eigenlorax_trains_a_number_for_each_adapter_and_side_of_a_flattened_subspace() {
    let place = Workplace::new();
    let found = extract(&place, "shared", &["--kind", "flattened"]);
    let modules = found["modules"].as_object().expect("modules").len();
    for init in ["zero", "random", "merge"] {
        let adapter =
            format!("method = \"eigenlorax\"\nrank = 4\nsubspace = \"shared\"\ninit = \"{init}\"");
        write(&place, init, &adapter);
        let file = format!("{init}.toml");
        let planned = place.run_json(&["train", &file, "--dry-run"]);
        let run = place.run_json(&["train", &file]);
        assert_eq!(run["adapter_parameters"], 2 * 3 * modules, "{init}: {run}");
        assert_eq!(planned["adapter_parameters"], run["adapter_parameters"]);
        // What was trained is what the exported factors compute.
        let output = format!("run-{init}");
        let data = quickstart("tasks/ferry_port");
        let base = quickstart("base");
        let evaluated = place.run_json(&[
            "evaluate",
            "--base",
            &base,
            "--adapter",
            &output,
            "--data",
            &data,
        ]);
        let found = &evaluated["metrics"]["accuracy"];
        assert!(found.is_number());
        assert_eq!(found, &run["test"]["accuracy"], "{init}");
        let adapter = place.config(&format!("{output}/adapter"));
        assert_eq!(adapter["r"], 4);
    }
}

#[test]
fn a_training_goes_on_from_what_was_trained_on_the_same_flattened_subspace() {
    let place = Workplace::new();
    extract(&place, "shared", &["--kind", "flattened"]);
    let method = "method = \"eigenlorax\"\nrank = 4\nsubspace = \"shared\"";
    write(&place, "first", method);
    place.run_json(&["train", "first.toml"]);
    write(&place, "second", &format!("{method}\ninit = \"run-first\""));
    let outcome = place.run(&["train", "second.toml"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.stderr.contains("keeps 100.0 %"), "{outcome:?}");
    let shown = place.run(&["inspect", "shared"]);
    assert!(
        shown.stdout.contains("flattened: whole factors of rank 4"),
        "{shown:?}"
    );
}

#[test]
fn random_directions_beside_those_of_adapters_are_counted_in_advance() {
    let place = Workplace::new();
    let more = ["--kind", "flattened", "--augment", "90", "--center"];
    extract(&place, "shared", &more);
    write(
        &place,
        "wide",
        "method = \"eigenlorax\"\nrank = 4\nsubspace = \"shared\"",
    );
    let [planned, run] = [
        &["train", "wide.toml", "--dry-run"][..],
        &["train", "wide.toml"],
    ]
    .map(|command| place.run_json(command));
    assert_eq!(planned["adapter_parameters"], run["adapter_parameters"]);
}

#[test]
fn what_does_not_go_with_a_flattened_subspace_is_refused_before_the_first_step() {
    let place = Workplace::new();
    extract(&place, "shared", &["--kind", "flattened"]);
    for (name, adapter, problem) in [
        (
            "mixer",
            "method = \"eigenmix\"\nrank = 4",
            "adapter.subspace",
        ),
        (
            "rank",
            "method = \"eigenlorax\"\nrank = 5",
            "it is 4, not 5",
        ),
        (
            "gradient",
            "method = \"eigenlorax\"\nrank = 4\ngradient = true",
            "adapter.gradient",
        ),
        (
            "alone",
            "method = \"eigenlorax\"\nrank = 4\nbasis = \"gradient\"",
            "\"random\"",
        ),
        (
            "weights",
            "method = \"eigenlorax\"\nrank = 4\nbasis = \"weights\"",
            "\"random\"",
        ),
        (
            "compose",
            "method = \"eigenlorax\"\nrank = 4\ninit = \"compose\"",
            "adapter.init",
        ),
    ] {
        write(&place, name, &format!("{adapter}\nsubspace = \"shared\""));
        for more in [&["--dry-run"][..], &[]] {
            let file = format!("{name}.toml");
            let refused = place.run_refused(&[&["train", &file], more].concat());
            assert!(refused.contains(problem), "{name}: {refused}");
        }
        assert!(!place.path(&format!("run-{name}")).exists(), "{name}");
    }
    let gym = quickstart("adapters/gym");
    let grown = ["extract", "--update", "shared", &gym, "--out", "larger"];
    assert!(place.run_refused(&grown).contains("cannot grow"));
}

#[test]
fn the_control_of_a_flattened_subspace_is_as_many_random_factors() {
    let place = Workplace::new();
    extract(&place, "shared", &["--kind", "flattened"]);
    let adapter = "method = \"eigenlorax\"\nrank = 4\nsubspace = \"shared\"";
    write(&place, "recycled", adapter);
    write(&place, "random", &format!("{adapter}\nbasis = \"random\""));
    let [recycled, random] =
        ["recycled.toml", "random.toml"].map(|file| place.run_json(&["train", file]));
    assert_eq!(recycled["adapter_parameters"], random["adapter_parameters"]);
}
