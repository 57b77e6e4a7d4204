//! `adapter.init = "ADAPTER"`: a training that goes on from an existing adapter, through the binary.

mod refusals;
#[path = "../support/mod.rs"]
mod support;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use eigenmix_adapter::{Adapter, AdapterFile, Labels, LoraModule, SaveOptions};
use eigenmix_tensors::{HostTensor, Matrix, TensorFile, TensorOutput, write_tensor_file};
use serde_json::{Value, json};
use support::stopped_training::train;
use support::{Outcome, Workplace, metrics, quickstart, read_json};

/// A training on the gym's data, all of whose examples are one batch: the loss of its first step is the
/// mean loss where it starts. `adapter` is the rest of its table.
fn configuration(output: &Path, adapter: &str) -> String {
    format!(
        r#"
        seed = 5
        output = "{output}"
        [base]
        model = "{base}"
        [data]
        path = "{data}"
        max_length = 48
        [adapter]
        {adapter}
        [training]
        epochs = 3
        batch_size = 600
        learning_rate = 2e-3
        log_every = 1
        "#,
        output = output.display(),
        base = quickstart("base"),
        data = quickstart("tasks/gym"),
    )
}

fn write(place: &Workplace, name: &str, adapter: &str) -> String {
    let file = format!("{name}.toml");
    let text = configuration(&place.path(name), adapter);
    fs::write(place.path(&file), text).expect("a file");
    file
}

/// Trains and gives the losses and how the command ended.
fn run(place: &Workplace, name: &str, adapter: &str) -> (Vec<f64>, Outcome) {
    let file = write(place, name, adapter);
    let outcome = place.run(&["train", &file]);
    assert_eq!(outcome.status, 0, "{name}: {outcome:?}");
    let lines = metrics(&place.path(name)).into_iter();
    let steps = lines.filter(|line| line["split"].is_null());
    let losses = steps.map(|line| line["loss"].as_f64().expect("a loss"));
    (losses.collect(), outcome)
}

/// The mean loss of an adapter on the split that is trained on.
fn evaluated(place: &Workplace, adapter: &str) -> f64 {
    let (base, data) = (quickstart("base"), quickstart("tasks/gym"));
    let found = place.run_json(&[
        "evaluate",
        "--base",
        &base,
        "--adapter",
        adapter,
        "--data",
        &data,
        "--split",
        "train",
    ]);
    found["loss"].as_f64().expect("a loss")
}

fn gym() -> Adapter {
    let file = AdapterFile::open(Path::new(&quickstart("adapters/gym"))).expect("an adapter");
    file.load().expect("an adapter")
}

/// Saves an adapter as PEFT would, and changes its configuration.
fn save(place: &Workplace, name: &str, adapter: &Adapter, changes: Value) {
    let saved = adapter.save(&place.path(name), &SaveOptions::default());
    saved.expect("an adapter that can be saved");
    let mut config = place.config(name);
    let config_of = config.as_object_mut().expect("an object");
    for (key, value) in changes.as_object().expect("an object") {
        config_of.insert(key.clone(), value.clone());
    }
    place.write_config(name, &config);
}

/// A module of rank r as one of rank 2: half of its factors.
fn halved(module: &LoraModule) -> LoraModule {
    let (a, b) = (&module.a, &module.b);
    LoraModule::new(
        Matrix::from_fn(b.rows(), 2, |row, col| b.get(row, col)),
        Matrix::from_fn(2, a.cols(), |row, col| a.get(row, col)),
        module.scaling,
    )
}

fn assert_same_loss(found: f64, expected: f64, what: &str) {
    // Means over 600 examples of losses of size one, in f32.
    assert!(
        (found - expected).abs() < 1e-6,
        "{what}: {found}, not {expected}"
    );
}

