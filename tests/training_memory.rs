//! What a training really takes, against what `--dry-run` says of it. Needs Linux to ask the kernel.
#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use support::Workplace;
use support::png::rgb_png;

const WIDTH: usize = 256;
const LAYERS: usize = 8;
const LENGTH: usize = 512;

/// A decoder large enough that its activations outweigh everything that is not in the estimate.
fn write_decoder(place: &Workplace) {
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 64,
        "hidden_size": WIDTH, "intermediate_size": 3 * WIDTH, "num_hidden_layers": LAYERS,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
        "tie_word_embeddings": true, "eos_token_id": 0
    });
    let vocabulary: serde_json::Map<String, Value> =
        (0..64).map(|id| (format!("w{id}"), json!(id))).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w1"}
    });
    for directory in ["sizes", "data"] {
        fs::create_dir(place.path(directory)).expect("a directory");
    }
    let names = json!({"eos_token": "w0"});
    for (name, content) in [
        ("config.json", config),
        ("tokenizer.json", tokenizer),
        ("tokenizer_config.json", names),
    ] {
        fs::write(place.path("sizes").join(name), content.to_string()).expect("a file");
    }
    let words: Vec<String> = (0..LENGTH - 2)
        .map(|place| format!("w{}", 2 + place * 7 % 61))
        .collect();
    let row = json!({"text": words.join(" ")}).to_string();
    fs::write(place.path("data/train.jsonl"), [row.as_str(); 4].join("\n")).expect("a file");
}

fn write_config(place: &Workplace, name: &str, base: &str, adapter: &str, steps: usize) {
    let task = format!("max_length = {LENGTH}\n[task]\nkind = \"causal-lm\"");
    write_training(place, name, (base, &task), adapter, steps, 1);
}

/// - task: the rest of `[data]`, and the table of the task
fn write_training(
    place: &Workplace,
    name: &str,
    (base, task): (&str, &str),
    adapter: &str,
    steps: usize,
    batch_size: usize,
) {
    let text = format!(
        r#"
        output = "{name}"
        [base]
        {base}
        [data]
        path = "data"
        {task}
        [adapter]
        {adapter}
        [training]
        epochs = 1
        max_steps = {steps}
        batch_size = {batch_size}
        learning_rate = 1e-4
        evaluate_every = 0
        "#
    );
    fs::write(place.path(&format!("{name}.toml")), text).expect("a file");
}

