//! Tables of tokens in adapters, as PEFT saves them where a vocabulary was resized.

use eigenmix_adapter::{AdapterError, AdapterFile};
use eigenmix_tensors::{TensorOutput, write_tensor_file};
use serde_json::{Value, json};

use crate::fixture::{Fixture, QUERY, counted, query_and};

const TABLE: &str = "base_model.model.embed_tokens";

/// [`QUERY`] and three copies of a table, of which the second starts at `wrapped`.
fn with_copies(wrapped: f32) -> Fixture {
    let fixture = Fixture::new();
    fixture.config(json!({"modules_to_save": ["embed_tokens"]}));
    let values = [
        counted(1.0, 6),
        counted(2.0, 8),
        counted(0.5, 10),
        counted(wrapped, 10),
        counted(9.0, 10),
    ];
    let tables = ["weight", "modules_to_save.weight", "original_module.weight"];
    let names = QUERY.iter().map(|(name, _)| (*name).to_owned());
    let names = names.chain(tables.map(|tensor| format!("{TABLE}.{tensor}")));
    let shapes: [[usize; 2]; 5] = [[2, 3], [4, 2], [5, 2], [5, 2], [5, 2]];
    let outputs = names
        .zip(shapes)
        .zip(&values)
        .map(|((name, shape), values)| TensorOutput::f32(name, shape, values))
        .collect();
    write_tensor_file(&fixture.path().join("adapter_model.safetensors"), outputs).unwrap();
    fixture
}

#[test]
fn three_copies_of_a_resized_table_are_one_tensor() {
    let fixture = with_copies(0.5);
    let file = AdapterFile::open(&fixture.path()).unwrap();
    file.require_clean().unwrap();
    let heads = file.heads().unwrap();
    assert_eq!(heads.len(), 1);
    assert_eq!(heads["embed_tokens.weight"].values, counted(0.5, 10));
    let copies = ["original_module.weight", "modules_to_save.weight"];
    let copies = copies.map(|tensor| format!("{TABLE}.{tensor}"));
    assert_eq!(file.report().copies, copies);
}

#[test]
fn copies_that_differ_are_refused() {
    let error = AdapterFile::open(&with_copies(0.75).path()).unwrap_err();
    assert!(
        matches!(error, AdapterError::UnequalCopies { .. }),
        "{error}"
    );
}

#[test]
fn a_table_that_was_saved_unasked_is_kept_and_stays_unasked() {
    let fixture = Fixture::new();
    let table = format!("{TABLE}.weight");
    fixture
        .config(json!({}))
        .tensors(&query_and(&[(&table, &[5, 2])]));
    let file = AdapterFile::open(&fixture.path()).unwrap();
    file.require_clean().unwrap();
    let adapter = file.load().unwrap();
    assert_eq!(adapter.heads["embed_tokens.weight"].shape, [5, 2]);

    let copy = fixture.root().join("copy");
    adapter.save(&copy, &Default::default()).unwrap();
    let again = AdapterFile::open(&copy).unwrap();
    again.require_clean().unwrap();
    assert_eq!(again.config().raw()["modules_to_save"], Value::Null);
    assert_eq!(again.heads().unwrap(), adapter.heads);
}

#[test]
fn empty_tensors_are_said_to_be_of_a_training_in_many_processes() {
    let fixture = Fixture::new();
    fixture
        .config(json!({}))
        .tensors(&[(QUERY[0].0, &[0]), (QUERY[1].0, &[0])]);
    let error = AdapterFile::open(&fixture.path()).unwrap_err();
    assert!(matches!(error, AdapterError::EmptyTensor { .. }), "{error}");
    assert!(error.to_string().contains("ZeRO-3"), "{error}");
}
