//! The binary as several processes that `mpirun` starts on this machine.

use std::fs;
use std::process::Command;

use eigenmix_tensors::TensorFile;
use serde_json::Value;

use crate::support::{Outcome, Workplace, metrics, quickstart};

/// `mpirun` for these processes of the binary: how many, in which directory below the workplace, and with
/// which arguments.
pub fn several(place: &Workplace, parts: &[(usize, &str, &[&str])]) -> Command {
    let mut command = Command::new("mpirun");
    command
        .args(["--oversubscribe", "--bind-to", "none"])
        .args(["--mca", "btl_tcp_if_include", "lo"])
        .args(["--mca", "oob_tcp_if_include", "lo"])
        // As root, in a container, on a machine of fewer processors.
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env("HF_HUB_OFFLINE", "1")
        .env("HF_HOME", place.path("huggingface"))
        .env_remove("HF_TOKEN")
        .current_dir(place.path(""));
    for (number, (processes, directory, arguments)) in parts.iter().enumerate() {
        if number > 0 {
            command.arg(":");
        }
        let directory = place.path(directory);
        command.args(["-n", &processes.to_string(), "--wdir"]);
        command.arg(directory).arg(env!("CARGO_BIN_EXE_eigenmix"));
        command.args(*arguments).args(["--threads", "1"]);
    }
    command
}

/// As many processes with the same arguments, to their end.
pub fn together(place: &Workplace, processes: usize, arguments: &[&str]) -> Outcome {
    let output = several(place, &[(processes, "", arguments)]).output();
    Outcome::of(output.expect("mpirun runs"))
}

/// The same, with success.
pub fn train_together(place: &Workplace, processes: usize, arguments: &[&str]) -> Outcome {
    let outcome = together(place, processes, &[&["train"], arguments].concat());
    assert_eq!(outcome.status, 0, "{outcome:?}");
    outcome
}

/// One process, with success.
pub fn train_alone(place: &Workplace, arguments: &[&str]) {
    let outcome = place.run(&[&["train"], arguments].concat());
    assert_eq!(outcome.status, 0, "{outcome:?}");
}

/// What a run computed: its metrics, the trained values with the optimiser's state, and its result.
#[derive(Debug, PartialEq)]
pub struct Result {
    pub metrics: Vec<Value>,
    /// The bits of every tensor, by file.
    pub values: Vec<(String, String, Vec<u32>)>,
}

impl Result {
    pub fn of(place: &Workplace, run: &str) -> Self {
        let run = place.path(run);
        let mut checkpoints: Vec<_> = fs::read_dir(run.join("checkpoints"))
            .expect("checkpoints")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        checkpoints.sort();
        let last = checkpoints.pop().expect("a checkpoint");
        let mut values = Vec::new();
        for file in [
            last.join("parameters.safetensors"),
            last.join("optimizer.safetensors"),
            run.join("adapter/adapter_model.safetensors"),
            run.join("model/model.safetensors"),
        ] {
            // A training has one of the two as its result.
            if !file.exists() {
                continue;
            }
            let opened = TensorFile::open(&file).expect("tensors");
            let name = file
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            for tensor in opened.names() {
                let bits = opened.read_f32(tensor).expect("values").into_iter();
                let bits = bits.map(f32::to_bits).collect();
                values.push((name.clone(), tensor.to_owned(), bits));
            }
        }
        Self {
            metrics: metrics(&run),
            values,
        }
    }

    /// The losses of the steps.
    pub fn losses(&self) -> Vec<f64> {
        let steps = self
            .metrics
            .iter()
            .filter(|line| line.get("learning_rate").is_some());
        steps
            .map(|line| line["loss"].as_f64().expect("a loss"))
            .collect()
    }
}

/// What differs between training files of these tests.
pub struct File<'a> {
    pub output: &'a str,
    pub adapter: &'a str,
    pub training: &'a str,
}

/// Writes the file of a training of the quick start's encoder on one of its tasks; returns its name.
pub fn encoder(place: &Workplace, file: &File) -> String {
    let File {
        output,
        adapter,
        training,
    } = file;
    let text = format!(
        "seed = 3\noutput = \"{output}\"\n[base]\nmodel = {:?}\n[data]\npath = {:?}\nmax_length = 40\n\
         examples_per_class = 6\n[adapter]\n{adapter}\n\
         [training]\nepochs = 2\nlearning_rate = 5e-3\nlog_every = 1\n{training}\n",
        quickstart("base"),
        quickstart("tasks/ferry_port"),
    );
    let name = format!("{output}.toml");
    fs::write(place.path(&name), text).expect("a file");
    name
}

/// The four methods of training, as `[adapter]` tables.
pub fn methods() -> [(&'static str, String); 4] {
    let pool = ["adapters/gym", "adapters/library", "adapters/theatre"].map(quickstart);
    let on_basis = format!("adapters = {pool:?}\nallow_base_mismatch = true\ncomponents = 6");
    [
        ("lora", "method = \"lora\"\nrank = 4".to_owned()),
        ("moslora", "method = \"moslora\"\nrank = 4".to_owned()),
        (
            "eigenlorax",
            format!("method = \"eigenlorax\"\nrank = 3\n{on_basis}"),
        ),
        (
            "eigenmix",
            format!("method = \"eigenmix\"\nrank = 3\ninit = \"zero\"\n{on_basis}"),
        ),
    ]
}