#[test]
fn the_first_step_has_the_loss_of_the_adapter_and_the_next_ones_lower_it() {
    let place = Workplace::new();
    save(
        &place,
        "stabilised",
        &gym(),
        json!({"use_rslora": true, "lora_alpha": 3}),
    );
    let mut uneven = gym();
    let first = uneven.modules.values_mut().next().expect("a module");
    *first = halved(first);
    let patterns = json!({"alpha_pattern": {"query": 5}});
    save(&place, "uneven", &uneven, patterns);
    let gym = quickstart("adapters/gym");
    for (name, adapter) in [
        ("plain", &gym),
        ("stabilised", &"stabilised".to_owned()),
        ("uneven", &"uneven".to_owned()),
    ] {
        let expected = evaluated(&place, adapter);
        for (method, more) in [
            ("lora", ""),
            ("moslora", ""),
            ("lora", "rank = 7"),
            ("moslora", "rank = 6\nmixer = \"identity\""),
        ] {
            let name = format!("{name}-{method}-{}", more.len());
            let table = format!("method = \"{method}\"\ninit = \"{adapter}\"\n{more}");
            let (losses, outcome) = run(&place, &name, &table);
            assert_same_loss(losses[0], expected, &name);
            assert!(losses[2] < losses[0], "{name}: {losses:?}");
            assert!(!outcome.stderr.contains("anew"), "{outcome:?}");
        }
    }
}

#[test]
fn a_run_is_gone_on_from_with_its_rank_its_scaling_and_its_head() {
    let place = Workplace::new();
    let (_, _) = run(&place, "first", "method = \"lora\"\nrank = 3\nalpha = 5");
    let expected = evaluated(&place, "first");
    let (losses, _) = run(&place, "second", "method = \"lora\"\ninit = \"first\"");
    assert_same_loss(losses[0], expected, "the adapter");
    let made = read_json(&place.path("second/adapter/eigenmix.json"));
    let first = AdapterFile::open(&place.path("first/adapter")).expect("an adapter");
    let source = json!({"location": "first", "sha256": first.source().sha256});
    assert_eq!(made["sources"], json!([source]));
    let options = &made["options"];
    assert_eq!(
        (&options["rank"], &options["alpha"]),
        (&json!(3), &json!(5.0))
    );
    // Its own options again, and the ones that its file had not.
    let same = "method = \"lora\"\nrank = 3\nalpha = 5\ntarget_modules = [\"query\", \"value\"]\ninit = \"second\"";
    let expected = evaluated(&place, "second");
    let (losses, _) = run(&place, "third", same);
    assert_same_loss(losses[0], expected, "the adapter of the adapter");
}

#[test]
fn a_head_in_another_order_is_put_into_that_of_the_data() {
    let place = Workplace::new();
    let mut turned = gym();
    let labels = turned.labels.as_mut().expect("labels");
    labels.0.rotate_left(3);
    let count = labels.len();
    labels.0[0] = labels.0[0].to_uppercase();
    for tensor in turned.heads.values_mut() {
        let width = tensor.values.len() / count;
        tensor.values.rotate_left(3 * width);
    }
    save(&place, "turned", &turned, json!({}));
    save(&place, "straight", &gym(), json!({}));
    let (expected, _) = run(&place, "plain", "method = \"lora\"\ninit = \"straight\"");
    let (found, _) = run(&place, "other", "method = \"lora\"\ninit = \"turned\"");
    assert_eq!(found, expected);
    let labels = |run: &str| read_json(&place.path(run).join("adapter/labels.json"));
    assert_eq!(labels("other"), labels("plain"));
}

#[test]
fn a_head_for_other_labels_and_a_missing_one_start_anew_with_a_note() {
    let place = Workplace::new();
    let (mut other, mut bare, mut unnamed) = (gym(), gym(), gym());
    let count = other.labels.as_ref().expect("labels").len();
    let names = (0..count).map(|number| format!("label {number}"));
    other.labels = Some(Labels(names.collect()));
    (bare.heads, bare.labels) = (BTreeMap::new(), None);
    unnamed.labels = None;
    for (name, adapter, reason) in [
        ("other", other, "`other` has a head for other labels"),
        ("bare", bare, "`bare` has no head"),
        ("unnamed", unnamed, "nothing says for which labels"),
    ] {
        save(&place, name, &adapter, json!({}));
        let table = format!("method = \"lora\"\ninit = \"{name}\"");
        let (losses, outcome) = run(&place, &format!("run-{name}"), &table);
        assert!(outcome.stderr.contains(reason), "{outcome:?}");
        assert!(outcome.stderr.contains("starts anew"), "{outcome:?}");
        // A new head of small weights: about ln 10.
        assert!((losses[0] - 2.3).abs() < 0.2, "{losses:?}");
    }
}

