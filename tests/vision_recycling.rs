//! A little ViT from random weights to a recycled adapter, through the binary: it learns to see from
//! one question about images, adapters answer others, and a new one is made of those.

mod support;
use std::fs;
use std::path::Path;

use eigenmix_adapter::AdapterFile;
use serde_json::Value;
use support::Workplace;
use support::image_tasks::{Attribute, TEXTURES, TaskSize, write_image_task, write_vit};

const SIDE: usize = 16;
const SEED: u64 = 0;

/// The tables that all trainings here have in common.
fn tables(base: &str, adapter: &str, training: &str) -> String {
    format!(
        r#"
        [base]
        {base}
        [data]
        path = "tasks/pretraining"
        [task]
        kind = "image-classification"
        [adapter]
        {adapter}
        [training]
        scheduler = "linear"
        warmup_ratio = 0.06
        evaluate_every = 0
        {training}
        "#
    )
}

const LORA: &str = "method = \"lora\"\nrank = 8\ntarget_modules = \"all-linear\"";

/// Writes `tasks/NAME` with that many images of each class in every split.
fn write_task(place: &Workplace, name: &str, asked: &[Attribute], counts: [usize; 3], seed: u64) {
    let size = TaskSize {
        side: SIDE,
        per_class: counts,
    };
    write_image_task(&place.path("tasks").join(name), asked, size, seed);
}

/// Trains a ViT to classify shapes and places, to `base/model`.
fn pretrain(place: &Workplace) {
    write_vit(&place.path("sizes"), SIDE);
    let asked = [Attribute::Shape, Attribute::Quadrant];
    write_task(place, "pretraining", &asked, [60, 2, 10], SEED);
    let tables = tables(
        "model = \"sizes\"\nfrom_scratch = true",
        "method = \"full\"",
        "epochs = 16\nbatch_size = 32\nlearning_rate = 2e-3",
    );
    let config = format!("seed = {SEED}\noutput = \"base\"\n{tables}");
    fs::write(place.path("base.toml"), config).expect("a file");
    let outcome = place.run_json(&["train", "base.toml", "--quiet"]);
    // Of 16 classes.
    assert!(number(&outcome["test"]["accuracy"]) > 0.3, "{outcome}");
}

/// Trains adapters for questions that the base model was not trained on; returns their directories.
fn train_sources(place: &Workplace) -> Vec<String> {
    use Attribute::{Color, Quadrant, Shape, Texture};
    let questions: [(&str, &[Attribute]); 4] = [
        ("texture", &[Texture]),
        ("color", &[Color]),
        ("texture-quadrant", &[Texture, Quadrant]),
        ("color-shape", &[Color, Shape]),
    ];
    let tables = tables(
        "model = \"base/model\"",
        LORA,
        "epochs = 9\nbatch_size = 32\nlearning_rate = 4e-3",
    );
    let mut config = format!("output = \"sources\"\n{tables}");
    let mut sources = Vec::new();
    for ((name, asked), seed) in questions.into_iter().zip(SEED + 1..) {
        let count = match asked.len() {
            1 => 160,
            _ => 40,
        };
        write_task(place, name, asked, [count, 2, 10], seed);
        let arm = format!("name = \"{name}\"\nseed = {seed}\ndata.path = \"tasks/{name}\"");
        config += &format!("[[arm]]\n{arm}\n");
        sources.push(format!("sources/{name}/seed-{seed}/adapter"));
    }
    fs::write(place.path("sources.toml"), config).expect("a file");
    place.run_json(&["run", "sources.toml", "--quiet"]);
    sources
}

