//! `--head ADAPTER`: the head of one adapter over the updates of another.

use std::fs;
use std::path::Path;

use crate::support::{Workplace, classifier_adapter, quickstart, read_json};
use eigenmix_tensors::{Dtype, TensorFile, TensorOutput, write_tensor_file};

/// The adapters of the gym and of the library.
fn adapters() -> [String; 2] {
    ["gym", "library"].map(|task| quickstart(&format!("adapters/{task}")))
}

fn data(task: &str) -> String {
    quickstart(&format!("tasks/{task}"))
}

#[test]
fn a_head_can_be_taken_from_another_adapter() {
    let place = Workplace::new();
    let base = quickstart("base");
    let [gym, library] = adapters();
    let merge = [
        "merge", &gym, &library, "--out", "m", "--space", "core", "--method", "tsv",
    ];
    assert_eq!(place.run(&merge).status, 0);
    // Its own head changes nothing.
    let data = data("gym");
    let alone = [
        "evaluate",
        "--base",
        &base,
        "--adapter",
        &gym,
        "--data",
        &data,
    ];
    let found = place.run_json(&alone)["metrics"].clone();
    let with_head = place.run_json(&[&alone[..], &["--head", &gym]].concat());
    assert_eq!(with_head["metrics"], found);

    fs::write(place.path("lines"), "please freeze my membership\n").expect("a file");
    let predict = [
        "predict",
        "--base",
        &base,
        "--adapter",
        "m",
        "--input",
        "lines",
        "--head",
    ];
    for (task, head) in ["gym", "library"].iter().zip([&gym, &library]) {
        let found = place.run_json(&[&predict[..], &[head.as_str()]].concat());
        let labels = read_json(&Path::new(head).join("labels.json"));
        let mut labels = labels.as_object().expect("labels").values();
        let label = &found["predictions"][0]["label"];
        assert!(labels.any(|name| name == label), "{task}: {label}");
    }

    let ids: Vec<u8> = [2i64, 40, 75, 300, 3]
        .iter()
        .flat_map(|id| id.to_le_bytes())
        .collect();
    let tensors = vec![TensorOutput::bytes(
        "input.input_ids",
        vec![1, 5],
        Dtype::I64,
        &ids,
    )];
    write_tensor_file(&place.path("in"), tensors).expect("inputs");
    let logits = |out: &str, rest: &[&str]| {
        let forward = ["forward", "--base", &base, "--inputs", "in", "--out", out];
        let outcome = place.run(&[&forward[..], rest].concat());
        assert_eq!(outcome.status, 0, "{outcome:?}");
        let file = TensorFile::open(&place.path(out)).expect("logits");
        assert_eq!(file.shape("logits").expect("logits"), [1, 10]);
        file.read_f32("logits").expect("logits")
    };
    let of_gym = logits("gym", &["--adapter", &gym]);
    assert_eq!(logits("both", &["--adapter", &gym, "--head", &gym]), of_gym);
    let merged = logits("merged", &["--adapter", "m", "--head", &gym]);
    let without_updates = logits("base", &["--head", &gym]);
    assert!(merged != of_gym && without_updates != of_gym && merged != without_updates);
}

#[test]
fn a_head_that_is_none_or_does_not_fit_is_refused() {
    let place = Workplace::new();
    let (base, data) = (quickstart("base"), data("gym"));
    let [gym, library] = adapters();
    let merge = [
        "merge", &gym, &library, "--out", "m", "--space", "core", "--method", "sum",
    ];
    assert_eq!(place.run(&merge).status, 0);
    let evaluate = [
        "evaluate",
        "--base",
        &base,
        "--adapter",
        "m",
        "--data",
        &data,
    ];
    let message = place.run_refused(&[&evaluate[..], &["--head", "m"]].concat());
    assert!(message.contains("`m` has no head"), "{message}");
    place.save("wide", &classifier_adapter(1, 2));
    let message = place.run_refused(&[&evaluate[..], &["--head", "wide"]].concat());
    for words in ["classifier.weight", "[3, 41]", "[3, 64]"] {
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn a_head_that_does_not_fit_its_labels_is_refused() {
    let place = Workplace::new();
    let copy = ["export", &quickstart("adapters/gym"), "--out", "whole"];
    assert_eq!(place.run(&copy).status, 0);
    let whole = place.path("whole");
    let labels = fs::read_to_string(whole.join("labels.json")).expect("labels");
    let mut names: serde_json::Value = serde_json::from_str(&labels).expect("labels");
    names.as_object_mut().expect("by output").remove("9");
    fs::write(whole.join("labels.json"), names.to_string()).expect("written");
    let [base, data] = ["base", "tasks/gym"].map(quickstart);
    let command = [
        "evaluate",
        "--base",
        &base,
        "--adapter",
        "whole",
        "--data",
        &data,
    ];
    let refused = place.run_refused(&command);
    assert!(refused.contains("10 outputs, for 9 labels"), "{refused}");
}
