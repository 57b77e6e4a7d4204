//! What is saved is the same adapter, as plain LoRA.

use std::path::Path;

use eigenmix_adapter::AdapterError;
use eigenmix_adapter::{Adapter, AdapterFile, Companion, Labels, Provenance, SaveOptions, Source};
use eigenmix_tensors::{FileError, Matrix, TensorFile};
use serde_json::{Value, json};

use crate::fixture::{Fixture, QUERY, counted, query_and};

fn saved(adapter: &Adapter, directory: &Path) -> AdapterFile {
    adapter.save(directory, &SaveOptions::default()).unwrap();
    let file = AdapterFile::open(directory).unwrap();
    file.require_clean().unwrap();
    file
}

fn config_of(directory: &Path) -> Value {
    let text = std::fs::read_to_string(directory.join("adapter_config.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn reading_applies_scaling_to_the_product_of_the_factors() {
    let fixture = Fixture::new();
    fixture.config(json!({})).tensors(&QUERY);
    let module = AdapterFile::open(&fixture.path())
        .unwrap()
        .module("layer.0.query")
        .unwrap();
    // A = [[1, 1.25, 1.5], [1.75, 2, 2.25]], row 1 of B = [2.5, 2.75], s = 6/2.
    assert_eq!(module.scaling, 3.0);
    assert_eq!(module.update().get(1, 2), 3.0 * (2.5 * 1.5 + 2.75 * 2.25));
    assert_eq!(module.update().shape(), [4, 3]);
}

#[test]
fn a_mixer_stands_between_b_and_a_and_is_folded_on_saving() {
    let fixture = Fixture::new();
    let mixer = "base_model.model.layer.0.query.lora_AB.weight";
    fixture
        .config(json!({"lora_use_mixer": true, "lorap_lr_ratio": 1}))
        .tensors(&query_and(&[(mixer, &[2, 2])]));
    let adapter = AdapterFile::open(&fixture.path()).unwrap().load().unwrap();
    let a = Matrix::new(2, 3, counted(1.0, 6));
    let b = Matrix::new(4, 2, counted(2.0, 8));
    let w = Matrix::new(2, 2, counted(3.0, 4));
    let expected = b.product(&w).product(&a).scaled(3.0);
    assert_eq!(adapter.modules["layer.0.query"].update(), expected);

    let out = fixture.root().join("plain");
    let file = saved(&adapter, &out);
    let module = file.module("layer.0.query").unwrap();
    assert_eq!((module.scaling, &module.mixer), (1.0, &None));
    assert_eq!(module.update(), expected);
    let config = config_of(&out);
    assert_eq!(config.get("lora_use_mixer"), None);
    assert_eq!(
        (
            &config["lora_alpha"],
            &config["r"],
            &config["lorap_lr_ratio"]
        ),
        (&json!(2), &json!(2), &json!(1))
    );
}

#[test]
fn magnitudes_of_every_shape_are_read_and_kept() {
    let magnitude = "base_model.model.layer.0.query.lora_magnitude_vector";
    for shape in [vec![4], vec![4, 1], vec![1, 4]] {
        let fixture = Fixture::new();
        fixture
            .config(json!({"use_dora": true}))
            .tensors(&query_and(&[(magnitude, &shape)]));
        let adapter = AdapterFile::open(&fixture.path()).unwrap().load().unwrap();
        let expected = counted(3.0, 4);
        assert_eq!(
            adapter.modules["layer.0.query"].magnitude.as_ref(),
            Some(&expected)
        );
        let out = fixture.root().join("out");
        let file = saved(&adapter, &out);
        assert!(file.config().use_dora());
        assert_eq!(
            file.module("layer.0.query").unwrap().magnitude,
            Some(expected)
        );
        let tensors = TensorFile::open(&out.join("adapter_model.safetensors")).unwrap();
        assert_eq!(tensors.shape(magnitude).unwrap(), [4]);
    }
}

#[test]
fn the_bias_of_b_is_scaled_along() {
    let fixture = Fixture::new();
    let bias = "base_model.model.layer.0.query.lora_B.bias";
    fixture
        .config(json!({"lora_bias": true}))
        .tensors(&query_and(&[(bias, &[4])]));
    let adapter = AdapterFile::open(&fixture.path()).unwrap().load().unwrap();
    assert_eq!(adapter.modules["layer.0.query"].bias, Some(counted(3.0, 4)));
    let file = saved(&adapter, &fixture.root().join("out"));
    let module = file.module("layer.0.query").unwrap();
    assert_eq!(module.scaling, 1.0);
    assert_eq!(module.bias, Some(vec![9.0, 9.75, 10.5, 11.25]));
}

#[test]
fn heads_and_trained_biases_come_back_under_their_own_names() {
    let fixture = Fixture::new();
    fixture.config(json!({"bias": "all", "modules_to_save": ["classifier"]}));
    fixture.tensors(&query_and(&[
        (
            "base_model.model.classifier.modules_to_save.default.weight",
            &[5, 3],
        ),
        (
            "base_model.model.classifier.modules_to_save.default.bias",
            &[5],
        ),
        ("base_model.model.layer.0.query.base_layer.bias", &[4]),
        ("base_model.model.layer.0.norm.bias", &[3]),
    ]));
    let adapter = AdapterFile::open(&fixture.path()).unwrap().load().unwrap();
    assert_eq!(adapter.heads["classifier.weight"].shape, [5, 3]);
    assert_eq!(adapter.heads["classifier.weight"].values, counted(3.0, 15));
    assert_eq!(adapter.heads["classifier.bias"].values, counted(4.0, 5));
    assert_eq!(adapter.biases["layer.0.query.bias"].values, counted(5.0, 4));
    assert_eq!(adapter.biases["layer.0.norm.bias"].values, counted(6.0, 3));

    let out = fixture.root().join("out");
    let again = saved(&adapter, &out).load().unwrap();
    assert_eq!((again.heads, again.biases), (adapter.heads, adapter.biases));
    let tensors = TensorFile::open(&out.join("adapter_model.safetensors")).unwrap();
    assert!(tensors.contains("base_model.model.classifier.weight"));
    assert!(tensors.contains("base_model.model.layer.0.query.base_layer.bias"));
    assert_eq!(config_of(&out)["bias"], json!("all"));
}

#[test]
fn a_head_that_nobody_declared_is_declared_on_saving() {
    let fixture = Fixture::new();
    fixture.config(json!({"task_type": "SEQ_CLS", "modules_to_save": null}));
    fixture.tensors(&query_and(&[("base_model.model.score.weight", &[5, 3])]));
    let adapter = AdapterFile::open(&fixture.path()).unwrap().load().unwrap();
    let out = fixture.root().join("out");
    saved(&adapter, &out);
    assert_eq!(config_of(&out)["modules_to_save"], json!(["score"]));
}

#[test]
fn modules_of_different_ranks_keep_them() {
    let fixture = Fixture::new();
    let other_a = "base_model.model.outer.layer.0.query.lora_A.weight";
    let other_b = "base_model.model.outer.layer.0.query.lora_B.weight";
    let third_a = "base_model.model.layer.1.query.lora_A.weight";
    let third_b = "base_model.model.layer.1.query.lora_B.weight";
    fixture.config(json!({"rank_pattern": {"^layer.0.query": 3}, "use_rslora": true}));
    fixture.tensors(&[
        ("base_model.model.layer.0.query.lora_A.weight", &[3, 5]),
        ("base_model.model.layer.0.query.lora_B.weight", &[4, 3]),
        (other_a, &[2, 5]),
        (other_b, &[4, 2]),
        (third_a, &[2, 5]),
        (third_b, &[4, 2]),
    ]);
    let adapter = AdapterFile::open(&fixture.path()).unwrap().load().unwrap();
    assert_eq!(
        adapter.modules["layer.0.query"].scaling,
        (6.0 / 3f64.sqrt()) as f32
    );
    let file = saved(&adapter, &fixture.root().join("out"));
    for (path, module) in &adapter.modules {
        assert_eq!(file.module(path).unwrap().scaling, 1.0, "{path}");
        assert_eq!(
            file.module(path).unwrap().update(),
            module.update(),
            "{path}"
        );
        assert_eq!(file.shape(path).unwrap(), (module.rank(), 5, 4), "{path}");
    }
    assert_eq!(file.config().rank(), 2);
}

#[test]
fn targets_that_do_not_cover_the_modules_are_replaced_by_the_modules() {
    let fixture = Fixture::new();
    fixture
        .config(json!({"layers_to_transform": [0]}))
        .tensors(&QUERY);
    let mut adapter = AdapterFile::open(&fixture.path()).unwrap().load().unwrap();
    let module = adapter.modules["layer.0.query"].clone();
    adapter.modules.insert("layer.1.key".to_owned(), module);
    let out = fixture.root().join("out");
    saved(&adapter, &out);
    assert_eq!(
        config_of(&out)["target_modules"],
        json!(["layer.0.query", "layer.1.key"])
    );
    assert_eq!(config_of(&out)["layers_to_transform"], Value::Null);
}

#[test]
fn labels_provenance_and_a_model_card_lie_beside_the_weights() {
    let fixture = Fixture::new();
    fixture
        .config(json!({}))
        .tensors(&QUERY)
        .file("labels.json", r#"{"1": "b", "0": "a"}"#);
    let file = AdapterFile::open(&fixture.path())
        .unwrap()
        .with_location("org/some");
    let source = file.source();
    assert_eq!(
        (source.location.as_str(), source.sha256.len()),
        ("org/some", 64)
    );
    let provenance = Provenance {
        version: "0.1.0".into(),
        method: "merge core sum".into(),
        sources: vec![source.clone()],
        options: json!({"scale": 0.3}),
        input: Some(json!({"task": "causal-lm"})),
    };
    let out = fixture.root().join("out");
    let options = SaveOptions {
        force: false,
        provenance: Some(provenance.clone()),
        companions: vec![Companion {
            name: "chat_template.jinja".to_owned(),
            content: b"{{ messages }}".to_vec(),
        }],
    };
    file.load().unwrap().save(&out, &options).unwrap();

    let mut names: Vec<String> = std::fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "README.md",
            "adapter_config.json",
            "adapter_model.safetensors",
            "chat_template.jinja",
            "eigenmix.json",
            "labels.json"
        ]
    );
    let text = std::fs::read_to_string(out.join("eigenmix.json")).unwrap();
    assert_eq!(
        serde_json::from_str::<Provenance>(&text).unwrap(),
        provenance
    );
    let labels = AdapterFile::open(&out).unwrap().labels().cloned();
    assert_eq!(labels, Some(Labels(vec!["a".into(), "b".into()])));
    let card = std::fs::read_to_string(out.join("README.md")).unwrap();
    assert!(
        card.starts_with("---\nbase_model: \"org/base\"\nlibrary_name: peft\n"),
        "{card}"
    );
    assert!(card.contains(&source.sha256), "{card}");
}

#[test]
fn the_fingerprint_is_the_sha256_of_the_weights() {
    let fixture = Fixture::new();
    fixture.config(json!({})).tensors(&QUERY);
    let Source { sha256, .. } = AdapterFile::open(&fixture.path()).unwrap().source();
    let output = std::process::Command::new("sha256sum")
        .arg(fixture.path().join("adapter_model.safetensors"))
        .output();
    let Ok(output) = output else {
        println!("skipped: no sha256sum here");
        return;
    };
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).split(' ').next(),
        Some(sha256.as_str())
    );
}

