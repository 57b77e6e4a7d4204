//! Adapters that are not plain LoRA with one scaling: patterns, rsLoRA, MoSLoRA, VeRA; and modules
//! that only some adapters have.

use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_adapter::{AdapterFile, LoadedAdapter, LoraModule};
use eigenmix_merging::{MergeOptions, Method, Space, merge};
use eigenmix_tensors::{Matrix, TensorOutput, write_tensor_file};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::random_adapters::{
    DOWN, QUERY, adapter, gaussian, merged, module, random_adapter, relative_difference,
    three_adapters,
};

fn write(directory: &Path, config: &Value, tensors: &[(String, Matrix)]) {
    std::fs::create_dir_all(directory).expect("a directory");
    std::fs::write(directory.join("adapter_config.json"), config.to_string()).expect("written");
    let outputs = tensors
        .iter()
        .map(|(name, matrix)| {
            // Vectors are matrices of one row here.
            let shape: Vec<usize> = match matrix.shape() {
                [1, cols] => vec![cols],
                shape => shape.to_vec(),
            };
            TensorOutput::f32(name.clone(), shape, matrix.values())
        })
        .collect();
    write_tensor_file(&directory.join("adapter_model.safetensors"), outputs).expect("written");
}

/// An adapter of rank 3 for `layer.q` `[7, 5]`, and its factors B and A.
fn lora(directory: &Path, seed: u64, fields: Value) -> (AdapterFile, Matrix, Matrix) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (b, a) = (gaussian(7, 3, &mut random), gaussian(3, 5, &mut random));
    let mut config = json!({
        "peft_type": "LORA",
        "base_model_name_or_path": "org/base",
        "r": 3,
        "lora_alpha": 12,
        "target_modules": ["q"],
    });
    for (key, value) in fields.as_object().expect("an object") {
        config[key] = value.clone();
    }
    let key = |part| format!("base_model.model.layer.q.lora_{part}.weight");
    let mut tensors = vec![(key("A"), a.clone()), (key("B"), b.clone())];
    if config.get("lora_use_mixer").is_some() {
        tensors.push((key("AB"), gaussian(3, 3, &mut random)));
    }
    write(directory, &config, &tensors);
    let file = AdapterFile::open(directory).expect("an adapter");
    (file, b, a)
}

#[test]
fn the_scaling_of_every_adapter_is_its_own() {
    let root = tempfile::tempdir().expect("a directory");
    let cases = [
        (json!({}), 4.0),
        (json!({"use_rslora": true}), 12.0 / 3f32.sqrt()),
        (json!({"alpha_pattern": {"q": 6}}), 2.0),
    ];
    let mut files = Vec::new();
    let mut expected = Matrix::zeros(7, 5);
    for (index, (fields, scaling)) in cases.into_iter().enumerate() {
        let path = root.path().join(index.to_string());
        let (file, b, a) = lora(&path, index as u64, fields);
        let update = b.product(&a).scaled(scaling);
        expected = Matrix::from_fn(7, 5, |row, col| {
            expected.get(row, col) + update.get(row, col)
        });
        files.push(file);
    }
    for space in [Space::Full, Space::Knots, Space::Core] {
        let merge = merge(&files, &MergeOptions::new(space, Method::Sum), &|_, _| {});
        let update = merge.expect("a merge").adapter.modules["layer.q"].update();
        assert!(relative_difference(&update, &expected) < 2e-6);
    }
}

#[test]
fn a_mixer_is_folded_into_the_update() {
    let root = tempfile::tempdir().expect("a directory");
    let (mixed, ..) = lora(
        &root.path().join("mixed"),
        1,
        json!({"lora_use_mixer": true}),
    );
    let (plain, ..) = lora(&root.path().join("plain"), 2, json!({}));
    let updates = [&mixed, &plain].map(|file| file.module("layer.q").expect("read").update());
    let average = Matrix::from_fn(7, 5, |row, col| {
        updates
            .iter()
            .map(|update| update.get(row, col))
            .sum::<f32>()
            / 2.0
    });
    for space in [Space::Full, Space::Knots, Space::Core] {
        let options = MergeOptions::new(space, Method::Average);
        let merge = merge(&[&mixed, &plain], &options, &|_, _| {}).expect("a merge");
        let update = merge.adapter.modules["layer.q"].update();
        assert!(relative_difference(&update, &average) < 2e-6);
    }
    // The entries that TIES sees in the full space come from the folded factors as well.
    let ties = MergeOptions::new(Space::Full, Method::Ties { density: 1.0 });
    let merge = merge(&[&mixed, &plain], &ties, &|_, _| {}).expect("a merge");
    let update = merge.adapter.modules["layer.q"].update();
    for row in 0..7 {
        for col in 0..5 {
            let [first, second] = [0, 1].map(|index: usize| updates[index].get(row, col));
            let expected = if (first > 0.0) == (second > 0.0) {
                (first + second) / 2.0
            } else if first.abs() > second.abs() {
                first
            } else {
                second
            };
            assert!((update.get(row, col) - expected).abs() < 1e-4);
        }
    }
}

