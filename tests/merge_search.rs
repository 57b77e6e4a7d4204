//! `eigenmix merge --search` on the quick start's model: what it scores, finds, measures and refuses.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use adapter::{
    AdapterFile, Dtype, Matrix, SaveOptions, TensorFile, TensorOutput, write_tensor_file,
};
use serde_json::{Value, json};
use support::{WEIGHTS, Workplace, classifier_adapter, quickstart, read_json};
use trainer::data::{DataConfig, LabelPolicy, Split, read_split};
use trainer::{BaseModel, Classifier, DeviceChoice, Inputs, TaskHead};

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

    // What is written is the best merge, and its figures are those of the test split.
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
    let device = DeviceChoice::Cpu.open().expect("the CPU");
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
    let inputs = Inputs::Texts(encodings.encode_all(&examples, 48).expect("tokens"));
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
        assert_eq!(trial["method"]["dare_ties"]["density"], 0.3);
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

#[test]
fn a_head_can_be_taken_from_another_adapter() {
    let place = Workplace::new();
    let base = quickstart("base");
    let [gym, library, _] = adapters();
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
    for (task, head) in TASKS.iter().zip([&gym, &library]) {
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
    let [gym, library, _] = adapters();
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
    let [gym, library, _] = adapters();
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
        (&[of_gym, of_gym, of_library], &["`gym`", "two --data"]),
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
    let [gym, library, _] = adapters();
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
    let [gym, library, _] = adapters();
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
        ("headless", "bare", "has no head"),
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
    for task in list(&found["search"]["tasks"]) {
        assert_eq!(number(&task["test"]["normalised"]), 1.0, "{task}");
    }
}
