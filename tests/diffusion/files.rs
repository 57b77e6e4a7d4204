//! The golden models, inputs and outputs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Outcome, Workplace};
use eigenmix_tensors::{TensorFile, TensorOutput, write_tensor_file};

/// What the command line promises of any base model's outputs, relative to the largest.
const TOLERANCE: f32 = 1e-4;

pub fn golden(name: &str) -> PathBuf {
    let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/diffusion");
    let root = std::env::var_os("EIGENMIX_DIFFUSION_GOLDEN").map_or(stored, PathBuf::from);
    fs::canonicalize(root.join(name)).unwrap_or_else(|_| root.join(name))
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Inputs by the names of the reference; some are whole numbers there.
pub fn write_inputs(place: &Workplace, kind: &str, names: &[(&str, &str)]) -> String {
    let path = golden(kind).join("reference.safetensors");
    let reference = TensorFile::open(&path).expect("a reference");
    let found: Vec<_> = names
        .iter()
        .filter(|(_, from)| reference.contains(from))
        .map(|(name, from)| {
            let (shape, dtype) = reference.tensor(from).expect("a tensor");
            let bytes = reference.view(from).expect("a tensor");
            TensorOutput::bytes(format!("input.{name}"), shape, dtype, bytes)
        })
        .collect();
    let path = place.path("inputs.safetensors");
    write_tensor_file(&path, found).expect("a file");
    text(&path).to_owned()
}

pub fn forward(
    place: &Workplace,
    kind: &str,
    part: &str,
    adapter: Option<&str>,
    names: &[(&str, &str)],
) -> Outcome {
    let inputs = write_inputs(place, kind, names);
    let base = golden(kind).join("base");
    let mut arguments = vec!["forward", "--base", text(&base), "--part", part];
    arguments.extend(["--inputs", &inputs, "--out", "out.safetensors", "--force"]);
    arguments.extend(
        adapter
            .map(|adapter| ["--adapter", adapter])
            .into_iter()
            .flatten(),
    );
    place.run(&arguments)
}

pub fn assert_output(place: &Workplace, kind: &str, output: &str, expected: &str) {
    let reference = TensorFile::open(&golden(kind).join("reference.safetensors"));
    let reference = reference.expect("a reference");
    let found = TensorFile::open(&place.path("out.safetensors")).expect("outputs");
    assert_eq!(
        found.shape(output).expect(output),
        reference.shape(expected).expect(expected)
    );
    let found = found.read_f32(output).expect(output);
    let expected_values = reference.read_f32(expected).expect(expected);
    let size = expected_values
        .iter()
        .fold(0.0f32, |all, value| all.max(value.abs()));
    let pairs = found.iter().zip(&expected_values);
    let difference = pairs.fold(0.0f32, |all, (found, value)| all.max((found - value).abs()));
    println!("{kind} {expected}: {:e}", difference / size);
    assert!(
        difference < TOLERANCE * size,
        "{kind} {expected}: {difference} of {size}"
    );
}

pub const UNET: [(&str, &str); 5] = [
    ("sample", "unet.latents"),
    ("timestep", "unet.timesteps"),
    ("encoder_hidden_states", "unet.states"),
    ("text_embeds", "unet.text_embeds"),
    ("time_ids", "unet.time_ids"),
];

/// A copy of the base without one of its parts.
pub fn without(place: &Workplace, part: &str) -> String {
    let target = place.path(&format!("without-{part}"));
    for entry in fs::read_dir(golden("sd").join("base")).expect("a directory") {
        let entry = entry.expect("an entry");
        if entry.file_name() == part || !entry.path().is_dir() {
            continue;
        }
        let directory = target.join(entry.file_name());
        fs::create_dir_all(&directory).expect("a directory");
        for file in fs::read_dir(entry.path()).expect("a directory") {
            let file = file.expect("a file");
            fs::copy(file.path(), directory.join(file.file_name())).expect("a copy");
        }
    }
    text(&target).to_owned()
}
