//! What `eigenmix merge --search` refuses, before anything is measured and without a trace.

mod support;
use std::fs;
use std::path::Path;

use eigenmix_adapter::{AdapterFile, SaveOptions};
use eigenmix_tensors::{TensorFile, TensorOutput, write_tensor_file};
use serde_json::json;
use support::{Workplace, quickstart};

/// The adapters of the gym and of the library.
fn adapters() -> [String; 2] {
    ["gym", "library"].map(|task| quickstart(&format!("adapters/{task}")))
}

fn data(task: &str) -> String {
    quickstart(&format!("tasks/{task}"))
}

/// Runs a search that must be refused, leaving nothing behind; returns the message.
fn refusal(
    place: &Workplace,
    adapters: &[&str],
    base: &str,
    data: &[&str],
    rest: &[&str],
) -> String {
    let mut all = vec![
        "--quiet", "merge", "--out", "m", "--space", "core", "--search",
    ];
    all.extend(["--base", base]);
    all.extend(adapters);
    for data in data {
        all.extend(["--data", data]);
    }
    all.extend(rest);
    place.run_refused(&all)
}

#[test]
fn data_that_do_not_belong_to_the_adapters_are_refused_by_name() {
    let place = Workplace::new();
    let base = quickstart("base");
    let [gym, library] = adapters();
    let adapters = [gym.as_str(), library.as_str()];
    let (of_gym, of_library) = (
        format!("gym={}", data("gym")),
        format!("library={}", data("library")),
    );
    let (of_gym, of_library) = (of_gym.as_str(), of_library.as_str());
    fs::create_dir(place.path("partial")).expect("a directory");
    let test = Path::new(&data("library")).join("test.jsonl");
    fs::copy(test, place.path("partial/test.jsonl")).expect("a file");
    let bakery = format!("bakery={}", data("bakery"));
    let wrong_task = format!("library={}", data("bakery"));
    for (data, expected) in [
        (&[of_gym][..], &["`library`", "--data library=DIR"][..]),
        (
            &[of_gym, of_gym, of_library],
            &["`gym`", "two directories in --data"],
        ),
        (&[of_gym, &bakery], &["`bakery`", "`gym`, `library`"]),
        (
            &[of_gym, "library=partial"],
            &["`library`", "validation", "partial"],
        ),
        (&[of_gym, "library=nowhere"], &["`library`", "nowhere"]),
        (
            &[of_gym, &wrong_task],
            &["`library`", "unknown label", "validation.jsonl:1"],
        ),
    ] {
        let message = refusal(&place, &adapters, &base, data, &["--method", "sum"]);
        for words in expected {
            assert!(message.contains(words), "{data:?}: {message}");
        }
    }
}

#[test]
fn flags_that_do_not_go_together_are_refused() {
    let place = Workplace::new();
    let base = quickstart("base");
    let [gym, library] = adapters();
    let adapters = [gym.as_str(), library.as_str()];
    let data = ["gym", "library"].map(data);
    let data = data.each_ref().map(String::as_str);
    for (rest, expected) in [
        (
            &["--method", "sum", "--densities", "0.5"][..],
            "--densities",
        ),
        (&["--method", "tsv", "--drops", "0.5"], "--drops"),
        (
            &["--method", "ties", "--rank-fractions", "0.5"],
            "--rank-fractions",
        ),
        (&["--method", "ties", "--densities", "0.5,1.5"], "1.5"),
        (&["--method", "ties", "--scales", "0,0.5"], "above 0"),
        (&["--method", "sum", "--density", "0.5"], "--density"),
    ] {
        let message = refusal(&place, &adapters, &base, &data, rest);
        assert!(message.contains(expected), "{rest:?}: {message}");
    }
    let message = refusal(
        &place,
        &adapters[..1],
        &base,
        &data[..1],
        &["--method", "tsv"],
    );
    assert!(message.contains("at least two"), "{message}");

    let merge = [
        "merge", &gym, &library, "--out", "m", "--space", "core", "--method", "sum",
    ];
    for (rest, expected) in [
        (
            &["--search", "--data", data[0], "--data", data[1]][..],
            "--base",
        ),
        (&["--search", "--base", &base], "--data"),
        (&["--scales", "0.5"], "--search"),
        (
            &[
                "--search", "--base", &base, "--data", data[0], "--scale", "1", "--scales", "1",
            ],
            "--scales",
        ),
    ] {
        let outcome = place.run(&[&merge[..], rest].concat());
        assert_eq!(outcome.status, 2, "{rest:?}: {outcome:?}");
        assert!(outcome.stderr.contains(expected), "{rest:?}: {outcome:?}");
        assert!(!place.path("m").exists());
    }
}