/// Learns colour and texture together, which no adapter was asked for, from 8 images of each of the
/// 16 classes, with every method; returns the report's arms.
fn train_unseen(place: &Workplace, sources: &[String]) -> Vec<Value> {
    let asked = [Attribute::Color, Attribute::Texture];
    write_task(place, "unseen", &asked, [12, 2, 20], SEED + 99);
    let tables = tables(
        "model = \"base/model\"",
        LORA,
        "epochs = 20\nbatch_size = 16\nlearning_rate = 5e-3",
    );
    let mut config = format!("seed = {SEED}\noutput = \"unseen\"\n{tables}");
    let recycled = format!("components = 12\ninit = \"merge\"\nadapters = {sources:?}");
    for (method, rest) in [
        ("lora", ""),
        ("moslora", ""),
        ("eigenlorax", recycled.as_str()),
        ("eigenmix", recycled.as_str()),
    ] {
        let data = "[arm.data]\npath = \"tasks/unseen\"\nexamples_per_class = 8";
        let adapter = format!("[arm.adapter]\nmethod = \"{method}\"\n{rest}");
        config += &format!("[[arm]]\nname = \"{method}\"\n{data}\n{adapter}\n");
    }
    fs::write(place.path("unseen.toml"), config).expect("a file");
    let report = place.run_json(&["run", "unseen.toml", "--quiet"]);
    report["arms"].as_array().expect("arms").clone()
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn evaluate(place: &Workplace, adapter: &str, head: &str, task: &str) -> f64 {
    let data = format!("tasks/{task}");
    let mut arguments = vec!["evaluate", "--base", "base/model", "--adapter", adapter];
    arguments.extend(["--head", head, "--data", &data]);
    number(&place.run_json(&arguments)["metrics"]["accuracy"])
}

/// The share of yellow images that `predict` calls yellow, as the names of its labels begin.
fn predicted_yellow(place: &Workplace, adapter: &str) -> f64 {
    let paths: Vec<String> = TEXTURES
        .iter()
        .flat_map(|texture| {
            (0..5).map(move |number| format!("tasks/unseen/test/yellow_{texture}/{number:04}.png"))
        })
        .collect();
    fs::write(place.path("images"), paths.join("\n")).expect("a file");
    let mut arguments = vec!["predict", "--base", "base/model", "--adapter", adapter];
    arguments.extend(["--input", "images"]);
    let found = place.run_json(&arguments);
    let found = found["predictions"].as_array().expect("predictions");
    assert_eq!(found.len(), paths.len());
    let is_yellow = |prediction: &&Value| {
        let label = prediction["label"].as_str().expect("a label");
        label.starts_with("yellow_")
    };
    found.iter().filter(is_yellow).count() as f64 / paths.len() as f64
}

/// A plain adapter with its own head and the names of its labels.
fn check_files(run: &Path, has_basis: bool) {
    let file = AdapterFile::open(&run.join("adapter")).expect("an adapter");
    file.require_clean().expect("nothing unexpected");
    assert_eq!(file.config().modules_to_save(), ["classifier"]);
    assert_eq!(
        file.heads().expect("a head")["classifier.weight"].shape,
        [16, 64]
    );
    let labels = file.labels().expect("labels");
    assert_eq!(labels.0[0], "blue_checks");
    assert!(file.zero_effect().expect("factors").is_empty());
    // Queries, keys, values, outputs, and both layers of the MLP.
    assert_eq!(file.load().expect("factors").modules.len(), 2 * 6);
    assert_eq!(run.join("coefficients.safetensors").is_file(), has_basis);
}

#[test]
fn an_unseen_question_is_answered_from_the_adapters_of_others() {
    let place = Workplace::new();
    pretrain(&place);
    let sources = train_sources(&place);
    let arms = train_unseen(&place, &sources);

    let trained = |arm: &Value| number(&arm["adapter_parameters"]);
    for arm in &arms {
        let name = arm["name"].as_str().expect("a name");
        let run = format!("unseen/{name}/seed-{SEED}");
        let accuracy = evaluate(&place, &run, &run, "unseen");
        println!("{name}: {} numbers, {accuracy}", trained(arm));
        assert_eq!(accuracy, number(&arm["metrics"]["accuracy"]["mean"]));
        // 16 classes: by chance 0.06.
        assert!(accuracy > 0.12, "{name}: {accuracy}");
        let has_basis = name.starts_with("eigen");
        check_files(&place.path(&run), has_basis);
        if has_basis {
            assert!(accuracy > 0.3, "{name}: {accuracy}");
            let yellow = predicted_yellow(&place, &run);
            assert!(yellow > 0.6, "{name}: {yellow}");
            assert!(4.0 * trained(arm) < trained(&arms[0]), "{name}");
        }
    }
    merges_load_and_run(&place, &sources);
}

fn merges_load_and_run(place: &Workplace, sources: &[String]) {
    let merge = |out: &str, rest: &[&str]| {
        let mut arguments = vec!["merge", "--out", out, "--space", "core"];
        arguments.extend(sources.iter().map(String::as_str));
        arguments.extend(rest);
        place.run_json(&arguments);
    };
    merge("average", &["--method", "average"]);
    let file = AdapterFile::open(&place.path("average")).expect("an adapter");
    assert_eq!(file.load().expect("factors").modules.len(), 2 * 6);
    assert!(file.zero_effect().expect("factors").is_empty());
    // How good it is depends on how well the tasks get along; that it runs does not.
    let of_average = evaluate(place, "average", &sources[1], "color");
    assert!((0.0..=1.0).contains(&of_average), "{of_average}");
    // With all weight on one adapter the merge is that one.
    merge("second", &["--method", "sum", "--weights", "0,1,0,0"]);
    let own = evaluate(place, &sources[1], &sources[1], "color");
    assert!(own > 0.8, "{own}");
    assert_eq!(evaluate(place, "second", &sources[1], "color"), own);
}
