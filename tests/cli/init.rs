//! `eigenmix init`: what it finds, what it writes, and that it trains.

use std::fs;
use std::path::Path;

use crate::support::{Workplace, quickstart, random_adapter};

fn written(place: &Workplace, name: &str) -> String {
    fs::read_to_string(place.path(name)).expect("a file")
}

#[test]
fn the_quick_starts_file_passes_a_dry_run_and_trains() {
    let place = Workplace::new();
    let base = quickstart("base");
    let (data, adapters) = (quickstart("tasks/ferry_port"), quickstart("adapters"));
    let named = [
        "init",
        "--base",
        &base,
        "--data",
        &data,
        "--adapters",
        &adapters,
    ];
    let result = place.run_json(&named);
    assert_eq!(result["method"], "eigenmix");
    assert_eq!(result["is_complete"], true);
    let text = written(&place, "train.toml");
    for part in [
        "kind = \"sequence-classification\"",
        "/adapters/theatre\",\n]",
        "gradient = true",
        "eigenmix select ADAPTER... --for",
        "init = \"auto\"",
        "keep = \"best\"",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let rows = fs::read_to_string(Path::new(&data).join("train.jsonl")).expect("rows");
    let count = format!("{} train", rows.lines().count());
    assert!(text.contains(&count), "{text}");

    let dry = place.run_json(&["train", "train.toml", "--dry-run"]);
    assert_eq!(dry["method"], "eigenmix");
    let short = [
        "train",
        "train.toml",
        "--set",
        "training.epochs=1",
        "--quiet",
    ];
    let trained = place.run_json(&short);
    assert!(
        trained["test"]["accuracy"].as_f64().expect("a number") > 0.3,
        "{trained}"
    );
}

#[test]
fn a_file_for_a_composition_names_the_adapters_and_trains() {
    let place = Workplace::new();
    let (base, data) = (quickstart("base"), quickstart("tasks/ferry_port"));
    let adapters = quickstart("adapters");
    let command = [
        "init",
        "--base",
        &base,
        "--data",
        &data,
        "--adapters",
        &adapters,
        "--method",
        "compose",
    ];
    assert_eq!(place.run_json(&command)["method"], "compose");
    let text = written(&place, "train.toml");
    assert!(
        !text.contains("rank =") && text.contains("/adapters/theatre\",\n]"),
        "{text}"
    );
    let short = [
        "train",
        "train.toml",
        "--set",
        "training.epochs=1",
        "--quiet",
    ];
    assert_eq!(place.run_json(&short)["adapter_parameters"], 6 * 4);
    let none = [
        "init", "--base", &base, "--data", &data, "--method", "compose", "--out", "x.toml",
    ];
    let refused = place.run(&none);
    assert!(refused.stderr.contains("needs adapters"), "{refused:?}");
}

#[test]
fn the_adapters_most_worth_recycling_are_selected_where_there_are_many() {
    let place = Workplace::new();
    let (base, data) = (quickstart("base"), quickstart("tasks/ferry_port"));
    let adapters = quickstart("adapters");
    let named = |pool: &str, more: &[&str]| {
        let named = ["init", "--base", &base, "--data", &data, "--adapters", pool];
        place.run_json(&[&named[..], more].concat());
        written(&place, "train.toml")
    };
    let recycled = |text: &str| -> Vec<String> {
        let config: toml::Table = text.parse().expect("TOML");
        let adapters = config["adapter"]["adapters"].as_array().expect("adapters");
        let names = adapters.iter().filter_map(|name| name.as_str());
        names.map(str::to_owned).collect()
    };
    let text = named(&adapters, &["--top", "2"]);
    assert!(text.contains("# Selected of the 6 that fit"), "{text}");
    let selection = ["select", &adapters, "--for", "train.toml", "--top", "2"];
    let selected = place.run_json(&selection)["chosen"].clone();
    let mut selected: Vec<String> = serde_json::from_value(selected).expect("names");
    selected.sort();
    assert_eq!(recycled(&text), selected);

    // Of copies only one is worth it, and more than sixteen are many.
    for name in fs::read_dir(&adapters).expect("adapters") {
        let name = name.expect("an adapter").file_name();
        let name = name.to_str().expect("a name");
        for copies in 0..3 {
            let to = place.path(&format!("pool/{name}-{copies}"));
            copy(&format!("{adapters}/{name}"), &to);
        }
    }
    let text = named("pool", &["--force"]);
    assert!(text.contains("# Selected of the 18 that fit"), "{text}");
    assert!((1..=6).contains(&recycled(&text).len()), "{text}");
    let refused = place.run_refused(&["init", "--top", "2", "--method", "lora", "--force"]);
    assert!(refused.contains("--top"), "{refused}");
}

#[test]
fn what_lies_below_a_directory_is_found_without_arguments() {
    let place = Workplace::new();
    copy(&quickstart("base"), &place.path("models/base"));
    copy(&quickstart("tasks/gym"), &place.path("data/gym"));
    let outcome = place.run(&["init"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    for part in [
        "found    models/base: a text encoder",
        "found    data/gym: ",
        "guessed  ",
    ] {
        assert!(outcome.stdout.contains(part), "{outcome:?}");
    }
    let text = written(&place, "train.toml");
    for part in [
        "model = \"models/base\"",
        "path = \"data/gym\"",
        "method = \"lora\"",
        "target_modules = [\"query\", \"value\"]",
        "output = \"runs/gym\"",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert_eq!(
        place.run_json(&["train", "train.toml", "--dry-run"])["method"],
        "lora"
    );

    // A second dataset is a question, not a guess.
    copy(&quickstart("tasks/library"), &place.path("data/library"));
    let result = place.run_json(&["init", "--out", "second.toml"]);
    assert_eq!(result["is_complete"], false);
    let found = result["found"].to_string();
    assert!(
        found.contains("data/gym, data/library; name one with --data"),
        "{found}"
    );
}

fn copy(from: &str, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

#[test]
fn an_empty_directory_gets_a_template_that_is_not_overwritten() {
    let place = Workplace::new();
    let outcome = place.run(&["init", "--out", "mine.toml"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("a template"), "{outcome:?}");
    let text = written(&place, "mine.toml");
    assert_eq!(text.matches("# Fill in").count(), 2, "{text}");
    let again = place.run_refused(&["init", "--out", "mine.toml"]);
    assert!(again.contains("--force"), "{again}");
    let forced = place.run(&[
        "init",
        "--out",
        "mine.toml",
        "--method",
        "moslora",
        "--force",
    ]);
    assert_eq!(forced.status, 0, "{forced:?}");
    assert!(written(&place, "mine.toml").contains("method = \"moslora\""));
}

#[test]
fn what_cannot_be_read_is_named_with_its_cause() {
    let place = Workplace::new();
    for directory in ["base", "adapter"] {
        fs::create_dir(place.path(directory)).expect("a directory");
    }
    fs::write(place.path("base/config.json"), r#"{"model_type": "bert"}"#).expect("a file");
    let no_tensors = b"\x02\0\0\0\0\0\0\0{}";
    fs::write(place.path("base/model.safetensors"), no_tensors).expect("a file");
    let weights = "adapter/adapter_model.safetensors";
    let source = quickstart("adapters/gym/adapter_model.safetensors");
    fs::copy(source, place.path(weights)).expect("a file");
    fs::write(place.path("adapter/adapter_config.json"), "{").expect("a file");
    let lines = place.run_json(&["init"])["found"].clone();
    let lines: Vec<&str> = lines
        .as_array()
        .expect("lines")
        .iter()
        .filter_map(|line| line.as_str())
        .collect();
    for (name, command) in [
        ("base", &["evaluate", "--base", "base", "--data", "x"][..]),
        ("adapter", &["inspect", "adapter"]),
    ] {
        let line = lines
            .iter()
            .find(|line| line.starts_with(&format!("{name}: ")));
        let line = line.unwrap_or_else(|| panic!("no {name} in {lines:?}"));
        // The command that needs it says the same.
        let refused = place.run_refused(command);
        let (_, cause) = line.rsplit_once(": ").expect("a cause");
        assert!(refused.trim_end().ends_with(cause), "{line}\n{refused}");
    }
}

#[test]
fn an_adapter_of_another_model_is_left_out_by_its_shapes() {
    let place = Workplace::new();
    place.save("strange", &random_adapter(1, 3));
    let (base, gym) = (quickstart("base"), quickstart("adapters/gym"));
    let found = ["init", "--base", &base, "--adapters", "strange", &gym];
    let result = place.run_json(&found);
    assert_eq!(result["method"], "eigenmix");
    let lines = result["found"].to_string();
    assert!(lines.contains("strange: left out, "), "{lines}");
    let text = written(&place, "train.toml");
    assert!(
        text.contains("/gym\"") && !text.contains("strange"),
        "{text}"
    );
    let alone = [
        "init",
        "--base",
        &base,
        "--adapters",
        "strange",
        "--out",
        "b.toml",
    ];
    let refused = place.run_refused(&[&alone[..], &["--method", "eigenlorax"]].concat());
    assert!(refused.contains("--adapters"), "{refused}");
    assert_eq!(place.run_json(&alone)["method"], "lora");
}

#[test]
fn columns_labels_and_pairs_are_told_apart() {
    let place = Workplace::new();
    let base = quickstart("base");
    for (name, rows, expected) in [
        (
            "pairs",
            "premise,hypothesis,label\na,b,yes\nc,d,no\n",
            &[
                "text = \"premise\"",
                "text_pair = \"hypothesis\"",
                "2 classes",
            ][..],
        ),
        (
            "scores",
            "sentence,score\na,0.5\nb,1.25\nc,3\n",
            &[
                "text = \"sentence\"",
                "label = \"score\"",
                "target = \"number\"",
            ],
        ),
    ] {
        let directory = place.path(name);
        fs::create_dir(&directory).expect("a directory");
        fs::write(directory.join("train.csv"), rows).expect("a file");
        let out = format!("{name}.toml");
        place.run_json(&["init", "--base", &base, "--data", name, "--out", &out]);
        let text = written(&place, &out);
        for part in expected {
            assert!(text.contains(part), "{part}\n{text}");
        }
        place.run_json(&["train", &out, "--dry-run"]);
    }
    let refused = place.run_refused(&["init", "--base", &base, "--data", "nowhere"]);
    assert!(refused.contains("nowhere"), "{refused}");
}

#[test]
fn the_adapters_of_a_store_are_found_by_their_names() {
    let place = Workplace::new();
    let adapters = ["gym", "library"].map(|name| quickstart(&format!("adapters/{name}")));
    let pack = ["pack", &adapters[0], &adapters[1], "--out", "pool/store"];
    place.run_json(&pack);
    let (base, data) = (quickstart("base"), quickstart("tasks/ferry_port"));
    for found in ["pool", "pool/store"] {
        let init = [
            "init",
            "--base",
            &base,
            "--data",
            &data,
            "--adapters",
            found,
        ];
        place.run_json(&[&init[..], &["--out", "t.toml", "--force"]].concat());
        let text = written(&place, "t.toml");
        for name in ["\"pool/store#gym\"", "\"pool/store#library\""] {
            assert!(text.contains(name), "{text}");
        }
    }
    place.run_json(&["train", "t.toml", "--dry-run"]);
}
