//! Rows that may have several labels: from the training file to `evaluate`, `predict` and `export`.

mod support;
use std::fs;

use serde_json::{Value, json};
use support::image_tasks::{Attribute, TaskSize, write_image_task};
use support::stopped_training::train;
use support::{Workplace, quickstart, read_json};

/// A word of the quick start's vocabulary for each label.
const WORDS: [(&str, &str); 3] = [("cancel", "stop"), ("money", "fee"), ("place", "locker")];

/// Every combination of the three labels, none of them included, in six wordings.
fn rows() -> Vec<(String, Vec<&'static str>)> {
    let wordings = [
        "please",
        "can i",
        "who is",
        "the",
        "monday",
        "while i am away",
    ];
    let row = |(combination, wording): (usize, &str)| {
        let (mut text, mut labels) = (wording.to_owned(), Vec::new());
        for (place, (label, word)) in WORDS.into_iter().enumerate() {
            if combination >> place & 1 == 1 {
                text = format!("{text} {word}");
                labels.push(label);
            }
        }
        (text, labels)
    };
    let all = (0..8).flat_map(|combination| wordings.map(|wording| (combination, wording)));
    all.map(row).collect()
}

/// The rows as JSON lines with lists, and as CSV with semicolons between the labels.
fn write_data(place: &Workplace) {
    fs::create_dir_all(place.path("lists")).expect("a directory");
    fs::create_dir_all(place.path("cells")).expect("a directory");
    let lines: Vec<String> = rows()
        .iter()
        .map(|(text, labels)| json!({"text": text, "labels": labels}).to_string())
        .collect();
    let cells: Vec<String> = rows()
        .iter()
        .map(|(text, labels)| format!("{text},{}", labels.join(";")))
        .collect();
    for split in ["train", "validation", "test"] {
        fs::write(
            place.path(&format!("lists/{split}.jsonl")),
            lines.join("\n"),
        )
        .expect("a file");
        let table = format!("text,labels\n{}\n", cells.join("\n"));
        fs::write(place.path(&format!("cells/{split}.csv")), table).expect("a file");
    }
}

/// - task, data, training: further lines of these tables
fn configuration(
    place: &Workplace,
    output: &str,
    task: &str,
    data: &str,
    training: &str,
) -> String {
    format!(
        "seed = 5\noutput = \"{}\"\n[base]\nmodel = \"{}\"\n\
         [data]\npath = \"{}\"\nlabel = \"labels\"\nmax_length = 24\n{data}\n\
         [task]\n{task}\n\
         [adapter]\nmethod = \"lora\"\nrank = 4\n\
         [training]\nlearning_rate = 1e-2\nlog_every = 1\n{training}",
        place.path(output).display(),
        quickstart("base"),
        place.path("lists").display(),
    )
}

const TARGET: &str = "target = \"labels\"\nthreshold = 0.4";

fn trained(place: &Workplace) -> Vec<f64> {
    write_data(place);
    let training = "epochs = 40\nbatch_size = 16";
    train(
        &configuration(place, "run", TARGET, "", training),
        false,
        usize::MAX,
    )
}

