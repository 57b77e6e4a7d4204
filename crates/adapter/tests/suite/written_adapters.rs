//! Adapters that PEFT wrote (`tests/golden`), and those of the quick start.

use std::path::{Path, PathBuf};

use eigenmix_adapter::{AdapterFile, PeftConfig, SaveOptions};
use eigenmix_tensors::{Matrix, TensorFile};
use safetensors::SafeTensors;
use serde_json::Value;

/// A path from the root of the repository.
fn in_repository(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(path)
}

fn adapters_below(folder: &str) -> Vec<PathBuf> {
    let mut waiting = vec![in_repository(folder)];
    let mut found = Vec::new();
    while let Some(directory) = waiting.pop() {
        if directory.join(PeftConfig::FILE_NAME).exists() {
            found.push(directory);
            continue;
        }
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            }
        }
    }
    found.sort();
    found
}

/// A tensor through the reference reader: `[rows, cols]` of f32.
fn reference(directory: &Path, name: &str) -> Matrix {
    let bytes = std::fs::read(directory.join("adapter_model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = tensors
        .tensor(&format!("base_model.model.{name}.weight"))
        .unwrap();
    let values = tensor
        .data()
        .chunks(4)
        .map(|chunk| f32::from_le_bytes(chunk.try_into().unwrap()))
        .collect();
    Matrix::new(tensor.shape()[0], tensor.shape()[1], values)
}

#[test]
fn every_adapter_is_read_whole_and_survives_saving() {
    let scratch = tempfile::tempdir().unwrap();
    let folders = [
        // Six variants of 13 families.
        ("tests/golden/models", 78),
        // Three groups of three.
        ("tests/golden/merging", 9),
        ("datasets/quickstart/adapters", 6),
    ];
    let directories = folders.map(|(folder, count)| {
        let found = adapters_below(folder);
        assert_eq!(found.len(), count, "{folder}");
        found
    });
    for (index, directory) in directories.concat().into_iter().enumerate() {
        let name = directory.display();
        let file = AdapterFile::open(&directory).unwrap_or_else(|error| panic!("{name}: {error}"));
        file.require_clean().unwrap();
        assert_eq!(file.zero_effect().unwrap(), [""; 0], "{name}");
        let adapter = file.load().unwrap();
        for (path, module) in &adapter.modules {
            assert_eq!(
                module.a,
                reference(&directory, &format!("{path}.lora_A")),
                "{name} {path}"
            );
            assert_eq!(
                module.b,
                reference(&directory, &format!("{path}.lora_B")),
                "{name} {path}"
            );
        }

        let copy = scratch.path().join(index.to_string());
        adapter.save(&copy, &SaveOptions::default()).unwrap();
        let again = AdapterFile::open(&copy).unwrap();
        again.require_clean().unwrap();
        let again = again.load().unwrap();
        assert_eq!(again.modules.len(), adapter.modules.len(), "{name}");
        for (path, module) in &adapter.modules {
            let saved = &again.modules[path];
            assert_eq!(saved.scaling, 1.0, "{name} {path}");
            assert_eq!(saved.update(), module.update(), "{name} {path}");
            assert_eq!(saved.magnitude, module.magnitude, "{name} {path}");
        }
        assert_eq!(again.heads, adapter.heads, "{name}");
        assert_eq!(again.labels, adapter.labels, "{name}");
    }
}

#[test]
fn the_scaling_of_every_golden_variant_is_the_one_that_peft_applies() {
    for directory in adapters_below("tests/golden/models") {
        let file = AdapterFile::open(&directory).unwrap();
        let variant = directory.file_name().unwrap().to_str().unwrap();
        for path in file.module_paths() {
            let is_patterned = ["query", "q_proj", "q_lin", "c_attn"]
                .iter()
                .any(|name| path.ends_with(&format!(".{name}")));
            let expected = match variant {
                "adapter-plain" | "adapter-rslora" => 3.0,
                "adapter-patterns" if is_patterned => 3.5,
                "adapter-patterns" => 1.5,
                "adapter-dora" => 2.5,
                "adapter-first-layer" => 2.0,
                "adapter-moslora" => 1.75,
                other => panic!("unknown variant {other}"),
            };
            assert_eq!(
                file.module(path).unwrap().scaling,
                expected,
                "{variant} {path}"
            );
        }
    }
}

#[test]
fn an_adapter_of_the_first_layer_targets_that_layer_alone() {
    let directory = in_repository("tests/golden/models/llama/adapter-first-layer");
    let file = AdapterFile::open(&directory).unwrap();
    let paths: Vec<&str> = file.module_paths().collect();
    assert_eq!(
        paths,
        [
            "model.layers.0.self_attn.q_proj",
            "model.layers.0.self_attn.v_proj"
        ]
    );
    let config = file.config();
    assert!(config.targets("model.layers.0.self_attn.q_proj", false));
    assert!(!config.targets("model.layers.1.self_attn.q_proj", false));
}

#[test]
fn fan_in_fan_out_turns_the_base_weight_but_not_the_factors() {
    let model = in_repository("tests/golden/models/gpt2");
    let base = TensorFile::open(&model.join("base/model.safetensors")).unwrap();
    let file = AdapterFile::open(&model.join("adapter-rslora")).unwrap();
    assert!(file.config().fan_in_fan_out());
    for path in file.module_paths() {
        let shape = base.shape(&format!("{path}.weight")).unwrap();
        let (_, d_in, d_out) = file.shape(path).unwrap();
        assert_eq!(shape, [d_in, d_out], "{path}");
    }
}

#[test]
fn heads_are_found_declared_or_not() {
    let original = in_repository("tests/golden/models/distilbert/adapter-plain");
    let copy = tempfile::tempdir().unwrap();
    let weights = "adapter_model.safetensors";
    std::fs::copy(original.join(weights), copy.path().join(weights)).unwrap();
    let text = std::fs::read(original.join(PeftConfig::FILE_NAME)).unwrap();
    let mut config: Value = serde_json::from_slice(&text).unwrap();
    config["modules_to_save"] = Value::Null;
    std::fs::write(copy.path().join(PeftConfig::FILE_NAME), config.to_string()).unwrap();

    let declared = [
        "classifier.bias",
        "classifier.weight",
        "pre_classifier.bias",
        "pre_classifier.weight",
    ];
    // Of a sequence classifier PEFT saves these two, whether it is asked to or not.
    let undeclared = &declared[..2];
    for (directory, names) in [
        (original.as_path(), &declared[..]),
        (copy.path(), undeclared),
    ] {
        let file = AdapterFile::open(directory).unwrap();
        assert_eq!(file.head_names().collect::<Vec<_>>(), names);
        assert_eq!(file.heads().unwrap()["classifier.weight"].shape, [7, 35]);
        let paths: Vec<&str> = file.module_paths().collect();
        assert_eq!(paths.len(), 4, "{paths:?}");
        for path in paths {
            assert_eq!(file.shape(path).unwrap(), (5, 35, 35), "{path}");
        }
    }
    assert!(
        AdapterFile::open(&original)
            .unwrap()
            .require_clean()
            .is_ok()
    );
    let left = AdapterFile::open(copy.path()).unwrap().require_clean();
    let message = left.unwrap_err().to_string();
    assert!(message.contains("pre_classifier"), "{message}");
}

#[test]
fn labels_come_along_with_the_head_they_belong_to() {
    let directory = in_repository("datasets/quickstart/adapters/bakery");
    let adapter = AdapterFile::open(&directory).unwrap().load().unwrap();
    let labels = adapter.labels.unwrap();
    assert_eq!(
        (labels.name(0), labels.name(7)),
        (Some("ask_ingredients"), Some("return_goods"))
    );
    assert_eq!(labels.len(), 10);
    assert_eq!(adapter.heads["classifier.weight"].shape, [10, 64]);
}
