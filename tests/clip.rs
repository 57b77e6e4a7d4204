//! Zero-shot classification with a tiny CLIP: against transformers and PEFT
//! (tests/golden/clip/make_golden.py), and as the head of trainings.

mod support;
use std::fs;
use std::path::{Path, PathBuf};

use eigenmix_adapter::AdapterFile;
use eigenmix_tensors::{TensorFile, TensorOutput, write_tensor_file};
use serde_json::{Value, json};
use support::image_tasks::{Attribute, TaskSize, write_image_task};
use support::{Workplace, largest_difference, read_json};

const ONE: &str = "a photo of a {}.";
const OTHER: &str = "the {}: TOY";

/// Logits of size 8 in f32.
const TOLERANCE: f32 = 2e-5;

fn golden(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/clip");
    folder.join(name).to_str().expect("UTF-8").to_owned()
}

/// Writes the values that make_golden.py shows the model.
fn write_images(path: &Path) {
    let shape = [3, 3, 32, 32];
    let count = shape.iter().product();
    let numbers = (0..count).map(|index: usize| (index * 37 % 101) as f32 / 64.0 - 0.75);
    let numbers: Vec<f32> = numbers.collect();
    let images = TensorOutput::f32("input.pixel_values", shape, &numbers);
    write_tensor_file(path, vec![images]).expect("a file");
}

#[test]
fn zero_shot_logits_are_those_of_transformers_and_peft() {
    let place = Workplace::new();
    write_images(&place.path("images.safetensors"));
    let reference = PathBuf::from(golden("reference.safetensors"));
    let reference = TensorFile::open(&reference).expect("a reference");
    let base = golden("base");
    for (name, adapter, prompts) in [
        ("logits.base", None, &[ONE][..]),
        ("logits.two_templates", None, &[ONE, OTHER]),
        ("logits.vision", Some("adapter-vision"), &[ONE]),
        // Its text features are those of the adapted text tower.
        (
            "logits.both_towers",
            Some("adapter-both-towers"),
            &[ONE, OTHER],
        ),
    ] {
        let adapter = adapter.map(golden);
        let mut arguments = vec!["forward", "--base", &base, "--inputs", "images.safetensors"];
        arguments.extend(["--out", "out.safetensors", "--force"]);
        arguments.extend(["--labels", "dog,cat_toy,map,a pot,oven"]);
        arguments.extend(prompts.iter().flat_map(|prompt| ["--prompt", prompt]));
        if let Some(adapter) = &adapter {
            arguments.extend(["--adapter", adapter]);
        }
        let outcome = place.run(&arguments);
        assert_eq!(outcome.status, 0, "{name}: {outcome:?}");
        let found = TensorFile::open(&place.path("out.safetensors")).expect("a file");
        assert_eq!(found.shape("logits").expect("logits"), [3, 5]);
        let found = found.read_f32("logits").expect("logits");
        let expected = reference.read_f32(name).expect("logits");
        let difference = largest_difference(&found, &expected);
        println!("{name}: {difference:e}");
        assert!(difference < TOLERANCE, "{name}: {difference}");
    }
}

const SIZE: TaskSize = TaskSize {
    side: 32,
    per_class: [8, 4, 6],
};

fn write_tasks(place: &Workplace) {
    write_image_task(&place.path("colors"), &[Attribute::Color], SIZE, 3);
    write_image_task(&place.path("quadrants"), &[Attribute::Quadrant], SIZE, 4);
}

/// Writes a training file.
fn write_config(place: &Workplace, name: &str, data: &str, adapter: &str) {
    let base = golden("base");
    let text = format!(
        r#"
        seed = 1
        output = "runs/{name}"
        [base]
        model = {base:?}
        [data]
        path = "{data}"
        [task]
        kind = "image-classification"
        prompts = ["{ONE}", "{OTHER}"]
        [adapter]
        {adapter}
        [training]
        epochs = 6
        batch_size = 8
        learning_rate = 2e-2
        log_every = 1
        "#
    );
    fs::write(place.path(&format!("{name}.toml")), text).expect("a file");
}

