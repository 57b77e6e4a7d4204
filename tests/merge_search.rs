//! `eigenmix merge --search` on the quick start's model: what it scores, finds and measures.

mod support;
use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use eigenmix_adapter::{AdapterFile, SaveOptions};
use eigenmix_data::{DataConfig, LabelPolicy, Split, read_split};
use eigenmix_tensors::Matrix;
use eigenmix_trainer::{BaseModel, Classifier, DeviceChoice, TaskHead, TextInputs};
use serde_json::{Value, json};
use support::{WEIGHTS, Workplace, quickstart, read_json};

/// The gym and the theatre have the label `lost_item` in common.
const TASKS: [&str; 3] = ["gym", "library", "theatre"];

fn adapters() -> [String; 3] {
    TASKS.map(|task| quickstart(&format!("adapters/{task}")))
}

fn data(task: &str) -> String {
    quickstart(&format!("tasks/{task}"))
}

/// `merge … --search` of the three adapters on their data, and what follows.
fn search(place: &Workplace, out: &str, rest: &[&str]) -> Value {
    let (adapters, base) = (adapters(), quickstart("base"));
    let named = TASKS.map(|task| format!("{task}={}", data(task)));
    let mut all = vec!["merge", "--out", out, "--search", "--base", &base];
    all.extend(adapters.iter().map(String::as_str));
    for data in &named {
        all.extend(["--data", data]);
    }
    all.extend(rest);
    place.run_json(&all)
}

fn accuracy(place: &Workplace, adapter: &str, head: &str, task: &str, split: &str) -> f64 {
    let (base, data) = (quickstart("base"), data(task));
    let found = place.run_json(&[
        "evaluate",
        "--base",
        &base,
        "--adapter",
        adapter,
        "--head",
        head,
        "--data",
        &data,
        "--split",
        split,
    ]);
    found["metrics"]["accuracy"].as_f64().expect("a number")
}