#[test]
fn a_projection_says_what_it_keeps_and_takes_the_head_along() {
    let place = Workplace::new();
    let adapters = ["bakery", "gym", "library"].map(|name| quickstart(&format!("adapters/{name}")));
    let gym = quickstart("adapters/gym");
    let expected = evaluated(&place, &gym);
    for method in ["eigenmix", "eigenlorax"] {
        let table = |init: &str, more: &str| {
            format!(
                "method = \"{method}\"\nrank = 4\nadapters = {adapters:?}\ninit = \"{init}\"\n{more}"
            )
        };
        let (losses, outcome) = run(&place, method, &table(&gym, "components = \"all\""));
        assert!(
            outcome.stderr.contains("keeps 100.0 % of its energy"),
            "{outcome:?}"
        );
        // The projection is a product of f32 factors.
        assert!(
            (losses[0] - expected).abs() < 1e-4,
            "{losses:?}, not {expected}"
        );
        let sha256 = AdapterFile::open(Path::new(&gym))
            .expect("an adapter")
            .source()
            .sha256;
        let basis = read_json(&place.path(method).join("basis.json"));
        assert_eq!(basis["started_from"]["sha256"], json!(sha256));
        assert_eq!(basis["sources"].as_array().map(Vec::len), Some(3));
        // Of fewer components less is kept, and of a projection alone no head.
        let name = format!("{method}-alone");
        let alone = table(&format!("project:{gym}"), "components = 2");
        let (losses, outcome) = run(&place, &name, &alone);
        let note = outcome.stderr.split("which keeps ").nth(1).expect("a note");
        let kept: f64 = note
            .split(' ')
            .next()
            .and_then(|kept| kept.parse().ok())
            .expect("a number");
        assert!((5.0..95.0).contains(&kept), "{kept}");
        assert!((losses[0] - 2.3).abs() < 0.2, "{losses:?}");
        // An adapter that is none of the sources is named beside them.
        let made = read_json(&place.path(method).join("adapter/eigenmix.json"));
        assert_eq!(made["sources"].as_array().map(Vec::len), Some(3));
    }
    let theatre = quickstart("adapters/pet_clinic");
    if Path::new(&theatre).exists() {
        let table = format!(
            "method = \"eigenmix\"\nrank = 4\nadapters = {adapters:?}\ninit = \"{theatre}\""
        );
        run(&place, "stranger", &table);
        let made = read_json(&place.path("stranger/adapter/eigenmix.json"));
        assert_eq!(made["sources"][3]["location"], json!(theatre));
    }
}

#[test]
fn a_resumed_training_reads_no_other_start() {
    let place = Workplace::new();
    run(&place, "first", "method = \"lora\"\nrank = 3");
    for (method, more) in [("lora", "rank = 5"), ("moslora", "")] {
        let init = place.path("first").display().to_string();
        let table = format!("method = \"{method}\"\ninit = \"{init}\"\ndropout = 0.1\n{more}");
        let text = |name: &str| {
            configuration(&place.path(name), &table).replace("batch_size = 600", "batch_size = 64")
        };
        let (whole, parts) = (format!("{method}-whole"), format!("{method}-parts"));
        train(&text(&whole), false, usize::MAX);
        train(&text(&parts), false, 4);
        train(&text(&parts), true, 17);
        train(&text(&parts), true, usize::MAX);
        let weights = |run: &str| {
            fs::read(place.path(run).join("adapter/adapter_model.safetensors")).expect("an adapter")
        };
        assert_eq!(metrics(&place.path(&parts)), metrics(&place.path(&whole)));
        assert_eq!(weights(&parts), weights(&whole));
    }
    let table = "method = \"lora\"\ninit = \"first\"";
    let stopped = configuration(
        &place.path("stopped"),
        &table.replace("first", &place.path("first").display().to_string()),
    );
    train(&stopped, false, 2);
    fs::write(place.path("stopped.toml"), &stopped).expect("a file");
    let resume = ["train", "stopped.toml", "--resume"];
    let original = place.config("first/adapter");
    let mut other = original.clone();
    other["lora_alpha"] = json!(7);
    place.write_config("first/adapter", &other);
    let outcome = place.run(&resume);
    assert_eq!(outcome.status, 2, "{outcome:?}");
    assert!(
        outcome.stderr.contains("its scaling is another"),
        "{outcome:?}"
    );
    place.write_config("first/adapter", &original);
    fs::remove_dir_all(place.path("first")).expect("it is there");
    run(&place, "first", "method = \"lora\"\nrank = 3\nalpha = 1");
    let outcome = place.run(&resume);
    assert_eq!(outcome.status, 2, "{outcome:?}");
    assert!(
        outcome
            .stderr
            .contains("has changed since the training began"),
        "{outcome:?}"
    );
}