/// The mean of the logged losses of the first and of the last epoch.
fn losses(place: &Workplace, name: &str) -> [f64; 2] {
    let path = place.path(&format!("runs/{name}/metrics.jsonl"));
    let text = fs::read_to_string(path).expect("a log");
    let records = text.lines().map(serde_json::from_str);
    let records: Vec<Value> = records.collect::<Result<_, _>>().expect("JSON");
    let steps = records
        .iter()
        .filter(|record| record.get("learning_rate").is_some());
    let losses: Vec<f64> = steps
        .map(|record| record["loss"].as_f64().expect("a loss"))
        .collect();
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    [mean(&losses[..4]), mean(&losses[losses.len() - 4..])]
}

#[test]
fn every_method_trains_below_the_zero_shot_head_and_nothing_of_it() {
    let place = Workplace::new();
    write_tasks(&place);
    let lora = "method = \"lora\"\nrank = 3";
    write_config(&place, "quadrants", "quadrants", lora);
    place.run_json(&["train", "quadrants.toml"]);
    let basis = "adapters = [\"runs/quadrants/adapter\"]\nallow_base_mismatch = true";
    for (method, options) in [
        ("lora", "rank = 3"),
        ("moslora", "rank = 3"),
        ("eigenlorax", &format!("rank = 3\n{basis}")),
        ("eigenmix", &format!("rank = 3\n{basis}")),
    ] {
        let adapter = format!("method = \"{method}\"\n{options}");
        write_config(&place, method, "colors", &adapter);
        let outcome = place.run_json(&["train", &format!("{method}.toml")]);
        assert_eq!(outcome["head_parameters"], 0, "{method}");
        let [first, last] = losses(&place, method);
        println!("{method}: {first:.4} to {last:.4}");
        assert!(last < 0.97 * first, "{method}: {first} to {last}");
    }
}

#[test]
fn a_trained_adapter_is_plain_and_knows_its_labels_and_prompts() {
    let place = Workplace::new();
    write_tasks(&place);
    write_config(&place, "colors", "colors", "method = \"lora\"\nrank = 3");
    let outcome = place.run_json(&["train", "colors.toml"]);
    let path = place.path("runs/colors/adapter");
    let file = AdapterFile::open(&path).expect("an adapter");
    assert_eq!(file.head_names().next(), None);
    let config = read_json(&path.join("adapter_config.json"));
    assert_eq!(config["modules_to_save"], Value::Null);
    // PEFT finds q_proj in both towers, so short names would say too much.
    let targets = config["target_modules"].as_array().expect("names");
    assert_eq!(targets.len(), 4);
    let name = "vision_model.encoder.layers.0.self_attn.q_proj";
    assert!(targets.contains(&json!(name)), "{targets:?}");
    assert_eq!(read_json(&path.join("prompts.json")), json!([ONE, OTHER]));
    let labels = read_json(&path.join("labels.json"));
    let colors = ["blue", "green", "red", "yellow"];
    assert_eq!(labels["2"], "red");

    // Evaluation knows the prompts, agrees with the training, and can be given the same prompts.
    let base = golden("base");
    let common = ["--base", &base, "--adapter", "runs/colors"];
    let evaluate = [&["evaluate"], &common[..], &["--data", "colors"]].concat();
    let found = place.run_json(&evaluate);
    let accuracy = &found["metrics"]["accuracy"];
    assert_eq!(accuracy, &outcome["test"]["accuracy"]);
    let asked = [&evaluate[..], &["--prompt", ONE, "--prompt", OTHER]].concat();
    assert_eq!(place.run_json(&asked)["loss"], found["loss"]);
    let other = [&evaluate[..], &["--prompt", OTHER]].concat();
    assert_ne!(place.run_json(&other)["loss"], found["loss"]);

    // So do predictions.
    let mut paths = Vec::new();
    for color in colors {
        for index in 0..SIZE.per_class[2] {
            let path = place.path(&format!("colors/test/{color}/{index:04}.png"));
            paths.push(path.to_str().expect("UTF-8").to_owned());
        }
    }
    fs::write(place.path("paths.txt"), paths.join("\n")).expect("a file");
    let predict = [&["predict"], &common[..], &["--input", "paths.txt"]].concat();
    let predictions = place.run_json(&predict);
    let predictions = predictions["predictions"].as_array().expect("a list");
    assert_eq!(predictions.len(), paths.len());
    let right = predictions.iter().filter(|one| {
        let path = one["text"].as_str().expect("a path");
        path.contains(&format!(
            "/test/{}/",
            one["label"].as_str().expect("a label")
        ))
    });
    let expected = right.count() as f64 / paths.len() as f64;
    assert!((accuracy.as_f64().expect("a number") - expected).abs() < 1e-12);
}

