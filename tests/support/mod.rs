//! The binary, and adapters and a base model for it: random, small, no two dimensions alike.

// Each test binary compiles this file, and none needs all of it.
#![allow(dead_code)]

pub mod image_tasks;
pub mod letter_tasks;
pub mod png;
pub mod stopped_training;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use eigenmix_adapter::{Adapter, Labels, LoraModule, PeftConfig, SaveOptions, TargetModules};
use eigenmix_tensors::{HostTensor, Matrix};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const QUERY: &str = "bert.encoder.layer.0.attention.self.query";
pub const DOWN: &str = "bert.encoder.layer.1.output.dense";
pub const WEIGHTS: &str = "adapter_model.safetensors";
pub const BASE_MODEL: &str = "org/base";

/// `[d_out, d_in]` of a module.
pub fn shape_of(module: &str) -> [usize; 2] {
    if module == DOWN { [29, 41] } else { [37, 23] }
}

/// Uniform numbers in [−1, 1) from a seed (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn number(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // 23 bits are exact in f32.
        ((bits ^ (bits >> 31)) >> 41) as f32 / (1u64 << 22) as f32 - 1.0
    }

    pub fn matrix(&mut self, rows: usize, cols: usize) -> Matrix {
        Matrix::from_fn(rows, cols, |_, _| self.number())
    }

    pub fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.number()).collect()
    }
}

/// An adapter of both modules: `rank` in the first, one more in the second, scaling 1.5.
pub fn random_adapter(seed: u64, rank: usize) -> Adapter {
    let mut random = Random(seed);
    let modules: BTreeMap<String, LoraModule> = [(QUERY, rank), (DOWN, rank + 1)]
        .into_iter()
        .map(|(path, rank)| {
            let [d_out, d_in] = shape_of(path);
            let (b, a) = (random.matrix(d_out, rank), random.matrix(rank, d_in));
            (path.to_owned(), LoraModule::new(b, a, 1.5))
        })
        .collect();
    let targets = TargetModules::Names(vec!["query".to_owned(), "output.dense".to_owned()]);
    let config = PeftConfig::lora(
        BASE_MODEL,
        rank,
        targets,
        &[],
        Some("SEQ_CLS"),
        &BTreeMap::new(),
    );
    Adapter::new(config.expect("plain names"), modules)
}

/// The same with a head of three labels on a width of 41.
pub fn classifier_adapter(seed: u64, rank: usize) -> Adapter {
    let mut adapter = random_adapter(seed, rank);
    let mut random = Random(!seed);
    for (name, shape) in [
        ("classifier.weight", vec![3, 41]),
        ("classifier.bias", vec![3]),
    ] {
        let values = random.numbers(shape.iter().product());
        let tensor = HostTensor { shape, values };
        adapter.heads.insert(name.to_owned(), tensor);
    }
    let names = ["no", "yes", "maybe"].map(str::to_owned);
    adapter.labels = Some(Labels(names.to_vec()));
    adapter
}

/// A directory for one test.
pub struct Workplace {
    directory: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub struct Outcome {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn of(output: Output) -> Self {
        Self {
            status: output.status.code().expect("an exit status"),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

impl Workplace {
    pub fn new() -> Self {
        Self {
            directory: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Saves `adapter` and doubles its alpha, so that alpha ≠ rank in the file.
    pub fn save(&self, name: &str, adapter: &Adapter) {
        let path = self.path(name);
        adapter
            .save(&path, &SaveOptions::default())
            .expect("an adapter that can be saved");
        let mut alphas = self.config(name);
        let alpha = alphas["lora_alpha"].as_f64().expect("a number");
        alphas["lora_alpha"] = json!(2.0 * alpha);
        for (_, alpha) in alphas["alpha_pattern"].as_object_mut().expect("a table") {
            *alpha = json!(2.0 * alpha.as_f64().expect("a number"));
        }
        self.write_config(name, &alphas);
    }

    pub fn config(&self, name: &str) -> Value {
        read_json(&self.path(name).join(PeftConfig::FILE_NAME))
    }

    pub fn write_config(&self, name: &str, config: &Value) {
        let path = self.path(name).join(PeftConfig::FILE_NAME);
        fs::write(path, config.to_string()).expect("a file");
    }

    /// The binary, to be run here with the Hub out of reach.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eigenmix"));
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env("HF_HUB_OFFLINE", "1")
            .env("HF_HOME", self.path("huggingface"))
            .env_remove("HF_TOKEN");
        command
    }

    /// Runs the binary.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        let output = self.command(arguments).output().expect("the binary runs");
        Outcome::of(output)
    }

    /// Runs the binary under these variables, with the Hub where they say.
    pub fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Outcome {
        let mut command = self.command(arguments);
        command.env_remove("HF_HUB_OFFLINE");
        let output = command.envs(variables.iter().copied()).output();
        Outcome::of(output.expect("the binary runs"))
    }

    /// Runs the binary with `--json` and expects it to succeed.
    pub fn run_json(&self, arguments: &[&str]) -> Value {
        let outcome = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(outcome.status, 0, "{outcome:?}");
        serde_json::from_str(&outcome.stdout).expect("one JSON object")
    }

    /// Runs the binary and expects it to refuse its input with one line and to leave no trace;
    /// returns the line.
    pub fn run_refused(&self, arguments: &[&str]) -> String {
        let before = self.entries();
        let outcome = self.run(arguments);
        assert_eq!(outcome.status, 2, "{outcome:?}");
        assert_eq!(outcome.stdout, "", "{outcome:?}");
        assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
        assert!(outcome.stderr.starts_with("error: "), "{outcome:?}");
        assert_eq!(self.entries(), before, "something was left behind");
        outcome.stderr
    }

    /// Every file and directory here, hidden ones included.
    pub fn entries(&self) -> Vec<PathBuf> {
        let mut pending = vec![self.directory.path().to_owned()];
        let mut found = Vec::new();
        while let Some(directory) = pending.pop() {
            for entry in fs::read_dir(directory).expect("a directory") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    pending.push(path.clone());
                }
                found.push(path);
            }
        }
        found.sort();
        found
    }
}

pub fn read_json(path: &Path) -> Value {
    let text = fs::read(path).expect("a file");
    serde_json::from_slice(&text).expect("JSON")
}

/// A file or directory of the quick start.
pub fn quickstart(name: &str) -> String {
    // Cargo sets it; so does a script that runs tests on another machine than the one that compiled them.
    let package = std::env::var_os("CARGO_MANIFEST_DIR");
    let package = package.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let folder = Path::new(&package).join("../../datasets/quickstart");
    folder.join(name).to_str().expect("UTF-8").to_owned()
}

/// The lines of a run's metrics.jsonl without what depends on the clock.
pub fn metrics(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    text.lines()
        .map(|line| {
            let mut value: Value = serde_json::from_str(line).expect("JSON");
            let object = value.as_object_mut().expect("an object");
            object.retain(|key, _| !key.ends_with("_per_second"));
            value
        })
        .collect()
}

pub fn largest_difference(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    left.iter()
        .zip(right)
        .map(|(left, right)| (left - right).abs())
        .fold(0.0, f32::max)
}
