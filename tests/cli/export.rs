//! `export`: plain LoRA, lower ranks, and checkpoints that need no adapter.

use std::fs;
use std::path::Path;

use crate::support::{
    DOWN, QUERY, Random, Workplace, classifier_adapter, largest_difference, random_adapter,
    read_json, shape_of,
};
use eigenmix_adapter::{Adapter, AdapterFile};
use eigenmix_tensors::{Dtype, Matrix, TensorFile, TensorOutput, write_tensor_file};
use serde_json::json;

/// The update of a module as the file says it.
fn update(place: &Workplace, adapter: &str, module: &str) -> Matrix {
    let file = AdapterFile::open(&place.path(adapter)).expect("an adapter");
    file.module(module).expect("a module").update()
}

#[test]
fn an_exported_adapter_is_the_same_update_with_scaling_1() {
    let place = Workplace::new();
    place.save("a", &classifier_adapter(1, 3));
    let exported = place.run_json(&["export", "a", "--out", "out"]);
    assert_eq!(exported["modules"], 2);
    let config = place.config("out");
    assert_eq!(config["lora_alpha"], config["r"]);
    for module in [QUERY, DOWN] {
        let before = update(&place, "a", module);
        let after = update(&place, "out", module);
        // The doubled scaling is exact in f32.
        assert_eq!(before, after);
    }
    let provenance = read_json(&place.path("out/eigenmix.json"));
    assert_eq!(provenance["method"], "export");
}

