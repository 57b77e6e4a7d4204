//! Trainings on the quick start's own model and data: the whole path, resumption, bad input.

mod support;
use std::fs;
use std::path::Path;

use eigenmix_adapter::{AdapterFile, SaveOptions};
use eigenmix_tensors::{Dtype, Matrix, TensorFile, TensorOutput, write_tensor_file};
use serde_json::Value;
use support::stopped_training::train;
use support::{Workplace, largest_difference, metrics, quickstart};

/// A training of a few steps on few examples; `adapter` is the rest of its table.
fn configuration(output: &Path, adapter: &str) -> String {
    format!(
        r#"
        seed = 5
        output = "{output}"
        [base]
        model = "{base}"
        dropout = 0.1
        [data]
        path = "{data}"
        max_length = 48
        examples_per_class = 4
        [adapter]
        rank = 4
        dropout = 0.1
        {adapter}
        [training]
        epochs = 2
        batch_size = 8
        learning_rate = 5e-3
        warmup_ratio = 0.1
        log_every = 1
        "#,
        output = output.display(),
        base = quickstart("base"),
        data = quickstart("tasks/ferry_port"),
    )
}

/// The adapters to recycle, as a line of the `[adapter]` table.
fn sources() -> String {
    let names = ["bakery", "gym", "library"].map(|name| quickstart(&format!("adapters/{name}")));
    format!("adapters = {names:?}")
}

fn every_method() -> [(&'static str, String); 4] {
    [
        ("lora", "method = \"lora\"".to_owned()),
        ("moslora", "method = \"moslora\"".to_owned()),
        (
            "eigenlorax",
            format!("method = \"eigenlorax\"\n{}", sources()),
        ),
        (
            "eigenmix",
            format!("method = \"eigenmix\"\ncomponents = 6\n{}", sources()),
        ),
    ]
}

fn weights(run: &Path) -> Vec<u8> {
    fs::read(run.join("adapter/adapter_model.safetensors")).expect("an adapter")
}

#[test]
fn a_resumed_training_is_the_uninterrupted_one_to_the_bit() {
    let place = Workplace::new();
    for (name, adapter) in every_method() {
        let whole = place.path(&format!("{name}-whole"));
        let parts = place.path(&format!("{name}-parts"));
        train(&configuration(&whole, &adapter), false, usize::MAX);
        // Inside the first epoch, and inside the second.
        train(&configuration(&parts, &adapter), false, 2);
        train(&configuration(&parts, &adapter), true, 8);
        train(&configuration(&parts, &adapter), true, usize::MAX);
        assert_eq!(metrics(&parts), metrics(&whole), "{name}");
        assert_eq!(weights(&parts), weights(&whole), "{name}");
    }
}

#[test]
fn training_lowers_the_loss_and_writes_what_it_promises() {
    let place = Workplace::new();
    for (name, adapter) in every_method() {
        let output = place.path(name);
        let epochs = 24;
        let longer = format!("epochs = {epochs}");
        let longer = configuration(&output, &adapter).replace("epochs = 2", &longer);
        let losses = train(&longer, false, usize::MAX);
        // Whole epochs: the loss of a batch of eight depends on which eight more than on the training.
        let steps = losses.len() / epochs;
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
        let first = mean(&losses[..steps]);
        let last = mean(&losses[losses.len() - steps..]);
        assert!(last < 0.75 * first, "{name}: {first} to {last}");
        let file = AdapterFile::open(&output.join("adapter")).expect("an adapter");
        file.require_clean().expect("nothing unexpected");
        assert_eq!(
            file.labels().map(|labels| labels.len()),
            Some(file_classes(&file)),
            "{name}"
        );
        assert!(file.zero_effect().expect("factors").is_empty(), "{name}");
        assert_eq!(file.config().task_type(), Some("SEQ_CLS"));
        assert_eq!(file.config().modules_to_save(), ["classifier"]);
        let has_basis = name.starts_with("eigen");
        assert_eq!(
            output.join("coefficients.safetensors").is_file(),
            has_basis,
            "{name}"
        );
    }
}

/// The event files for TensorBoard in a run.
fn event_files(run: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(run)
        .expect("a run")
        .map(|entry| entry.expect("an entry"));
    let files = entries.filter(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with("events.out.tfevents.")
    });
    files
        .map(|file| fs::read(file.path()).expect("an event file"))
        .collect()
}