#[test]
fn an_exported_adapter_keeps_its_prompts_and_a_merged_one_takes_those_of_another() {
    let place = Workplace::new();
    write_tasks(&place);
    for task in ["colors", "quadrants"] {
        write_config(&place, task, task, "method = \"moslora\"\nrank = 2");
        place.run_json(&["train", &format!("{task}.toml")]);
    }
    let base = golden("base");
    let evaluate = |adapter: &[&str]| {
        let common = ["evaluate", "--base", &base, "--data", "colors", "--adapter"];
        place.run_json(&[&common[..], adapter].concat())
    };
    place.run_json(&["export", "runs/colors", "--out", "exported"]);
    let trained = evaluate(&["runs/colors"]);
    assert_eq!(evaluate(&["exported"])["metrics"], trained["metrics"]);
    let merge = ["merge", "runs/colors", "runs/quadrants", "--out", "merged"];
    place.run_json(&[&merge[..], &["--space", "core", "--method", "sum"]].concat());
    assert!(!place.path("merged/prompts.json").exists());
    let with_head = evaluate(&["merged", "--head", "runs/colors"]);
    let asked = [
        "--labels",
        "blue,green,red,yellow",
        "--prompt",
        ONE,
        "--prompt",
        OTHER,
    ];
    let with_prompts = evaluate(&[&["merged"], &asked[..]].concat());
    assert_eq!(with_head["loss"], with_prompts["loss"]);
    // Without labels they are those of the training split.
    let of_data = evaluate(&[&["merged"], &asked[2..]].concat());
    assert_eq!(with_head["loss"], of_data["loss"]);
}

#[test]
fn the_checkpoint_of_a_full_training_is_still_a_whole_clip() {
    let place = Workplace::new();
    write_tasks(&place);
    write_config(&place, "full", "colors", "method = \"full\"");
    let few = [
        "--set",
        "training.epochs=1",
        "--set",
        "training.learning_rate=1e-3",
    ];
    let outcome = place.run_json(&[&["train", "full.toml"], &few[..]].concat());
    let asked = ["--data", "colors", "--prompt", ONE, "--prompt", OTHER];
    let found = place.run_json(&[&["evaluate", "--base", "runs/full/model"], &asked[..]].concat());
    assert_eq!(found["metrics"]["accuracy"], outcome["test"]["accuracy"]);
}

#[test]
fn what_cannot_be_asked_is_refused_by_name() {
    let place = Workplace::new();
    write_tasks(&place);
    write_images(&place.path("images.safetensors"));
    let base = golden("base");
    // The image tower alone, and a whole CLIP without its tokenizer.
    for name in ["vision", "wordless"] {
        let folder = place.path(name);
        fs::create_dir(&folder).expect("a directory");
        for file in [
            "model.safetensors",
            "preprocessor_config.json",
            "config.json",
        ] {
            fs::copy(Path::new(&base).join(file), folder.join(file)).expect("a file");
        }
    }
    let whole = read_json(&place.path("vision/config.json"));
    let config = whole["vision_config"].to_string();
    fs::write(place.path("vision/config.json"), config).expect("a file");

    let evaluate = ["evaluate", "--data", "colors", "--base"];
    let forward = [
        "forward",
        "--inputs",
        "images.safetensors",
        "--out",
        "o",
        "--base",
    ];
    for (command, rest, problem) in [
        (
            &evaluate[..],
            &["vision", "--prompt", ONE][..],
            "no text tower",
        ),
        (&evaluate, &["wordless", "--prompt", ONE], "tokenizer"),
        (&evaluate, &[&base, "--prompt", "a photo"], "has no {}"),
        (&evaluate, &[&base, "--labels", "red,blue"], "--prompt"),
        (
            &evaluate,
            &[&base, "--prompt", ONE, "--labels", "red,red"],
            "`red`",
        ),
        (&forward, &[&base, "--prompt", ONE], "--labels"),
        (
            &forward,
            &[
                &base,
                "--labels",
                "a,b",
                "--prompt",
                "abcdefghijklmnopqrstuvw {}",
            ],
            "24 tokens",
        ),
    ] {
        let message = place.run_refused(&[command, rest].concat());
        assert!(message.contains(problem), "{rest:?}: {message}");
    }
    write_config(
        &place,
        "vision-only",
        "colors",
        "method = \"lora\"\nrank = 3",
    );
    let message = place.run_refused(&["train", "vision-only.toml", "--set", "base.model=vision"]);
    assert!(message.contains("no text tower"), "{message}");
    // Every candidate of this search would need text features of its own.
    let both = golden("adapter-both-towers");
    let merge = [
        "merge", &both, &both, "--out", "m", "--space", "core", "--method", "sum",
    ];
    let data = [
        "--search", "--base", &base, "--data", "colors", "--data", "colors",
    ];
    let message = place.run_refused(&[&merge[..], &data, &["--prompt", ONE]].concat());
    assert!(message.contains("adapts the text tower"), "{message}");
}