/// An adapter that changes nothing, as `idle`.
fn save_idle(place: &Workplace, like: &str) {
    let file = AdapterFile::open(Path::new(like)).expect("an adapter");
    let mut adapter = file.load().expect("an adapter");
    for module in adapter.modules.values_mut() {
        module.b = Matrix::zeros(module.d_out(), module.rank());
    }
    let saved = adapter.save(&place.path("idle"), &SaveOptions::default());
    saved.expect("a directory");
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

#[test]
fn a_search_scores_what_merge_and_evaluate_give_one_by_one() {
    let place = Workplace::new();
    let grid = ["--scales", "0.9,0.5", "--densities", "0.6,0.2"];
    let method = ["--space", "knots", "--method", "ties"];
    let found = search(&place, "best", &[&method[..], &grid].concat());
    let search = &found["search"];
    let heads = adapters();
    let own = |split: &str| -> Vec<f64> {
        let tasks = TASKS.iter().zip(&heads);
        tasks
            .map(|(task, head)| accuracy(&place, head, head, task, split))
            .collect()
    };
    let own_validation = own("validation");

    let trials = list(&search["trials"]);
    // Two scales at the density nearest to the default, and the other density at the better one.
    assert_eq!(trials.len(), 3);
    let mut best: Option<(f64, &Value)> = None;
    for (index, trial) in trials.iter().enumerate() {
        let (scale, density) = (&trial["scale"], &trial["method"]["ties"]["density"]);
        let out = format!("trial-{index}");
        let adapters = heads.each_ref().map(String::as_str);
        let options = [
            "--scale",
            &scale.to_string(),
            "--density",
            &density.to_string(),
            "--out",
            &out,
        ];
        place.run_json(&[&["merge"], &adapters[..], &method, &options].concat());
        let mut score = 0.0;
        for (task, head) in TASKS.iter().zip(&heads) {
            let position = TASKS
                .iter()
                .position(|other| other == task)
                .expect("a task");
            let expected = accuracy(&place, &out, head, task, "validation");
            assert_eq!(number(&trial["accuracies"][position]), expected, "{trial}");
            score += expected / own_validation[position] / 3.0;
        }
        assert!((number(&trial["score"]) - score).abs() < 1e-12, "{trial}");
        if best.is_none_or(|(highest, _)| number(&trial["score"]) > highest) {
            best = Some((number(&trial["score"]), trial));
        }
    }
    let (score, best) = best.expect("a trial");
    assert_eq!(number(&search["validation_score"]), score);
    for key in ["scale", "method"] {
        assert_eq!(search["best"][key], best[key]);
        assert_eq!(found["options"][key], best[key]);
    }
    assert_eq!(number(&trials[0]["scale"]), 0.5, "λ ascends");

    // What is written is the best merge, and its metrics are those of the test split.
    let position = trials.iter().position(|trial| trial == best).expect("it");
    let bytes = |name: &str| fs::read(place.path(name).join(WEIGHTS)).expect("an adapter");
    assert_eq!(bytes("best"), bytes(&format!("trial-{position}")));
    let own_test = own("test");
    save_idle(&place, &heads[0]);
    for (index, task) in list(&search["tasks"]).iter().enumerate() {
        let expected = accuracy(&place, "best", &heads[index], TASKS[index], "test");
        assert_eq!(task["name"], TASKS[index]);
        assert_eq!(number(&task["test"]["accuracy"]), expected);
        assert_eq!(number(&task["test"]["own"]), own_test[index]);
        assert_eq!(
            number(&task["test"]["normalised"]),
            expected / own_test[index]
        );
        assert_eq!(task["validation"]["accuracy"], best["accuracies"][index]);
        // An adapter whose updates are zero leaves the base model.
        let idle = accuracy(&place, "idle", &heads[index], TASKS[index], "test");
        assert_eq!(number(&task["base"]), idle);
    }
}

#[test]
fn the_joint_evaluation_asks_all_heads_of_every_example() {
    let place = Workplace::new();
    let options = ["--space", "core", "--method", "tsv", "--scale", "0.6"];
    let found = search(&place, "merged", &options);
    let joint = &found["search"]["joint"];

    let base = BaseModel::open(&quickstart("base")).expect("the base model");
    let device = DeviceChoice::default().open().expect("the CPU");
    let merged = AdapterFile::open(&place.path("merged")).expect("an adapter");
    let merged = merged.load().expect("an adapter");
    let mut examples = Vec::new();
    for task in TASKS {
        let config = DataConfig::new("unused");
        let directory = data(task);
        let rows = read_split(
            Path::new(&directory),
            Split::Test,
            &config,
            LabelPolicy::Required,
        );
        examples.extend(rows.expect("rows"));
    }
    let encodings = base.tokenizer().expect("a tokenizer");
    let inputs = TextInputs(encodings.encode_all(&examples, 48).expect("tokens"));
    // For each example, every label with its logit.
    let mut answers: Vec<Vec<(String, f32)>> = vec![Vec::new(); examples.len()];
    for head in adapters() {
        let head = AdapterFile::open(Path::new(&head)).expect("an adapter");
        let head = TaskHead::of(&base, &head).expect("a head");
        let classifier = Classifier::assemble(&base, Some(&merged), Some(&head), false, &device);
        let classifier = classifier.expect("a classifier");
        let batch = NonZeroUsize::new(50).expect("not zero");
        let logits = classifier.all_logits(&inputs, batch, &|_| {});
        let logits = logits.expect("logits");
        let names = head.labels.expect("labels").0;
        for (answer, logits) in answers.iter_mut().zip(logits.chunks(names.len())) {
            answer.extend(names.iter().cloned().zip(logits.iter().copied()));
        }
    }
    let labels: BTreeSet<&String> = answers[0].iter().map(|(name, _)| name).collect();
    assert_eq!(labels.len(), 29, "`lost_item` is one label");
    assert_eq!(joint["labels"], 29);
    assert_eq!(joint["examples"], 900);
    let mut hits = [0.0; 3];
    for (answer, row) in answers.iter_mut().zip(&examples) {
        answer.sort_by(|left, right| right.1.total_cmp(&left.1));
        let expected = row.label.as_ref().map(ToString::to_string);
        let mut seen = BTreeSet::new();
        answer.retain(|(name, _)| seen.insert(name.clone()));
        let place = answer
            .iter()
            .position(|(name, _)| Some(name) == expected.as_ref())
            .expect("a known label");
        for (hits, k) in hits.iter_mut().zip([1, 3, 5]) {
            *hits += f64::from(u8::from(place < k)) / 900.0;
        }
    }
    for (expected, k) in hits.iter().zip([1, 3, 5]) {
        let found = number(&joint[format!("hits_at_{k}")]);
        // A sum of 900 parts.
        assert!(
            (found - expected).abs() < 1e-9,
            "Hits@{k}: {found}, {expected}"
        );
    }
    assert!(
        hits[0] > 0.1 && hits[0] < hits[1] && hits[1] < hits[2],
        "{hits:?}"
    );
}

#[test]
fn the_merged_adapter_tells_of_its_search_and_brings_no_head() {
    let place = Workplace::new();
    let options = [
        "--space",
        "full",
        "--method",
        "dare",
        "--drops",
        "0.1,0.5",
        "--scales",
        "0.2,0.4",
        "--search-rows",
        "40",
        "--seed",
        "3",
    ];
    let found = search(&place, "first", &options);
    let provenance = read_json(&place.path("first/eigenmix.json"));
    assert_eq!(provenance["options"]["search"], found["search"]);
    assert_eq!(
        provenance["options"]["scale"],
        found["search"]["best"]["scale"]
    );
    let grid = &found["search"]["grid"];
    assert_eq!(
        grid["values"],
        json!({"scale": [0.2, 0.4], "drop": [0.1, 0.5]})
    );
    assert_eq!(grid["patience"], Value::Null, "these λ and no others");
    assert_eq!(found["search"]["tasks"][1]["validation"]["examples"], 40);
    assert_eq!(found["search"]["tasks"][1]["test"]["examples"], 300);
    let merged = AdapterFile::open(&place.path("first")).expect("an adapter");
    assert_eq!(merged.head_names().count(), 0);
    let page = fs::read_to_string(place.path("first/report.html")).expect("a page");
    for task in list(&found["search"]["tasks"]) {
        let name = task["name"].as_str().expect("a name");
        let accuracy = format!("{:.4}", number(&task["test"]["accuracy"]));
        assert!(page.contains(name) && page.contains(&accuracy), "{name}");
    }
    assert!(!page.contains("http"));

    search(&place, "second", &options);
    for file in [WEIGHTS, "eigenmix.json"] {
        let read = |name: &str| fs::read(place.path(name).join(file)).expect("a file");
        assert!(
            read("first") == read("second"),
            "{file} is not the same again"
        );
    }
}

#[test]
fn a_parameter_that_is_given_is_not_searched() {
    let place = Workplace::new();
    let options = [
        "--space",
        "core",
        "--method",
        "dare-ties",
        "--scale",
        "0.5",
        "--density",
        "0.3",
        "--drops",
        "0.2,0.4",
        "--search-rows",
        "20",
    ];
    let found = search(&place, "m", &options);
    let trials = list(&found["search"]["trials"]);
    assert_eq!(trials.len(), 2);
    for trial in trials {
        assert_eq!(trial["scale"], 0.5);
        assert_eq!(trial["method"]["dare-ties"]["density"], 0.3);
    }
}

#[test]
fn people_read_a_table_and_where_the_heads_are() {
    let place = Workplace::new();
    let (adapters, base) = (adapters(), quickstart("base"));
    let data = TASKS.map(data);
    let [gym, library, theatre] = adapters.each_ref().map(String::as_str);
    // Plain directories belong to the adapters in their order.
    let outcome = place.run(&[
        "merge", gym, library, theatre, "--out", "m", "--space", "core", "--method", "sum",
        "--search", "--scales", "0.3,0.6", "--base", &base, "--data", &data[0], "--data", &data[1],
        "--data", &data[2],
    ]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    for words in [
        "best     λ 0.",
        "normalised",
        "theatre",
        "mean",
        "29 labels",
        "Hits@3",
    ] {
        assert!(outcome.stdout.contains(words), "{words}: {outcome:?}");
    }
    for words in ["classifier.weight", "--head ADAPTER"] {
        assert!(outcome.stderr.contains(words), "{words}: {outcome:?}");
    }
}