#[test]
fn tensorboard_gets_every_figure_unless_it_is_turned_off() {
    let place = Workplace::new();
    let configuration = configuration(&place.path("run"), "method = \"lora\"");
    train(&configuration, false, usize::MAX);
    let [events] = &event_files(&place.path("run"))[..] else {
        panic!("one event file")
    };
    let count = |tag: &str| {
        let windows = events.windows(tag.len());
        windows.filter(|window| *window == tag.as_bytes()).count()
    };
    let lines = metrics(&place.path("run"));
    let steps = lines
        .iter()
        .filter(|line| line.get("learning_rate").is_some());
    assert_eq!(count("train/loss"), steps.count());
    assert_eq!(count("train/learning_rate"), count("train/loss"));
    assert_eq!(count("validation/accuracy"), 2);
    assert_eq!(count("test/accuracy"), 1);
    let off = configuration.replace("log_every = 1", "tensorboard = false");
    let off = off.replace(
        &place.path("run").display().to_string(),
        &place.path("off").display().to_string(),
    );
    train(&off, false, usize::MAX);
    assert!(event_files(&place.path("off")).is_empty());
}

fn file_classes(file: &AdapterFile) -> usize {
    file.heads().expect("a head")["classifier.weight"].shape[0]
}

#[test]
fn coefficients_hold_only_what_was_trained() {
    let place = Workplace::new();
    let output = place.path("run");
    let adapter = format!("method = \"eigenmix\"\ncomponents = 6\n{}", sources());
    train(&configuration(&output, &adapter), false, usize::MAX);
    let file = TensorFile::open(&output.join("coefficients.safetensors")).expect("coefficients");
    let mixer = "bert.encoder.layer.1.attention.self.value/mixer";
    assert_eq!(file.shape(mixer).expect("a mixer"), [6, 6]);
    let names: Vec<&str> = file.names().collect();
    assert_eq!(names.len(), 4 + 2, "four mixers and the head: {names:?}");
}

#[test]
fn the_trained_adapter_predicts_and_evaluates_like_the_training_did() {
    let place = Workplace::new();
    let output = place.path("run");
    let text = configuration(&output, "method = \"lora\"").replace("epochs = 2", "epochs = 12");
    train(&text, false, usize::MAX);
    let tested = metrics(&output)
        .into_iter()
        .rfind(|line| line["split"] == "test")
        .expect("an evaluation of the test split");
    let (base, data) = (quickstart("base"), quickstart("tasks/ferry_port"));
    let arguments = [
        "evaluate",
        "--base",
        &base,
        "--adapter",
        "run",
        "--data",
        &data,
        "--json",
        "--quiet",
    ];
    let outcome = place.run(&arguments);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let found: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(found["metrics"]["accuracy"], tested["accuracy"]);

    fs::write(
        place.path("lines"),
        "i want to cancel my cabin\nhow much is a cabin\n",
    )
    .expect("a file");
    let arguments = [
        "predict",
        "--base",
        &base,
        "--adapter",
        "run",
        "--input",
        "lines",
    ];
    let outcome = place.run(&arguments);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert_eq!(outcome.stdout.lines().count(), 2);
    assert!(
        outcome.stdout.ends_with("\thow much is a cabin\n"),
        "{outcome:?}"
    );
}

/// Runs `train` on a configuration, which must end with status 2 and name all of `expected`.
fn is_refused(place: &Workplace, configuration: &str, expected: &[&str]) {
    fs::write(place.path("config.toml"), configuration).expect("a file");
    let outcome = place.run(&["train", "config.toml"]);
    assert_eq!(outcome.status, 2, "{outcome:?}");
    assert_eq!(
        outcome
            .stderr
            .trim_end()
            .lines()
            .filter(|line| line.starts_with("error"))
            .count(),
        1
    );
    for part in expected {
        assert!(
            outcome.stderr.contains(part),
            "`{part}` in {}",
            outcome.stderr
        );
    }
    assert!(!place.path("run").exists(), "something was written");
}

#[test]
fn an_unknown_key_is_refused_with_its_name() {
    let place = Workplace::new();
    let text = configuration(&place.path("run"), "method = \"lora\"");
    is_refused(&place, &text.replace("epochs", "epoch"), &["epoch"]);
}

#[test]
fn an_empty_dataset_is_refused() {
    let place = Workplace::new();
    fs::create_dir(place.path("data")).expect("a directory");
    fs::write(place.path("data/train.jsonl"), "").expect("a file");
    let text = configuration(&place.path("run"), "method = \"lora\"")
        .replace(&quickstart("tasks/ferry_port"), "data");
    is_refused(&place, &text, &["data/train.jsonl"]);
}