#[test]
fn an_adapter_can_be_saved_over_the_directory_it_was_read_from() {
    let fixture = Fixture::new();
    fixture.config(json!({})).tensors(&QUERY);
    let file = AdapterFile::open(&fixture.path()).unwrap();
    let adapter = file.load().unwrap();
    let refused = adapter
        .save(&fixture.path(), &SaveOptions::default())
        .unwrap_err();
    assert!(matches!(
        refused,
        AdapterError::File(FileError::AlreadyExists(_))
    ));
    adapter
        .save(
            &fixture.path(),
            &SaveOptions {
                force: true,
                ..SaveOptions::default()
            },
        )
        .unwrap();
    let again = AdapterFile::open(&fixture.path()).unwrap().load().unwrap();
    assert_eq!(
        again.modules["layer.0.query"].update(),
        adapter.modules["layer.0.query"].update()
    );
    // The old map still shows the old file, whose scaling is not folded in.
    assert_eq!(
        file.module("layer.0.query").unwrap(),
        adapter.modules["layer.0.query"]
    );
}

#[test]
fn an_adapter_of_which_only_some_modules_have_a_magnitude_is_refused() {
    let fixture = Fixture::new();
    fixture.config(json!({})).tensors(&QUERY);
    let mut adapter = AdapterFile::open(&fixture.path()).unwrap().load().unwrap();
    let mut other = adapter.modules["layer.0.query"].clone();
    other.magnitude = Some(vec![1.0; 4]);
    adapter.modules.insert("layer.1.query".into(), other);
    let error = adapter
        .save(&fixture.root().join("out"), &SaveOptions::default())
        .unwrap_err();
    assert!(error.to_string().contains("`layer.1.query`"), "{error}");
    assert!(!fixture.root().join("out").exists());
}