#[test]
fn a_mixer_is_folded_into_plain_lora() {
    let place = Workplace::new();
    let mut mixed = random_adapter(1, 3);
    for module in mixed.modules.values_mut() {
        module.mixer = Some(Random(7).matrix(module.rank(), module.rank()));
    }
    let expected = mixed.modules[DOWN].update();
    place.save("a", &mixed);
    let outcome = place.run(&["export", "a", "--out", "out"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    // `save` doubles alpha.
    let found = update(&place, "out", DOWN);
    assert!(largest_difference(found.values(), expected.scaled(2.0).values()) < 1e-5);
}

#[test]
fn a_run_is_exported_from_its_adapter() {
    let place = Workplace::new();
    fs::create_dir(place.path("run")).expect("a directory");
    fs::write(place.path("run/config.toml"), "").expect("a file");
    place.save("run/adapter", &random_adapter(1, 3));
    let outcome = place.run(&["export", "run", "--out", "out"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert_eq!(
        update(&place, "run/adapter", QUERY),
        update(&place, "out", QUERY)
    );
}

#[test]
fn truncation_tells_exactly_the_energy_that_it_lost() {
    let place = Workplace::new();
    place.save("a", &random_adapter(1, 4));
    let exported = place.run_json(&["export", "a", "--out", "out", "--rank", "2"]);
    let (mut lost, mut total) = (0.0, 0.0);
    for module in [QUERY, DOWN] {
        let before = update(&place, "a", module);
        let after = update(&place, "out", module);
        let pairs = before.values().iter().zip(after.values());
        lost += pairs
            .map(|(before, after)| f64::from(before - after).powi(2))
            .sum::<f64>();
        total += before.norm().powi(2);
    }
    let kept = exported["truncation"]["energy_kept"]
        .as_f64()
        .expect("a number");
    assert!(
        (kept - (1.0 - lost / total)).abs() < 1e-6,
        "{kept}, {lost} of {total}"
    );
    assert!(kept < 0.99, "rank 2 of 4 and 5 must lose something");
    assert_eq!(exported["ranks"], json!([2, 2]));
}

/// A bare base model, named without `bert.`: weights in f32 and bf16, and integers.
struct BaseModel {
    query: Vec<f32>,
    /// In bf16, of which these are exact.
    down: Vec<f32>,
}

impl BaseModel {
    fn write(directory: &Path) -> Self {
        fs::create_dir(directory).expect("a directory");
        let config = json!({"model_type": "bert", "architectures": ["BertModel"]});
        fs::write(directory.join("config.json"), config.to_string()).expect("a file");
        fs::write(directory.join("vocab.txt"), "[PAD]\n").expect("a file");
        fs::write(directory.join("pytorch_model.bin"), "other weights").expect("a file");

        let mut random = Random(5);
        let query = random.numbers(37 * 23);
        // Half of the bits of an f32 are a bf16.
        let down: Vec<f32> = random
            .numbers(29 * 41)
            .into_iter()
            .map(|value| f32::from_bits(value.to_bits() & 0xffff_0000))
            .collect();
        let down_bytes: Vec<u8> = down
            .iter()
            .flat_map(|value| value.to_le_bytes()[2..].to_vec())
            .collect();
        let bias = random.numbers(37);
        let positions: Vec<u8> = (0..4i64).flat_map(i64::to_le_bytes).collect();
        let name = |module: &str| format!("{}.weight", &module["bert.".len()..]);
        let tensors = vec![
            TensorOutput::f32(name(QUERY), shape_of(QUERY), &query),
            TensorOutput::bytes(name(DOWN), shape_of(DOWN), Dtype::BF16, &down_bytes),
            TensorOutput::f32("encoder.layer.0.attention.self.query.bias", [37], &bias),
            TensorOutput::bytes("embeddings.position_ids", [1, 4], Dtype::I64, &positions),
        ];
        write_tensor_file(&directory.join("model.safetensors"), tensors).expect("a file");
        Self { query, down }
    }
}

fn base_and_adapter(adapter: &Adapter) -> (Workplace, BaseModel) {
    let place = Workplace::new();
    place.save("a", adapter);
    let base = BaseModel::write(&place.path("base"));
    (place, base)
}

const MERGE: [&str; 6] = [
    "export",
    "a",
    "--out",
    "merged",
    "--merge-into-base",
    "base",
];

#[test]
fn a_merged_checkpoint_is_the_base_plus_the_update_and_else_the_base_bit_for_bit() {
    let (place, base) = base_and_adapter(&classifier_adapter(1, 3));
    let exported = place.run_json(&MERGE);
    assert_eq!(exported["merged"]["merged"], 2);
    assert_eq!(exported["merged"]["prefix"], "bert");

    let merged = TensorFile::open(&place.path("merged/model.safetensors")).expect("a checkpoint");
    let query = merged
        .read_f32(&format!("{QUERY}.weight"))
        .expect("a weight");
    let change = update(&place, "a", QUERY);
    let expected: Vec<f32> = base
        .query
        .iter()
        .zip(change.values())
        .map(|(weight, change)| weight + change)
        .collect();
    assert_eq!(query, expected);

    let name = format!("{DOWN}.weight");
    assert_eq!(merged.tensor(&name).expect("a weight").1, Dtype::BF16);
    let down = merged.read_f32(&name).expect("a weight");
    let change = update(&place, "a", DOWN);
    for ((found, weight), change) in down.iter().zip(&base.down).zip(change.values()) {
        let expected = weight + change;
        // bf16 has 8 significant bits: half a step is at most 2⁻⁸ of the value.
        assert!(
            (found - expected).abs() <= expected.abs() / 256.0,
            "{found}, {expected}"
        );
    }

    let original = TensorFile::open(&place.path("base/model.safetensors")).expect("a checkpoint");
    for name in [
        "encoder.layer.0.attention.self.query.bias",
        "embeddings.position_ids",
    ] {
        let renamed = format!("bert.{name}");
        assert_eq!(
            original.tensor(name).expect("it"),
            merged.tensor(&renamed).expect("it")
        );
        assert_eq!(
            original.view(name).expect("it"),
            merged.view(&renamed).expect("it")
        );
    }
    assert_eq!(merged.shape("classifier.weight").expect("a head"), [3, 41]);

    let config = read_json(&place.path("merged/config.json"));
    assert_eq!(
        config["architectures"],
        json!(["BertForSequenceClassification"])
    );
    assert_eq!(
        config["id2label"],
        json!({"0": "no", "1": "yes", "2": "maybe"})
    );
    assert!(place.path("merged/vocab.txt").exists());
    assert!(!place.path("merged/pytorch_model.bin").exists());
}

#[test]
fn without_a_head_the_names_of_the_base_model_stay() {
    let (place, _) = base_and_adapter(&random_adapter(1, 3));
    let exported = place.run_json(&MERGE);
    assert_eq!(exported["merged"]["prefix"], json!(null));
    let merged = TensorFile::open(&place.path("merged/model.safetensors")).expect("a checkpoint");
    assert!(merged.contains("embeddings.position_ids"));
    let config = read_json(&place.path("merged/config.json"));
    assert_eq!(config["architectures"], json!(["BertModel"]));
}

#[test]
fn a_sharded_base_model_stays_sharded() {
    let (place, base) = base_and_adapter(&classifier_adapter(1, 3));
    let directory = place.path("base");
    fs::remove_file(directory.join("model.safetensors")).expect("a file");
    let (first, second) = (
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    );
    let query = "encoder.layer.0.attention.self.query.weight";
    let down = "encoder.layer.1.output.dense.weight";
    for (file, name, values, module) in [
        (first, query, &base.query, QUERY),
        (second, down, &base.down, DOWN),
    ] {
        let tensor = TensorOutput::f32(name, shape_of(module), values);
        write_tensor_file(&directory.join(file), vec![tensor]).expect("a file");
    }
    let index = json!({"metadata": {"total_size": 0}, "weight_map": {query: first, down: second}});
    let index_name = "model.safetensors.index.json";
    fs::write(directory.join(index_name), index.to_string()).expect("a file");

    let outcome = place.run(&MERGE);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let index = read_json(&place.path("merged").join(index_name));
    assert_eq!(
        index["weight_map"],
        json!({
            format!("{QUERY}.weight"): first,
            format!("{DOWN}.weight"): second,
            "classifier.weight": second,
            "classifier.bias": second,
        })
    );
    let numbers = 37 * 23 + 29 * 41 + 3 * 41 + 3;
    assert_eq!(index["metadata"]["total_size"], 4 * numbers);
    let shard = TensorFile::open(&place.path("merged").join(first)).expect("a shard");
    assert!(shard.contains(&format!("{QUERY}.weight")));
}

#[test]
fn a_base_model_without_the_modules_is_refused() {
    let (place, _) = base_and_adapter(&random_adapter(1, 3));
    let tensor = TensorOutput::f32("h.0.attn.weight", [1], &[0.0]);
    write_tensor_file(&place.path("base/model.safetensors"), vec![tensor]).expect("a file");
    let message = place.run_refused(&MERGE);
    assert!(
        message.contains("h.0.attn.weight") && message.contains(QUERY),
        "{message}"
    );
}

#[test]
fn a_base_model_of_another_width_is_refused() {
    let (place, _) = base_and_adapter(&random_adapter(1, 3));
    let names = [QUERY, DOWN].map(|module| format!("{module}.weight"));
    let tensors = names
        .iter()
        .map(|name| TensorOutput::f32(name.as_str(), [2, 3], &[0.0; 6]))
        .collect();
    write_tensor_file(&place.path("base/model.safetensors"), tensors).expect("a file");
    let message = place.run_refused(&MERGE);
    assert!(
        message.contains("[2, 3]") && message.contains("[37, 23]"),
        "{message}"
    );
}