#[test]
fn an_adapter_of_another_base_model_is_refused_with_both_shapes() {
    let place = Workplace::new();
    place.save("stranger", &support::random_adapter(1, 2));
    let adapter = "method = \"eigenmix\"\nadapters = [\"stranger\"]";
    let text = configuration(&place.path("run"), adapter);
    is_refused(&place, &text, &["37", "23", "64"]);
}

#[test]
fn an_adapter_of_other_modules_is_refused_with_an_example_of_both() {
    let place = Workplace::new();
    let mut stranger = support::random_adapter(1, 2);
    let modules = std::mem::take(&mut stranger.modules).into_iter();
    stranger.modules = modules
        .map(|(path, module)| (path.replace("bert.encoder", "model"), module))
        .collect();
    place.save("stranger", &stranger);
    let adapter = "method = \"eigenlorax\"\nadapters = [\"stranger\"]";
    let text = configuration(&place.path("run"), adapter);
    is_refused(&place, &text, &["model.layer.0", "bert.encoder.layer.0"]);
}

#[test]
fn a_missing_base_model_is_refused_by_name() {
    let place = Workplace::new();
    let text = configuration(&place.path("run"), "method = \"lora\"")
        .replace(&quickstart("base"), "no/such/model");
    is_refused(&place, &text, &["no/such/model"]);
}

#[test]
fn an_unknown_label_at_evaluation_is_refused_with_its_line() {
    let place = Workplace::new();
    fs::create_dir(place.path("data")).expect("a directory");
    let row = "{\"text\": \"i want to swim\", \"label\": \"swim\"}\n";
    fs::write(place.path("data/test.jsonl"), row).expect("a file");
    let (base, adapter) = (quickstart("base"), quickstart("adapters/bakery"));
    let outcome = place.run(&[
        "evaluate",
        "--base",
        &base,
        "--adapter",
        &adapter,
        "--data",
        "data",
    ]);
    assert_eq!(outcome.status, 2, "{outcome:?}");
    assert!(
        outcome.stderr.contains("swim") && outcome.stderr.contains("test.jsonl:1"),
        "{outcome:?}"
    );
}

#[test]
fn a_run_is_neither_overwritten_nor_resumed_with_another_configuration() {
    let place = Workplace::new();
    let output = place.path("run");
    let text = configuration(&output, "method = \"lora\"");
    train(&text, false, 3);
    fs::write(place.path("config.toml"), &text).expect("a file");
    let again = place.run(&["train", "config.toml"]);
    assert_eq!(again.status, 2, "{again:?}");
    assert!(
        again.stderr.contains("--force") && again.stderr.contains("--resume"),
        "{again:?}"
    );
    let other = place.run(&[
        "train",
        "config.toml",
        "--resume",
        "--set",
        "training.epochs=3",
    ]);
    assert_eq!(other.status, 2, "{other:?}");
    assert!(other.stderr.contains("epochs"), "{other:?}");
}

#[test]
fn a_merged_checkpoint_gives_the_logits_of_base_and_adapter() {
    let place = Workplace::new();
    let (base, adapter) = (quickstart("base"), quickstart("adapters/gym"));
    let ids: Vec<u8> = [2i64, 40, 75, 300, 3, 2, 500, 21, 3, 0]
        .iter()
        .flat_map(|id| id.to_le_bytes())
        .collect();
    let mask: Vec<u8> = [1i64, 1, 1, 1, 1, 1, 1, 1, 1, 0]
        .iter()
        .flat_map(|id| id.to_le_bytes())
        .collect();
    let tensors = vec![
        TensorOutput::bytes("input.input_ids", vec![2, 5], Dtype::I64, &ids),
        TensorOutput::bytes("input.attention_mask", vec![2, 5], Dtype::I64, &mask),
    ];
    write_tensor_file(&place.path("in.safetensors"), tensors).expect("inputs");
    let run = |arguments: &[&str]| {
        let outcome = place.run(arguments);
        assert_eq!(outcome.status, 0, "{outcome:?}");
    };
    let inputs = ["--inputs", "in.safetensors", "--out"];
    run(&[
        "export",
        &adapter,
        "--merge-into-base",
        &base,
        "--out",
        "merged",
    ]);
    run(&[
        &["forward", "--base", "merged"],
        &inputs[..],
        &["merged.safetensors"],
    ]
    .concat());
    let with_adapter = ["forward", "--base", &base, "--adapter", &adapter];
    run(&[&with_adapter[..], &inputs[..], &["adapter.safetensors"]].concat());
    let logits = |name: &str| {
        let file = TensorFile::open(&place.path(name)).expect("logits");
        file.read_f32("logits").expect("logits")
    };
    let (merged, adapted) = (logits("merged.safetensors"), logits("adapter.safetensors"));
    assert_eq!(merged.len(), 2 * 10);
    // Logits of size ten, in f32, through another order of the same sums.
    assert!(
        largest_difference(&merged, &adapted) < 1e-4,
        "{merged:?} against {adapted:?}"
    );
}