#[test]
fn vera_adapters_merge_with_lora() {
    let root = tempfile::tempdir().expect("a directory");
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let config = json!({
        "peft_type": "VERA",
        "base_model_name_or_path": "org/base",
        "r": 4,
        "target_modules": ["q"],
        "save_projection": true,
    });
    let (a, b) = (gaussian(4, 5, &mut random), gaussian(9, 4, &mut random));
    let (lambda_b, lambda_d) = (gaussian(1, 7, &mut random), gaussian(1, 4, &mut random));
    let vera = root.path().join("vera");
    let tensors = [
        ("base_model.vera_A".to_owned(), a.clone()),
        ("base_model.vera_B".to_owned(), b.clone()),
        (
            "base_model.model.layer.q.vera_lambda_b".to_owned(),
            lambda_b.clone(),
        ),
        (
            "base_model.model.layer.q.vera_lambda_d".to_owned(),
            lambda_d.clone(),
        ),
    ];
    write(&vera, &config, &tensors);
    let (lora, lora_b, lora_a) = lora(&root.path().join("lora"), 2, json!({}));
    let files = [AdapterFile::open(&vera).expect("an adapter"), lora];

    let lora_update = lora_b.product(&lora_a).scaled(4.0);
    let expected = Matrix::from_fn(7, 5, |row, col| {
        let vera: f32 = (0..4)
            .map(|inner| {
                let (left, right) = (b.get(row, inner), a.get(inner, col));
                lambda_b.get(0, row) * left * lambda_d.get(0, inner) * right
            })
            .sum();
        vera + lora_update.get(row, col)
    });
    for space in [Space::Full, Space::Knots, Space::Core] {
        let merge = merge(&files, &MergeOptions::new(space, Method::Sum), &|_, _| {});
        let update = merge.expect("a merge").adapter.modules["layer.q"].update();
        assert!(relative_difference(&update, &expected) < 2e-6);
    }
}

/// The first lacks DOWN, the second QUERY.
fn partly_overlapping() -> Vec<LoadedAdapter> {
    let mut adapters = three_adapters();
    adapters[0].adapter.modules.remove(DOWN);
    adapters[1].adapter.modules.remove(QUERY);
    adapters
}

#[test]
fn a_module_that_only_some_adapters_have_is_merged_from_those() {
    let adapters = partly_overlapping();
    for space in [Space::Full, Space::Knots, Space::Core] {
        let merge = merged(&adapters, &MergeOptions::new(space, Method::Average));
        let expected = Matrix::from_fn(37, 23, |row, col| {
            let entry = |index: usize| {
                adapters[index].adapter.modules[QUERY]
                    .update()
                    .get(row, col)
            };
            (entry(0) + entry(2)) / 2.0
        });
        let update = merge.adapter.modules[QUERY].update();
        assert!(relative_difference(&update, &expected) < 2e-6);
        let partial: Vec<_> = merge.report.partial().map(|(path, _)| path).collect();
        assert_eq!(partial, [QUERY, DOWN]);
        assert_eq!(merge.report.modules[QUERY].adapters, [0, 2]);
        assert_eq!(merge.report.modules[DOWN].adapters, [1, 2]);
        assert_eq!(merge.report.modules[QUERY].columns, 5);
    }
    for method in [Method::Ties { density: 0.3 }, Method::Tsv] {
        merged(&adapters, &MergeOptions::new(Space::Knots, method));
    }
}

#[test]
fn the_report_has_the_norms_of_what_went_in() {
    let merge = merged(
        &partly_overlapping(),
        &MergeOptions::new(Space::Core, Method::Tsv),
    );
    let report = &merge.report.modules[DOWN];
    let norms = [1, 2].map(|index: usize| {
        let adapters = partly_overlapping();
        adapters[index].adapter.modules[DOWN].update().norm()
    });
    for (reported, norm) in report.input_norms.iter().zip(norms) {
        assert!((reported - norm).abs() < 1e-5 * norm);
    }
    let norm = merge.adapter.modules[DOWN].update().norm();
    assert!((report.norm - norm).abs() < 1e-5 * norm);
}

#[test]
fn a_module_without_an_update_is_left_out() {
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let zero = LoraModule::new(Matrix::zeros(7, 2), gaussian(2, 5, &mut random), 2.0);
    let modules = BTreeMap::from([
        ("zero".to_owned(), zero),
        ("used".to_owned(), module([7, 5], 2, &mut random)),
    ]);
    let adapters = [adapter("a", modules.clone()), adapter("b", modules)];
    for space in [Space::Full, Space::Knots, Space::Core] {
        for method in [Method::Sum, Method::Ties { density: 0.5 }, Method::Tsv] {
            let options = MergeOptions {
                isotropize: true,
                ..MergeOptions::new(space, method)
            };
            let merge = merged(&adapters, &options);
            assert_eq!(merge.report.left_out().collect::<Vec<_>>(), ["zero"]);
            assert!(!merge.adapter.modules.contains_key("zero"));
            assert!(!merge.adapter.config.targets("zero", false));
        }
    }
}

#[test]
fn a_weak_adapter_survives_every_space() {
    let mut weak = random_adapter("weak", 3, 5);
    for module in weak.adapter.modules.values_mut() {
        module.scaling *= 1e-9;
    }
    for space in [Space::Full, Space::Knots, Space::Core] {
        let merge = merged(
            std::slice::from_ref(&weak),
            &MergeOptions::new(space, Method::Sum),
        );
        let expected = weak.adapter.modules[QUERY].update();
        let update = merge.adapter.modules[QUERY].update();
        assert!(relative_difference(&update, &expected) < 2e-6);
    }
}
