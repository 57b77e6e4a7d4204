//! VeRA adapters, with and without the projections that their modules share.

use eigenmix_adapter::{AdapterError, AdapterFile};
use eigenmix_tensors::{FileError, Matrix};
use serde_json::json;

use crate::fixture::{Fixture, counted};

const A: &str = "base_model.vera_A";
const B: &str = "base_model.vera_B";
const QUERY_B: &str = "base_model.model.layer.0.query.vera_lambda_b";
const QUERY_D: &str = "base_model.model.layer.0.query.vera_lambda_d";
const VALUE_B: &str = "base_model.model.layer.0.value.vera_lambda_b";
const VALUE_D: &str = "base_model.model.layer.0.value.vera_lambda_d";
const HEAD: &str = "base_model.model.score.weight";

/// Rank 2, d_in 3; `query` has d_out 5, as wide as B, and `value` d_out 4.
const TENSORS: [(&str, &[usize]); 7] = [
    (A, &[2, 3]),
    (B, &[5, 2]),
    (QUERY_B, &[5]),
    (QUERY_D, &[2]),
    (VALUE_B, &[4]),
    (VALUE_D, &[2]),
    (HEAD, &[2, 3]),
];

fn vera(fields: serde_json::Value, tensors: &[(&str, &[usize])]) -> Fixture {
    let fixture = Fixture::new();
    let mut config = json!({
        "peft_type": "VERA",
        "base_model_name_or_path": "org/base",
        "r": 2,
        "target_modules": ["query", "value"],
        "task_type": "SEQ_CLS",
        "vera_dropout": 0.25,
        "projection_prng_key": 0,
        "save_projection": true,
    });
    for (key, value) in fields.as_object().unwrap() {
        config[key] = value.clone();
    }
    fixture.file("adapter_config.json", config.to_string());
    fixture.tensors(tensors);
    fixture
}

#[test]
fn a_module_has_its_vectors_times_its_part_of_the_projections() {
    let fixture = vera(json!({}), &TENSORS);
    let file = AdapterFile::open(&fixture.path()).unwrap();
    file.require_clean().unwrap();
    assert_eq!(file.config().dropout(), 0.25);
    assert_eq!(file.shape("layer.0.value").unwrap(), (2, 3, 4));

    // `Fixture::tensors` counts from 1, 2, … in steps of a quarter.
    let (a, b) = (counted(1.0, 6), counted(2.0, 10));
    let (lambda_b, lambda_d) = (counted(5.0, 4), counted(6.0, 2));
    let expected = Matrix::from_fn(4, 3, |row, col| {
        (0..2)
            .map(|inner| lambda_b[row] * b[row * 2 + inner] * lambda_d[inner] * a[inner * 3 + col])
            .sum()
    });
    let module = file.module("layer.0.value").unwrap();
    assert_eq!(module.scaling, 1.0);
    // Quarters multiply exactly in f32.
    assert_eq!(module.update(), expected);
    assert_eq!(file.head_names().collect::<Vec<_>>(), ["score.weight"]);
}

#[test]
fn a_vera_adapter_is_saved_as_plain_lora() {
    let fixture = vera(json!({}), &TENSORS);
    let file = AdapterFile::open(&fixture.path()).unwrap();
    let copy = fixture.root().join("copy");
    file.load()
        .unwrap()
        .save(&copy, &Default::default())
        .unwrap();
    let copied = AdapterFile::open(&copy).unwrap();
    assert_eq!(copied.config().raw()["peft_type"], "LORA");
    assert!(!copied.config().raw().contains_key("save_projection"));
    for path in file.module_paths() {
        let (before, after) = (file.module(path).unwrap(), copied.module(path).unwrap());
        assert_eq!(before.update(), after.update());
    }
}

#[test]
fn projections_that_were_not_saved_are_asked_for() {
    let error = AdapterFile::open(&vera(json!({"save_projection": false}), &TENSORS[2..]).path());
    let message = error.unwrap_err().to_string();
    assert!(message.contains("save_projection = True"), "{message}");
    let error = AdapterFile::open(&vera(json!({}), &TENSORS[1..]).path()).unwrap_err();
    assert!(error.to_string().contains("lacks vera_A"), "{error}");
}

#[test]
fn vectors_that_do_not_fit_are_refused() {
    let mut too_long = TENSORS;
    too_long[4].1 = &[6];
    let error = AdapterFile::open(&vera(json!({}), &too_long).path()).unwrap_err();
    assert!(
        matches!(error, AdapterError::File(FileError::TensorShape { tensor, .. }) if tensor == VALUE_B)
    );
    let mut alone = TENSORS.to_vec();
    alone.remove(5);
    let error = AdapterFile::open(&vera(json!({}), &alone).path()).unwrap_err();
    assert!(matches!(
        error,
        AdapterError::IncompleteModule {
            missing: "vera_lambda_d",
            ..
        }
    ));
}

#[test]
fn copies_of_a_head_that_differ_are_refused() {
    // `Fixture::tensors` gives every tensor other numbers.
    let wrapped = "base_model.model.score.modules_to_save.weight";
    let mut tensors = TENSORS.to_vec();
    tensors.push((wrapped, &[2, 3]));
    let error = AdapterFile::open(&vera(json!({}), &tensors).path()).unwrap_err();
    assert!(
        matches!(error, AdapterError::UnequalCopies { .. }),
        "{error}"
    );
}
