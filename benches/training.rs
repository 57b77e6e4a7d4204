//! How long a step of a training takes, and how long the program needs to reach its first one, for each
//! method and the shapes of an encoder and a decoder: `cargo bench --workspace --bench training`.
//!
//! It runs the program itself on models and data that it makes; where `benches/peft/compare.py` is
//! run too, the same values are compared with those of PyTorch and PEFT.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Steps of a run; the first is not counted.
const STEPS: usize = 8;

/// A model's shape and a batch of it.
struct Shape {
    name: &'static str,
    config: Value,
    kind: &'static str,
    batch: usize,
    length: usize,
    targets: &'static str,
}

fn main() -> Result<()> {
    let place = tempfile::tempdir()?;
    for shape in shapes() {
        let model = base_model(place.path(), &shape)?;
        let mut lora: Option<PathBuf> = None;
        for method in ["lora", "moslora", "eigenlorax", "eigenmix"] {
            let adapter = match (method, &lora) {
                ("eigenlorax" | "eigenmix", Some(lora)) => {
                    format!("adapters = [{lora:?}]\ncomponents = 8\nrank = 8")
                }
                _ => format!("rank = 8\nalpha = 16\ntarget_modules = {}", shape.targets),
            };
            let run = place.path().join(format!("{}-{method}", shape.name));
            let figures = train(&run, &model, &shape, method, &adapter)?;
            println!("{}, {method}: {figures}", shape.name);
            lora.get_or_insert(run.join("adapter"));
        }
    }
    Ok(())
}

fn shapes() -> [Shape; 2] {
    [
        Shape {
            name: "MiniLM's shape, 32 × 128",
            config: json!({
                "architectures": ["BertModel"], "model_type": "bert", "vocab_size": 30522,
                "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
                "intermediate_size": 1536, "hidden_act": "gelu", "max_position_embeddings": 512,
                "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0,
            }),
            kind: "sequence-classification",
            batch: 32,
            length: 128,
            targets: r#"["query", "value"]"#,
        },
        Shape {
            name: "a decoder of 124 M, 4 × 256",
            config: json!({
                "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32000,
                "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
                "num_key_value_heads": 4, "intermediate_size": 2048, "hidden_act": "silu",
                "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
                "tie_word_embeddings": false,
            }),
            kind: "causal-lm",
            batch: 4,
            length: 256,
            targets: r#""all-linear""#,
        },
    ]
}

/// A model with random weights: one step of full training from scratch at a rate of nothing.
fn base_model(place: &Path, shape: &Shape) -> Result<PathBuf> {
    let model = place.join(format!("{}-config", shape.name));
    fs::create_dir_all(&model)?;
    fs::write(model.join("config.json"), shape.config.to_string())?;
    let vocabulary = shape.config["vocab_size"].as_u64().unwrap_or_default();
    let words: serde_json::Map<String, Value> = (0..vocabulary)
        .map(|number| (format!("w{number}"), json!(number)))
        .collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": { "type": "WhitespaceSplit" }, "post_processor": null,
        "decoder": null, "model": { "type": "WordLevel", "vocab": words, "unk_token": "w1" },
    });
    fs::write(model.join("tokenizer.json"), tokenizer.to_string())?;
    let data = place.join(format!("{}-data", shape.name));
    fs::create_dir_all(&data)?;
    let rows: Vec<String> = (0..shape.batch)
        .map(|row| {
            let words = (0..shape.length).map(|column| {
                // Any words will do, as long as they are not all the same.
                format!("w{}", 8 + (row * 7919 + column * 104_729) % 20_000)
            });
            let text = words.collect::<Vec<_>>().join(" ");
            json!({ "text": text, "label": format!("label {}", row % 15) }).to_string()
        })
        .collect();
    fs::write(data.join("train.jsonl"), rows.join("\n"))?;
    let run = place.join(format!("{}-base", shape.name));
    let adapter = "";
    let extra = "from_scratch = true";
    let config = training_file(&run, &model, extra, &data, shape, "full", adapter, 1);
    run_program(&place.join("base.toml"), &config)?;
    Ok(run.join("model"))
}

#[expect(clippy::too_many_arguments, reason = "the parts of one file")]
fn training_file(
    output: &Path,
    model: &Path,
    base: &str,
    data: &Path,
    shape: &Shape,
    method: &str,
    adapter: &str,
    steps: usize,
) -> String {
    format!(
        "output = {output:?}\n[base]\nmodel = {model:?}\n{base}\n[data]\npath = {data:?}\n\
         max_length = {}\n[task]\nkind = {:?}\n[adapter]\nmethod = {method:?}\n{adapter}\n\
         [training]\nepochs = {steps}\nbatch_size = {}\nlearning_rate = 1e-4\nlog_every = 1\n\
         evaluate_every = 0\n",
        shape.length, shape.kind, shape.batch
    )
}

/// Median seconds of a step, and how long the first one took to come.
fn train(run: &Path, model: &Path, shape: &Shape, method: &str, adapter: &str) -> Result<String> {
    let data = run.with_file_name(format!("{}-data", shape.name));
    let config = training_file(run, model, "", &data, shape, method, adapter, STEPS);
    let start = Instant::now();
    run_program(&run.with_extension("toml"), &config)?;
    let whole = start.elapsed().as_secs_f64();
    let mut seconds = Vec::new();
    for line in fs::read_to_string(run.join("metrics.jsonl"))?.lines() {
        let line: Value = serde_json::from_str(line)?;
        if line.get("learning_rate").is_some() {
            let rate = line["examples_per_second"].as_f64().unwrap_or(f64::NAN);
            seconds.push(shape.batch as f64 / rate);
        }
    }
    let stepping: f64 = seconds.iter().sum();
    let mut later = seconds.split_off(1);
    later.sort_by(f64::total_cmp);
    Ok(format!(
        "{:.3} s a step, the first {:.3}; {:.2} s for everything but the steps",
        later[later.len() / 2],
        seconds[0],
        whole - stepping
    ))
}

fn run_program(path: &Path, config: &str) -> Result<()> {
    fs::write(path, config)?;
    let status = Command::new(env!("CARGO_BIN_EXE_eigenmix"))
        .arg("train")
        .arg(path)
        .arg("--quiet")
        .stdout(Stdio::null())
        .status()?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("`eigenmix train {}` failed", path.display()).into()),
    }
}