/// `merge --search` of two adapters on their tasks.
fn search(place: &Workplace, adapters: [&str; 2], rest: &[&str]) -> Value {
    let base = golden("base");
    let mut arguments = vec!["merge", adapters[0], adapters[1], "--out", "merged"];
    arguments.extend(["--space", "knots", "--method", "sum", "--scales", "0.5,1"]);
    arguments.extend(["--search", "--base", &base, "--data", "colors"]);
    arguments.extend(["--data", "quadrants"]);
    arguments.extend(rest);
    place.run_json(&arguments)["search"].take()
}

fn accuracy(place: &Workplace, rest: &[&str]) -> f64 {
    let base = golden("base");
    let found = place.run_json(&[&["evaluate", "--base", &base], rest].concat());
    found["metrics"]["accuracy"].as_f64().expect("a number")
}

/// What a search says of both tasks on the test split, against what `evaluate` says.
fn assert_is_evaluated(place: &Workplace, report: &Value, adapters: [&str; 2], rest: &[&str]) {
    for (index, data) in ["colors", "quadrants"].into_iter().enumerate() {
        let (own, task) = (adapters[index], &report["tasks"][index]["test"]);
        let common = ["--data", data, "--head", own, "--adapter"];
        let evaluate = |adapter| accuracy(place, &[&common[..], &[adapter], rest].concat());
        assert_eq!(task["accuracy"], evaluate("merged"), "{report}");
        assert_eq!(task["own"], evaluate(own), "{report}");
    }
    assert_eq!(report["joint"]["labels"], 8);
}

#[test]
fn a_search_merges_below_zero_shot_heads_and_below_trained_ones() {
    let place = Workplace::new();
    write_tasks(&place);
    for task in ["colors", "quadrants"] {
        write_config(&place, task, task, "method = \"lora\"\nrank = 2");
        place.run_json(&["train", &format!("{task}.toml")]);
        let output = format!("output=runs/{task}-head");
        let own_head = ["--set", "task.prompts=[]", "--set", &output];
        place.run_json(&[&["train", &format!("{task}.toml")], &own_head[..]].concat());
    }
    for (adapters, rest) in [
        (["runs/colors", "runs/quadrants"], &[][..]),
        (["runs/colors", "runs/quadrants"], &["--prompt", OTHER]),
        (["runs/colors-head", "runs/quadrants-head"], &[]),
    ] {
        let forced = [rest, &["--force"]].concat();
        let report = search(&place, adapters, &forced);
        assert_is_evaluated(&place, &report, adapters, rest);
    }
    // Without labels beside it, an adapter is asked about those of its data.
    fs::remove_file(place.path("runs/colors/adapter/labels.json")).expect("a file");
    let adapters = ["runs/colors", "runs/quadrants"];
    let report = search(&place, adapters, &["--force"]);
    assert_eq!(report["tasks"][0]["labels"], 4);
}
