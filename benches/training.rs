//! How long a step of a training takes, and how long the program needs to reach its first one, for each
//! method and the shapes of an encoder and a decoder: `cargo bench --workspace --bench training`.
//!
//! It runs the program itself on models and data that it makes; where `benches/peft/compare.py` is
//! run too, the same values are compared with those of PyTorch and PEFT.

mod shapes;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;
use shapes::{Run, Shape, Written, shapes};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Steps of a run; the first is not counted.
const STEPS: usize = 8;

fn main() -> Result<()> {
    let place = tempfile::tempdir()?;
    for shape in shapes() {
        let written = shape.write(place.path(), &[shape.length], 1)?;
        let model = base_model(place.path(), &shape, &written)?;
        let mut lora: Option<PathBuf> = None;
        for method in ["lora", "moslora", "eigenlorax", "eigenmix"] {
            let adapter = match (method, &lora) {
                ("eigenlorax" | "eigenmix", Some(lora)) => {
                    format!("adapters = [{lora:?}]\ncomponents = 8\nrank = 8")
                }
                _ => format!("rank = 8\nalpha = 16\ntarget_modules = {}", shape.targets),
            };
            let run = place.path().join(format!("{}-{method}", shape.name));
            let figures = train(&run, &model, &shape, &written, method, &adapter)?;
            println!("{}, {method}: {figures}", shape.name);
            lora.get_or_insert(run.join("adapter"));
        }
    }
    Ok(())
}

/// A model with random weights: one step of full training from scratch at a rate of nothing.
fn base_model(place: &Path, shape: &Shape, written: &Written) -> Result<PathBuf> {
    let output = place.join(format!("{}-base", shape.name));
    let config = shape.training_file(&Run {
        output: &output,
        model: &written.model,
        base: "from_scratch = true",
        data: &written.data,
        method: "full",
        adapter: "",
        epochs: 1,
        log_every: 1,
        training: "",
    });
    run_program(&place.join("base.toml"), &config)?;
    Ok(output.join("model"))
}

/// Median seconds of a step, and how long the first one took to come.
fn train(
    run: &Path,
    model: &Path,
    shape: &Shape,
    written: &Written,
    method: &str,
    adapter: &str,
) -> Result<String> {
    let config = shape.training_file(&Run {
        output: run,
        model,
        base: "",
        data: &written.data,
        method,
        adapter,
        epochs: STEPS,
        log_every: 1,
        training: "",
    });
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