#[test]
fn an_adapter_of_several_labels_knows_it_wherever_it_is_used() {
    let place = Workplace::new();
    let losses = trained(&place);
    // Of three labels that are each on half of the rows: ln 2 before anything is learnt.
    assert!((losses[0] - 2f64.ln()).abs() < 0.2, "{losses:?}");
    let contract = read_json(&place.path("run/adapter/eigenmix.json"))["input"].clone();
    assert_eq!(contract["target"], "labels");
    assert_eq!(contract["threshold"], 0.4);
    assert_eq!(
        read_json(&place.path("run/adapter/labels.json")),
        json!({"0": "cancel", "1": "money", "2": "place"})
    );

    let base = quickstart("base");
    let model = ["--base", &base, "--adapter", "run"];
    let evaluate = |data: &[&str]| -> Value {
        let mut found = place.run_json(&[&["evaluate"], &model[..], data].concat());
        found.as_object_mut().expect("an object").remove("seconds");
        found
    };
    let found = evaluate(&["--data", "lists"]);
    let metric = |name: &str| found["metrics"][name].as_f64().expect(name);
    assert!(metric("micro-f1") > 0.95, "{found}");
    assert!(metric("macro-f1") > 0.95, "{found}");
    assert!(metric("exact-match") > 0.9, "{found}");
    assert_eq!(found["labels"]["money"]["examples"], 24);
    let of_cells = evaluate(&["--data", "cells", "--set", "label_separator=;"]);
    assert_eq!(of_cells["metrics"], found["metrics"]);
    assert_eq!(of_cells["loss"], found["loss"]);
    // With a threshold that nothing reaches no label is predicted, and one row of eight has none.
    let strict = evaluate(&["--data", "lists", "--threshold", "0.999999"]);
    assert_eq!(strict["metrics"]["micro-f1"], 0.0);
    assert_eq!(strict["metrics"]["exact-match"], 0.125);

    // Merged into the base model: config.json says it to everyone.
    let merge = [
        "export",
        "run",
        "--out",
        "merged",
        "--merge-into-base",
        &base,
    ];
    assert_eq!(place.run(&merge).status, 0);
    let config = read_json(&place.path("merged/config.json"));
    assert_eq!(config["problem_type"], "multi_label_classification");
    assert_eq!(config["id2label"]["1"], "money");
    fs::remove_file(place.path("merged/eigenmix.json")).expect("a file");
    let merged = ["evaluate", "--base", "merged", "--data", "lists"];
    let usual = [
        "--set",
        "label=labels",
        "--set",
        "max_length=24",
        "--threshold",
        "0.4",
    ];
    let merged = place.run_json(&[&merged[..], &usual].concat());
    assert_eq!(merged["metrics"], found["metrics"]);
    let difference = merged["loss"].as_f64().unwrap() - found["loss"].as_f64().unwrap();
    assert!(difference.abs() < 1e-5, "{merged} {found}");
}

#[test]
fn predictions_are_all_labels_from_the_threshold_on() {
    let place = Workplace::new();
    trained(&place);
    let base = quickstart("base");
    let predict = ["predict", "--base", &base, "--adapter", "run", "--input"];
    fs::write(place.path("lines"), "please stop locker\nmonday\n").expect("a file");
    let found = place.run_json(&[&predict[..], &["lines"]].concat());
    let names = |row: usize| -> Vec<String> {
        let labels = found["predictions"][row]["labels"]
            .as_array()
            .expect("a list");
        let mut names: Vec<String> = labels
            .iter()
            .map(|label| {
                assert!(label["probability"].as_f64().expect("a number") >= 0.4);
                label["label"].as_str().expect("a name").to_owned()
            })
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(0), ["cancel", "place"]);
    assert!(names(1).is_empty());
    let lines = place.run(&[&predict[..], &["lines"]].concat());
    assert_eq!(lines.stdout.lines().nth(1), Some("\t\tmonday"), "{lines:?}");
    assert!(lines.stderr.contains("at least 0.4"), "{lines:?}");

    fs::write(place.path("rows.csv"), "text\nplease stop locker\nmonday\n").expect("a file");
    let table = place.run(&[&predict[..], &["rows.csv"]].concat());
    let mut rows = table.stdout.lines();
    assert_eq!(rows.next(), Some("text,prediction,score"), "{table:?}");
    let first: Vec<&str> = rows.next().expect("a row").split(',').collect();
    assert_eq!(first[1].split('|').count(), 2, "{table:?}");
    assert_eq!(first[2].split('|').count(), 2, "{table:?}");
    assert_eq!(rows.next(), Some("monday,,"), "{table:?}");

    let outcome = place.run(&[&predict[..], &["lines", "--top", "2"]].concat());
    assert_eq!(outcome.status, 2, "{outcome:?}");
    assert!(outcome.stderr.contains("--threshold says"), "{outcome:?}");
    let gym = quickstart("adapters/gym");
    let single = [
        "predict",
        "--base",
        &base,
        "--adapter",
        &gym,
        "--input",
        "lines",
        "--threshold",
        "0.3",
    ];
    let message = place.run_refused(&single);
    assert!(message.contains("--threshold is for models"), "{message}");
}

#[test]
fn what_does_not_go_with_lists_is_refused_before_the_first_step() {
    let place = Workplace::new();
    write_data(&place);
    let refused = |task: &str, data: &str| {
        let training = "epochs = 1\nbatch_size = 8";
        let text = configuration(&place, "run", task, data, training);
        fs::write(place.path("train.toml"), text).expect("a file");
        place.run_refused(&["train", "train.toml"])
    };
    let message = refused("", "");
    assert!(
        message.contains("train.jsonl:1: column `labels` has a list of labels")
            && message.contains("set task.target = \"labels\""),
        "{message}"
    );
    let message = refused(TARGET, "examples_per_class = 2");
    assert!(message.contains("use `data.max_examples`"), "{message}");
    let message = refused("target = \"labels\"\nmetrics = [\"matthews\"]", "");
    assert!(
        message.contains("`matthews` is for classes") && message.contains("`micro-f1`"),
        "{message}"
    );
    let message = refused("target = \"labels\"\nclass_weights = { cancel = 2 }", "");
    assert!(
        message.contains("no weight for `money`, `place`"),
        "{message}"
    );
    let gym = quickstart("adapters/gym");
    let evaluate = [
        "evaluate",
        "--base",
        &quickstart("base"),
        "--adapter",
        &gym,
        "--data",
        "lists",
        "--label",
        "labels",
    ];
    let message = place.run_refused(&evaluate);
    assert!(message.contains("has a list of labels"), "{message}");
}