#[test]
fn a_dry_run_counts_what_the_training_trains() {
    let place = Workplace::new();
    let mut uneven = gym();
    let first = uneven.modules.values_mut().next().expect("a module");
    *first = halved(first);
    save(&place, "uneven", &uneven, json!({}));
    for (number, more) in ["", "rank = 6"].into_iter().enumerate() {
        for method in ["lora", "moslora"] {
            let name = format!("{method}-{number}");
            let file = write(
                &place,
                &name,
                &format!("method = \"{method}\"\ninit = \"uneven\"\n{more}"),
            );
            let counted = place.run_json(&["train", &file, "--dry-run"]);
            let trained = place.run_json(&["train", &file]);
            for key in ["adapter_parameters", "head_parameters"] {
                assert_eq!(counted[key], trained[key], "{name}: {key}");
            }
        }
    }
}

#[test]
fn another_input_than_that_of_the_adapter_is_noted_once() {
    let place = Workplace::new();
    run(&place, "first", "method = \"lora\"\nrank = 3");
    let (_, outcome) = run(&place, "same", "method = \"lora\"\ninit = \"first\"");
    assert!(!outcome.stderr.contains("another input"), "{outcome:?}");
    let path = place.path("first/adapter/eigenmix.json");
    let mut made = read_json(&path);
    made["input"]["text"] = json!("sentence");
    made["input"]["text_pair"] = json!("answer");
    fs::write(&path, made.to_string()).expect("a file");
    let (_, outcome) = run(&place, "other", "method = \"lora\"\ninit = \"first\"");
    let note = "data.text = \"sentence\" there, \"text\" here, data.text_pair = \"answer\" there, none here";
    assert_eq!(outcome.stderr.matches(note).count(), 1, "{outcome:?}");
}

#[test]
fn a_pooler_that_came_with_the_head_is_gone_on_from_and_saved_again() {
    let place = Workplace::new();
    let bare = place.path("base");
    fs::create_dir(&bare).expect("a directory");
    for entry in fs::read_dir(quickstart("base")).expect("the base model") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, bare.join(path.file_name().expect("a name"))).expect("a copy");
    }
    let weights = bare.join("model.safetensors");
    let whole = TensorFile::open(&weights).expect("weights");
    let names: Vec<String> = whole.names().map(str::to_owned).collect();
    let kept = names.iter().filter(|name| !name.contains("pooler"));
    let tensors: Vec<(&String, Vec<usize>, Vec<f32>)> = kept
        .map(|name| {
            let shape = whole.shape(name).expect("a tensor").to_vec();
            (name, shape, whole.read_finite_f32(name).expect("numbers"))
        })
        .collect();
    assert!(tensors.len() < names.len(), "the base model has a pooler");
    let outputs = tensors
        .iter()
        .map(|(name, shape, values)| TensorOutput::f32((*name).clone(), shape.clone(), values));
    write_tensor_file(&weights, outputs.collect()).expect("a file");
    let trained = |name: &str, adapter: &str| {
        let text = configuration(&place.path(name), adapter);
        let text = text.replace(&quickstart("base"), &bare.display().to_string());
        train(&text, false, usize::MAX)
    };
    trained("first", "method = \"lora\"\nrank = 3");
    let data = quickstart("tasks/gym");
    let evaluate = [
        "evaluate",
        "--base",
        "base",
        "--adapter",
        "first",
        "--data",
        &data,
    ];
    let found = place.run_json(&[&evaluate[..], &["--split", "train"]].concat());
    let init = place.path("first").display().to_string();
    let losses = trained("second", &format!("method = \"lora\"\ninit = \"{init}\""));
    assert_same_loss(losses[0], found["loss"].as_f64().expect("a loss"), "pooler");
    let heads = |run: &str| {
        let file = AdapterFile::open(&place.path(run).join("adapter")).expect("an adapter");
        file.heads().expect("tensors")
    };
    let (first, second) = (heads("first"), heads("second"));
    let pooler = first
        .keys()
        .find(|name| name.contains("pooler.dense.weight"));
    let pooler = pooler.expect("a pooler is trained with the head");
    assert_ne!(first[pooler], second[pooler], "it is trained on");
}