#[test]
fn numbers_that_are_not_finite_are_not_saved() {
    let fixture = Fixture::new();
    fixture.config(json!({})).tensors(&QUERY);
    let mut adapter = AdapterFile::open(&fixture.path()).unwrap().load().unwrap();
    adapter.modules.get_mut("layer.0.query").unwrap().scaling = f32::INFINITY;
    let error = adapter
        .save(&fixture.root().join("out"), &SaveOptions::default())
        .unwrap_err();
    assert!(
        matches!(error, AdapterError::File(FileError::NotFinite { .. })),
        "{error}"
    );
}

#[test]
fn modules_without_effect_are_found() {
    let fixture = Fixture::new();
    fixture.config(json!({"lora_alpha": 0})).tensors(&QUERY);
    let file = AdapterFile::open(&fixture.path()).unwrap();
    assert_eq!(file.zero_effect().unwrap(), ["layer.0.query"]);
    fixture.config(json!({}));
    assert!(
        AdapterFile::open(&fixture.path())
            .unwrap()
            .zero_effect()
            .unwrap()
            .is_empty()
    );
}

#[test]
fn the_path_of_the_weights_opens_the_adapter_as_well() {
    let fixture = Fixture::new();
    fixture.config(json!({})).tensors(&QUERY);
    let file = AdapterFile::open(&fixture.path().join("adapter_model.safetensors")).unwrap();
    assert_eq!(file.module_paths().collect::<Vec<_>>(), ["layer.0.query"]);
    let error = file.module("layer.7.query").unwrap_err().to_string();
    assert!(
        error.contains("layer.7.query") && error.contains("layer.0.query"),
        "{error}"
    );
}