#[test]
fn images_may_have_several_labels_too() {
    let place = Workplace::new();
    let size = TaskSize {
        side: 16,
        per_class: [4, 1, 1],
    };
    write_image_task(&place.path("folders"), &[Attribute::Color], size, 3);
    // The images of the folders in a table: the colour, and whether its name is a long one.
    fs::create_dir_all(place.path("images")).expect("a directory");
    let mut lines = Vec::new();
    for folder in fs::read_dir(place.path("folders/train")).expect("folders") {
        let folder = folder.expect("a folder").path();
        let colour = folder
            .file_name()
            .expect("a name")
            .to_str()
            .expect("UTF-8")
            .to_owned();
        for image in fs::read_dir(&folder).expect("images") {
            let mut labels = vec![colour.as_str()];
            if colour.len() > 4 {
                labels.push("long");
            }
            let image = image.expect("an image").path();
            lines.push(json!({"image": image, "labels": labels}).to_string());
        }
    }
    for split in ["train", "test"] {
        fs::write(
            place.path(&format!("images/{split}.jsonl")),
            lines.join("\n"),
        )
        .expect("a file");
    }
    fs::create_dir_all(place.path("vit")).expect("a directory");
    let config = json!({"model_type": "vit", "hidden_size": 16, "intermediate_size": 20,
        "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 16, "patch_size": 8});
    let preprocessor = json!({"image_processor_type": "ViTImageProcessor", "size": 16,
        "do_rescale": true, "do_normalize": false});
    fs::write(place.path("vit/config.json"), config.to_string()).expect("a file");
    let path = place.path("vit/preprocessor_config.json");
    fs::write(path, preprocessor.to_string()).expect("a file");
    let text = format!(
        "output = \"{}\"\n[base]\nmodel = \"{}\"\nfrom_scratch = true\n\
         [data]\npath = \"{}\"\nlabel = \"labels\"\n\
         [task]\nkind = \"image-classification\"\ntarget = \"labels\"\nclass_weights = \"balanced\"\n\
         [adapter]\nmethod = \"full\"\n\
         [training]\nlearning_rate = 5e-3\nlog_every = 1\nepochs = 4\nbatch_size = 8\n",
        place.path("run").display(),
        place.path("vit").display(),
        place.path("images").display(),
    );
    let losses = train(&text, false, usize::MAX);
    assert!(losses[losses.len() - 1] < losses[0], "{losses:?}");
    let model = place.path("run/model").display().to_string();
    let config = read_json(&place.path("run/model/config.json"));
    assert_eq!(config["problem_type"], "multi_label_classification");
    let evaluate = ["evaluate", "--base", &model, "--data", "images"];
    let found = place.run_json(&evaluate);
    assert!(
        found["labels"]["long"]["examples"].as_u64() > Some(0),
        "{found}"
    );
    assert!(found["metrics"]["micro-f1"].is_number(), "{found}");
}

#[test]
fn a_suggested_training_file_knows_lists_and_what_separates_labels() {
    let place = Workplace::new();
    write_data(&place);
    let base = quickstart("base");
    for (data, separator) in [("lists", None), ("cells", Some("label_separator = \";\""))] {
        let file = format!("{data}.toml");
        let init = ["init", "--base", &base, "--data", data, "--out", &file];
        let outcome = place.run(&init);
        assert_eq!(outcome.status, 0, "{outcome:?}");
        let text = fs::read_to_string(place.path(&file)).expect("a file");
        assert!(text.contains("target = \"labels\""), "{text}");
        assert!(text.contains("3 labels"), "{text}");
        assert_eq!(
            text.contains("label_separator"),
            separator.is_some(),
            "{text}"
        );
        assert!(separator.is_none_or(|line| text.contains(line)), "{text}");
        let check = place.run(&["train", &file, "--dry-run"]);
        assert_eq!(check.status, 0, "{check:?}");
    }
}