#[test]
fn an_adapter_without_effect_is_reported() {
    let place = Workplace::new();
    let source = AdapterFile::open(Path::new(&quickstart("adapters/gym"))).expect("an adapter");
    let mut adapter = source.load().expect("an adapter");
    for module in adapter.modules.values_mut() {
        module.b = Matrix::zeros(module.d_out(), module.rank());
    }
    adapter
        .save(&place.path("idle"), &SaveOptions::default())
        .expect("a directory");
    let (base, data) = (quickstart("base"), quickstart("tasks/gym"));
    let outcome = place.run(&[
        "evaluate",
        "--base",
        &base,
        "--adapter",
        "idle",
        "--data",
        &data,
    ]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.stderr.contains("without effect"), "{outcome:?}");
}

#[test]
fn a_start_from_an_adapter_of_another_width_is_refused_with_both_shapes() {
    let place = Workplace::new();
    place.save("stranger", &support::random_adapter(1, 2));
    let adapter = format!(
        "method = \"eigenmix\"\ninit = \"project:stranger\"\n{}",
        sources()
    );
    let text = configuration(&place.path("run"), &adapter);
    is_refused(&place, &text, &["37", "23", "64"]);
}

#[test]
fn a_training_that_ends_inside_an_epoch_is_evaluated_there() {
    let place = Workplace::new();
    let output = place.path("run");
    let text = configuration(&output, "method = \"lora\"")
        .replace("epochs = 2", "epochs = 2\nmax_steps = 3");
    train(&text, false, usize::MAX);
    let evaluated = metrics(&output)
        .into_iter()
        .rfind(|line| line["split"] == "validation")
        .expect("an evaluation");
    assert_eq!(evaluated["step"], 3);
}

#[test]
fn a_training_stopped_or_killed_after_its_last_step_ends_with_its_validation() {
    let place = Workplace::new();
    let outcome = |run: &Path| -> Value {
        let text = fs::read_to_string(run.join("outcome.json")).expect("an outcome");
        serde_json::from_str(&text).expect("JSON")
    };
    for limit in ["", "max_steps = 3"] {
        let text = |output: &Path| {
            let usual = configuration(output, "method = \"lora\"");
            usual.replace("epochs = 2", &format!("epochs = 2\n{limit}"))
        };
        let (whole, parts) = (
            place.path(&format!("whole{limit}")),
            place.path(&format!("parts{limit}")),
        );
        let steps = train(&text(&whole), false, usize::MAX).len();
        let expected = outcome(&whole);
        assert!(expected["validation"]["accuracy"].is_number());
        train(&text(&parts), false, steps);
        train(&text(&parts), true, usize::MAX);
        assert_eq!(metrics(&parts), metrics(&whole), "{limit}");
        for key in ["validation", "test", "loss", "steps"] {
            assert_eq!(outcome(&parts)[key], expected[key], "{limit}: {key}");
        }
        // Killed when its last checkpoint was written.
        fs::remove_file(parts.join("outcome.json")).expect("a file");
        fs::remove_dir_all(parts.join("adapter")).expect("a directory");
        train(&text(&parts), true, usize::MAX);
        for key in ["validation", "test", "loss", "steps"] {
            assert_eq!(
                outcome(&parts)[key],
                expected[key],
                "killed, {limit}: {key}"
            );
        }
    }
}

#[test]
fn a_metric_that_does_not_fit_the_labels_is_refused_before_the_first_step() {
    let place = Workplace::new();
    for (metric, parts) in [
        ("pearson", ["`pearson` is for numbers", "a classification"]),
        ("f1", ["metric `f1` is for 2 classes", "choose `macro-f1`"]),
    ] {
        let text = configuration(&place.path("run"), "method = \"lora\"");
        let text = text.replace("[data]", &format!("[task]\nmetrics = [{metric:?}]\n[data]"));
        is_refused(&place, &text, &parts);
    }
}
