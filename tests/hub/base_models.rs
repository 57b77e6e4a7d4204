//! Base models of a Hub: in shards, and in GGUF files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use eigenmix_tensors::{TensorFile, TensorOutput, write_tensor_file};
use serde_json::{Value, json};

use crate::fake_hub::{FakeHub, Files, files_in};
use crate::support::{Workplace, quickstart};
use crate::{run, run_json};

#[test]
fn a_base_model_in_shards_is_fetched_without_its_duplicates() {
    let place = Workplace::new();
    let mut files = files_in(quickstart("base"));
    files.remove("model.safetensors");
    let index = shards(&place.path("shards"), &quickstart("base"));
    files.extend(files_in(place.path("shards")));
    files.insert(
        "model.safetensors.index.json".to_owned(),
        index.to_string().into_bytes(),
    );
    files.insert("consolidated.safetensors".to_owned(), vec![1; 5_000]);
    files.insert("pytorch_model.bin".to_owned(), vec![2; 5_000]);
    let hub = FakeHub::with_model("org/sharded", files);

    let data = quickstart("tasks/gym");
    let gym = quickstart("adapters/gym");
    let common = ["--adapter", &gym, "--data", &data];
    let evaluate = ["evaluate", "--base", "org/sharded"];
    let there = run_json(&place, &hub, &[&evaluate[..], &common].concat());
    let base = quickstart("base");
    let here = place.run_json(&[&["evaluate", "--base", &base][..], &common].concat());
    assert_eq!(there["metrics"], here["metrics"]);
    assert!(there["metrics"]["accuracy"].as_f64().expect("a number") > 0.5);
    let lines = hub.request_lines();
    for unwanted in ["consolidated", "pytorch_model"] {
        assert!(
            !lines.iter().any(|line| line.contains(unwanted)),
            "{lines:?}"
        );
    }
}

/// Writes the tensors of a model to two files in `target` and returns their index.
fn shards(target: &Path, model: &str) -> Value {
    fs::create_dir_all(target).expect("a directory");
    let file = TensorFile::open(&Path::new(model).join("model.safetensors")).expect("a file");
    let mut map = BTreeMap::new();
    let mut outputs = [Vec::new(), Vec::new()];
    for (place, name) in file.names().enumerate() {
        let shard = place % 2;
        let shape = file.shape(name).expect("a shape").to_vec();
        let values = file.read_f32(name).expect("numbers");
        map.insert(name.to_owned(), shard_name(shard));
        outputs[shard].push((name.to_owned(), shape, values));
    }
    for (shard, tensors) in outputs.iter().enumerate() {
        let tensors =
            tensors
                .iter()
                .map(|(name, shape, values): &(String, Vec<usize>, Vec<f32>)| {
                    TensorOutput::f32(name.clone(), shape.clone(), values)
                });
        write_tensor_file(&target.join(shard_name(shard)), tensors.collect()).expect("a file");
    }
    json!({"metadata": {"total_size": 1}, "weight_map": map})
}

fn shard_name(shard: usize) -> String {
    format!("model-0000{}-of-00002.safetensors", shard + 1)
}

#[test]
fn an_index_that_names_a_file_elsewhere_is_refused() {
    let mut files = files_in(quickstart("base"));
    files.remove("model.safetensors");
    let index = json!({"weight_map": {"a": "../../../../escaped.safetensors"}});
    files.insert(
        "model.safetensors.index.json".to_owned(),
        index.to_string().into_bytes(),
    );
    files.insert("../../../../escaped.safetensors".to_owned(), vec![1; 100]);
    let hub = FakeHub::with_model("org/evil", files);
    let place = Workplace::new();
    let data = quickstart("tasks/gym");
    let outcome = run(
        &place,
        &hub,
        &["evaluate", "--base", "org/evil", "--data", &data],
    );
    assert_eq!(outcome.status, 2, "{outcome:?}");
    assert!(
        outcome.stderr.contains("not a plain file name"),
        "{outcome:?}"
    );
    let escaped = place
        .entries()
        .into_iter()
        .any(|path| path.ends_with("escaped.safetensors"));
    assert!(!escaped);
}

#[test]
fn a_gguf_file_on_the_hub_is_a_base_model_and_nothing_else_is_fetched() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/gguf");
    let content = fs::read(golden.join("llama-Q4_1.gguf")).expect("a file");
    let files = Files::from([
        ("README.md".to_owned(), b"# Files\n".to_vec()),
        ("Q4/a.gguf".to_owned(), content),
        ("b-Q8.gguf".to_owned(), vec![1; 5_000]),
        ("c-00001-of-00002.gguf".to_owned(), vec![2; 5_000]),
        ("c-00002-of-00002.gguf".to_owned(), vec![3; 5_000]),
    ]);
    let hub = FakeHub::with_model("org/files", files);
    let place = Workplace::new();
    let found = run_json(&place, &hub, &["inspect", "org/files:Q4/a.gguf@main"]);
    let here = place.run_json(&[
        "inspect",
        golden.join("llama-Q4_1.gguf").to_str().expect("UTF-8"),
    ]);
    assert_eq!(found["parts"], here["parts"]);
    assert_eq!(found["location"], "org/files:Q4/a.gguf@main");
    let fetched = |name: &str| hub.request_lines().iter().any(|line| line.contains(name));
    assert!(fetched("a.gguf"));
    for other in ["README.md", "b-Q8", "c-0000"] {
        assert!(!fetched(other), "{other}: {:?}", hub.request_lines());
    }

    // All parts of a split file; these are no GGUF files.
    let parts = run(
        &place,
        &hub,
        &["inspect", "org/files:c-00002-of-00002.gguf"],
    );
    assert_eq!(parts.status, 2, "{parts:?}");
    assert!(fetched("c-00001-of-00002.gguf") && fetched("c-00002-of-00002.gguf"));

    let data = quickstart("tasks/gym");
    for arguments in [
        &["inspect", "org/files"][..],
        &["evaluate", "--base", "org/files", "--data", &data],
    ] {
        let refused = run(&place, &hub, arguments);
        assert_eq!(refused.status, 2, "{refused:?}");
        assert!(
            refused
                .stderr
                .contains("Q4/a.gguf, b-Q8.gguf, c-00001-of-00002.gguf;")
                && refused.stderr.contains("org/files:Q4/a.gguf"),
            "{refused:?}"
        );
    }
    let missing = run(&place, &hub, &["inspect", "org/files:d.gguf"]);
    assert_eq!(missing.status, 2, "{missing:?}");
    assert!(missing.stderr.contains("b-Q8.gguf"), "{missing:?}");
}