/// The most bytes that a training had at once, files that are only mapped aside.
fn peak(place: &Workplace, arguments: &[&str]) -> f64 {
    let mut process = Command::new(env!("CARGO_BIN_EXE_eigenmix"))
        .args(arguments)
        .current_dir(place.path(""))
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let path = format!("/proc/{}/status", process.id());
    let mut most = 0.0;
    let status = loop {
        if let Some(status) = process.try_wait().expect("a process") {
            break status;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        // The process keeps what it once had, so that no peak lies between two looks.
        most = number.map_or(most, |number| f64::max(most, 1024.0 * number));
        sleep(Duration::from_millis(2));
    };
    assert!(status.success(), "{status}");
    most
}

#[test]
fn gradient_checkpointing_saves_as_much_as_the_dry_run_says() {
    let place = Workplace::new();
    write_decoder(&place);
    let scratch = "model = \"sizes\"\nfrom_scratch = true";
    write_config(&place, "base", scratch, "method = \"full\"", 1);
    place.run_json(&["train", "base.toml", "--quiet"]);
    let adapter = "method = \"lora\"\nrank = 8\ntarget_modules = \"all-linear\"";
    write_config(&place, "lora", "model = \"base/model\"", adapter, 2);

    let [everything, inputs] = found_and_estimated(&place, "lora.toml");
    let [saved, promised] = [0, 1].map(|index| everything[index] - inputs[index]);
    assert!(saved > 0.75 * promised, "{saved} of {promised}");
    assert_near(everything);
    assert_near(inputs);
}

/// The peak of a training and its estimate, without gradient checkpointing and with it.
fn found_and_estimated(place: &Workplace, file: &str) -> [[f64; 2]; 2] {
    ["false", "true"].map(|checkpointing| {
        let change = format!("training.gradient_checkpointing={checkpointing}");
        let set = ["train", file, "--set", &change];
        let estimate = place.run_json(&[&set[..], &["--dry-run"]].concat());
        let estimate = estimate["total"].as_f64().expect("a number");
        // Every thread more has memory of its own for what it works on.
        let run = ["--force", "--quiet", "--threads", "2"];
        let found = peak(place, &[&set[..], &run].concat());
        println!("{file}, checkpointing {checkpointing}: {found} found, {estimate} estimated");
        [found, estimate]
    })
}

fn assert_near([found, estimate]: [f64; 2]) {
    // The program itself, its threads and the tokenizer are not in the estimate.
    const PROGRAM: f64 = 32e6;
    assert!(found < 1.25 * estimate + PROGRAM, "{found} of {estimate}");
    assert!(found > 0.75 * estimate, "{found} of {estimate}");
}

const SIDE: usize = 112;

/// A vision-language model whose tower and decoder weigh about the same, and questions about an image each.
fn write_vision_language(place: &Workplace) {
    let golden = |name: &str| {
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/vision_language_base");
        fs::read_to_string(folder.join(name)).expect("a file")
    };
    let mut config: Value = serde_json::from_str(&golden("config.json")).expect("JSON");
    for (key, value) in [
        ("hidden_size", 256),
        ("intermediate_size", 512),
        ("num_hidden_layers", 5),
        ("max_position_embeddings", 512),
        ("head_dim", 64),
    ] {
        config["text_config"][key] = json!(value);
    }
    // The fifth layer is above the features.
    for (key, value) in [
        ("hidden_size", 192),
        ("intermediate_size", 768),
        ("num_hidden_layers", 5),
        ("image_size", SIDE),
        ("patch_size", 8),
    ] {
        config["vision_config"][key] = json!(value);
    }
    config["image_seq_length"] = json!(196);
    let mut processor: Value =
        serde_json::from_str(&golden("processor_config.json")).expect("JSON");
    processor["image_processor"]["size"] = json!({"shortest_edge": SIDE});
    processor["image_processor"]["crop_size"] = json!({"height": SIDE, "width": SIDE});
    processor["patch_size"] = json!(8);
    for directory in ["sizes", "data"] {
        fs::create_dir(place.path(directory)).expect("a directory");
    }
    let names = [
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    ];
    let files = names.map(|name| (name, golden(name)));
    let made = [
        ("config.json", config.to_string()),
        ("processor_config.json", processor.to_string()),
    ];
    for (name, content) in files.into_iter().chain(made) {
        fs::write(place.path("sizes").join(name), content).expect("a file");
    }
    let pixels: Vec<u8> = (0..3 * SIDE * SIDE)
        .map(|at| (at * 7 % 251) as u8)
        .collect();
    fs::write(place.path("data/picture.png"), rgb_png(SIDE, SIDE, &pixels)).expect("an image");
    let answer = "red green blue white ".repeat(14);
    let row = json!({"image": "picture.png", "conversations": [
        {"from": "human", "value": "<image>\nanswer"}, {"from": "gpt", "value": answer.trim()}]});
    let row = row.to_string();
    fs::write(place.path("data/train.jsonl"), [row.as_str(); 8].join("\n")).expect("a file");
}

#[test]
fn a_tower_and_a_decoder_take_what_the_dry_run_says_of_each() {
    let place = Workplace::new();
    write_vision_language(&place);
    let task = "max_length = 256\n[task]\nkind = \"vision-language\"";
    let scratch = ("model = \"sizes\"\nfrom_scratch = true", task);
    write_training(&place, "base", scratch, "method = \"full\"", 1, 1);
    place.run_json(&["train", "base.toml", "--quiet"]);
    let mut estimates = Vec::new();
    for (name, targets) in [
        ("decoder", "\".*language_model.*\""),
        ("tower", "\".*vision_tower.*\""),
        ("both", "\"all-linear\""),
    ] {
        let adapter = format!("method = \"lora\"\nrank = 8\ntarget_modules = {targets}");
        let base = ("model = \"base/model\"", task);
        write_training(&place, name, base, &adapter, 2, 8);
        let found = found_and_estimated(&place, &format!("{name}.toml"));
        found.into_iter().for_each(assert_near);
        estimates.push(found[0][1]);
    }
    // A frozen tower keeps nothing.
    assert!(estimates[0] < 0.8 * estimates[2], "{estimates:?}");
}
