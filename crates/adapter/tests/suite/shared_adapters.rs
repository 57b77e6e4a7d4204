//! Adapters that PEFT and strangers wrote, read from `../shared` where it is present.

use std::path::{Path, PathBuf};

use eigenmix_adapter::{AdapterFile, SaveOptions};
use eigenmix_tensors::{Matrix, TensorFile};
use safetensors::SafeTensors;

/// A path below `shared`, or `None` with a word about it.
fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")).join(path);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is absent", path.display());
    None
}

/// Every adapter of a language or vision model in `shared` that is whole: the cases that lie beside
/// them are broken on purpose.
fn every_adapter() -> Vec<PathBuf> {
    let rooms = ["adapters", "golden/models", "golden/merging", "wild"];
    let mut waiting: Vec<PathBuf> = rooms.into_iter().filter_map(shared).collect();
    let mut found = Vec::new();
    while let Some(directory) = waiting.pop() {
        if directory.join("adapter_config.json").exists() {
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
fn every_real_adapter_is_read_whole_and_survives_saving() {
    let scratch = tempfile::tempdir().unwrap();
    for (index, directory) in every_adapter().into_iter().enumerate() {
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
    let Some(models) = shared("golden/models") else {
        return;
    };
    for directory in every_adapter()
        .into_iter()
        .filter(|path| path.starts_with(&models))
    {
        let file = AdapterFile::open(&directory).unwrap();
        let variant = directory.file_name().unwrap().to_str().unwrap();
        for path in file.module_paths() {
            let is_patterned = ["query", "q_proj", "q_lin", "c_attn"]
                .iter()
                .any(|name| path.ends_with(&format!(".{name}")));
            let expected = match variant {
                "adapter-plain" | "adapter-dora" | "adapter-moslora" => 2.0,
                "adapter-rslora" => 4.0,
                "adapter-first-layer" => 1.0,
                "adapter-patterns" if is_patterned => 2.5,
                "adapter-patterns" => 1.5,
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
    let Some(directory) = shared("golden/models/llama/adapter-first-layer") else {
        return;
    };
    let file = AdapterFile::open(&directory).unwrap();
    assert!(
        file.module_paths()
            .all(|path| path.contains(".layers.0.") || path.starts_with("layers.0."))
    );
    assert!(
        file.config()
            .targets("model.layers.0.self_attn.q_proj", false)
    );
    assert!(
        !file
            .config()
            .targets("model.layers.1.self_attn.q_proj", false)
    );
}

#[test]
fn fan_in_fan_out_turns_the_base_weight_but_not_the_factors() {
    let Some(model) = shared("golden/models/gpt2") else {
        return;
    };
    let base = TensorFile::open(&model.join("base/model.safetensors")).unwrap();
    let file = AdapterFile::open(&model.join("adapter-rslora")).unwrap();
    assert!(file.config().fan_in_fan_out());
    for path in file.module_paths() {
        let name = base
            .names()
            .find(|name| name.ends_with(&format!("{path}.weight")));
        let name = name.or_else(|| {
            let short = path.strip_prefix("transformer.")?;
            base.names().find(|name| *name == format!("{short}.weight"))
        });
        let shape = base
            .shape(name.unwrap_or_else(|| panic!("no weight of {path}")))
            .unwrap();
        let (_, d_in, d_out) = file.shape(path).unwrap();
        assert_eq!(shape, [d_in, d_out], "{path}");
    }
}

#[test]
fn heads_that_strangers_saved_are_found_declared_or_not() {
    let Some(directory) = shared("wild/gpt2-sentiment") else {
        return;
    };
    let file = AdapterFile::open(&directory).unwrap();
    assert!(file.config().modules_to_save().is_empty());
    assert_eq!(file.head_names().collect::<Vec<_>>(), ["score.weight"]);
    assert_eq!(file.heads().unwrap()["score.weight"].shape, [6, 768]);
    assert_eq!(
        file.shape("transformer.h.0.attn.c_attn").unwrap(),
        (8, 768, 2304)
    );

    let Some(directory) = shared("wild/distilbert-emotion") else {
        return;
    };
    let file = AdapterFile::open(&directory).unwrap();
    let names: Vec<&str> = file.head_names().collect();
    assert_eq!(
        names,
        [
            "classifier.bias",
            "classifier.weight",
            "pre_classifier.bias",
            "pre_classifier.weight"
        ]
    );
    assert!(
        file.module_paths()
            .all(|path| file.module(path).unwrap().scaling == 2.0)
    );
}

#[test]
fn labels_come_along_with_the_head_they_belong_to() {
    let Some(directory) = shared("adapters/minilm/banking") else {
        return;
    };
    let adapter = AdapterFile::open(&directory).unwrap().load().unwrap();
    let labels = adapter.labels.unwrap();
    assert_eq!(
        (labels.name(0), labels.name(14)),
        (Some("freeze_account"), Some("report_fraud"))
    );
    assert_eq!(
        adapter.heads["classifier.weight"].shape,
        [labels.len(), 384]
    );
}

#[test]
fn every_value_of_a_large_checkpoint_is_read() {
    let Some(path) = shared("models/minilm/model.safetensors") else {
        return;
    };
    let start = std::time::Instant::now();
    let file = TensorFile::open(&path).unwrap();
    let mut values = 0;
    for name in file.names() {
        if let Ok(tensor) = file.read_f32(name) {
            values += tensor.len();
        }
    }
    println!("{values} values in {:?}", start.elapsed());
    assert!(values > 22_000_000);
}