#[test]
fn only_adapters_with_a_classification_head_can_be_scored() {
    let place = Workplace::new();
    let base = quickstart("base");
    let [gym, library] = adapters();
    let data = ["gym", "library"].map(data);
    let data = data.each_ref().map(String::as_str);
    let library = AdapterFile::open(Path::new(&library)).expect("an adapter");
    let library = library.load().expect("an adapter");

    let mut regression = library.clone();
    regression.labels = None;
    for tensor in regression.heads.values_mut() {
        let width: usize = tensor.shape[1..].iter().product();
        tensor.shape[0] = 1;
        tensor.values.truncate(width);
    }
    let mut unlabelled = library.clone();
    unlabelled.labels = None;
    let mut headless = library;
    headless.labels = None;
    headless.heads.clear();
    for (name, adapter) in [
        ("regression", regression),
        ("unlabelled", unlabelled),
        ("headless", headless),
    ] {
        let saved = adapter.save(&place.path(name), &SaveOptions::default());
        saved.expect("a directory");
    }
    // The base model of the quick start has a head of its own, from its pretraining.
    let bare = place.path("bare");
    fs::create_dir(&bare).expect("a directory");
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(Path::new(&base).join(file), bare.join(file)).expect("a file");
    }
    let weights = TensorFile::open(&Path::new(&base).join("model.safetensors")).expect("weights");
    let names: Vec<&str> = weights.names().collect();
    let names = names
        .into_iter()
        .filter(|name| !name.starts_with("classifier"));
    let tensors: Vec<(&str, Vec<usize>, Vec<f32>)> = names
        .map(|name| {
            let shape = weights.shape(name).expect("a shape").to_vec();
            (name, shape, weights.read_f32(name).expect("values"))
        })
        .collect();
    let tensors = tensors
        .iter()
        .map(|(name, shape, values)| TensorOutput::f32(*name, shape.clone(), values));
    write_tensor_file(&bare.join("model.safetensors"), tensors.collect()).expect("a file");

    for (adapter, base, expected) in [
        ("regression", base.as_str(), "regression"),
        ("unlabelled", &base, "labels.json"),
        (
            "headless",
            "bare",
            "neither the adapter nor the base model has a head",
        ),
        // The base model's own 77 labels are no actions of the library.
        ("headless", &base, "unknown label"),
    ] {
        let adapters = [gym.as_str(), adapter];
        let message = refusal(&place, &adapters, base, &data, &["--method", "sum"]);
        assert!(message.contains(expected), "{adapter}: {message}");
        assert!(message.contains(adapter), "{adapter}: {message}");
    }
}

#[test]
fn adapters_of_another_base_model_are_refused_before_anything_is_measured() {
    let place = Workplace::new();
    let base = quickstart("base");
    let [gym, ..] = adapters();
    let data = data("gym");
    let renamed = AdapterFile::open(Path::new(&gym)).expect("an adapter");
    let mut renamed = renamed.load().expect("an adapter");
    renamed.config = renamed
        .config
        .with("base_model_name_or_path", json!("org/other"))
        .expect("a configuration");
    let saved = renamed.save(&place.path("renamed"), &SaveOptions::default());
    saved.expect("a directory");
    let adapters = [gym.as_str(), "renamed"];
    let data = [data.as_str(), data.as_str()];
    let message = refusal(&place, &adapters, &base, &data, &["--method", "sum"]);
    assert!(message.contains("org/other"), "{message}");
    let allowed = [
        "--method",
        "sum",
        "--scales",
        "0.5",
        "--allow-base-mismatch",
    ];
    let mut all = vec![
        "merge", &gym, "renamed", "--out", "m", "--space", "core", "--search",
    ];
    all.extend(["--base", &base, "--data", data[0], "--data", data[1]]);
    all.extend(allowed);
    let found = place.run_json(&all);
    // Half of the sum of an adapter and itself is that adapter.
    for task in found["search"]["tasks"].as_array().expect("a list") {
        assert_eq!(task["test"]["normalised"], 1.0, "{task}");
    }
}
