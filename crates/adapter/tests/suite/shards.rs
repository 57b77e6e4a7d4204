//! Adapters in several files with an index.

use std::fs;

use eigenmix_adapter::{AdapterError, AdapterFile};
use eigenmix_tensors::{FileError, TensorOutput, write_tensor_file};
use serde_json::json;

use crate::fixture::{Fixture, QUERY, counted};

const SHARDS: [&str; 2] = [
    "adapter_model-00001-of-00002.safetensors",
    "adapter_model-00002-of-00002.safetensors",
];
const INDEX: &str = "adapter_model.safetensors.index.json";

/// [`QUERY`], a factor in each shard.
fn sharded() -> Fixture {
    let fixture = Fixture::new();
    fixture.config(json!({}));
    let counts = [6, 8];
    for ((shard, (name, shape)), count) in SHARDS.iter().zip(QUERY).zip(counts) {
        let values = counted(count as f32, count);
        let outputs = vec![TensorOutput::f32(name, shape, &values)];
        write_tensor_file(&fixture.path().join(shard), outputs).unwrap();
    }
    let map = json!({QUERY[0].0: SHARDS[0], QUERY[1].0: SHARDS[1]});
    let index = json!({"metadata": {}, "weight_map": map});
    fixture.file(INDEX, index.to_string());
    fixture
}

#[test]
fn shards_with_an_index_are_one_adapter() {
    let fixture = sharded();
    let file = AdapterFile::open(&fixture.path()).unwrap();
    file.require_clean().unwrap();
    let module = file.module("layer.0.query").unwrap();
    assert_eq!(module.a.values(), counted(6.0, 6));
    assert_eq!(module.b.values(), counted(8.0, 8));
    // The fingerprint is of both.
    let before = file.source().sha256;
    let values = counted(7.0, 8);
    let outputs = vec![TensorOutput::f32(QUERY[1].0, QUERY[1].1, &values)];
    write_tensor_file(&fixture.path().join(SHARDS[1]), outputs).unwrap();
    let after = AdapterFile::open(&fixture.path()).unwrap().source().sha256;
    assert_ne!(before, after);
}

#[test]
fn a_shard_is_not_taken_for_the_whole() {
    let fixture = sharded();
    let error = AdapterFile::open(&fixture.path().join(SHARDS[0])).unwrap_err();
    assert!(matches!(error, AdapterError::Shard(_)), "{error}");
    fs::remove_file(fixture.path().join(INDEX)).unwrap();
    let error = AdapterFile::open(&fixture.path()).unwrap_err();
    assert!(matches!(error, AdapterError::Shard(_)), "{error}");
}

#[test]
fn an_index_must_be_that_of_the_shards() {
    let fixture = sharded();
    for map in [
        json!({QUERY[0].0: "../adapter_model.safetensors"}),
        json!({QUERY[0].0: 3}),
        json!({QUERY[0].0: SHARDS[1]}),
        json!({}),
        json!([]),
    ] {
        fixture.file(INDEX, json!({"weight_map": map}).to_string());
        let error = AdapterFile::open(&fixture.path()).unwrap_err();
        assert!(matches!(error, AdapterError::ShardIndex { .. }), "{error}");
    }
    let fixture = sharded();
    fs::remove_file(fixture.path().join(SHARDS[1])).unwrap();
    let error = AdapterFile::open(&fixture.path()).unwrap_err();
    let expected = matches!(error, AdapterError::File(FileError::NotFound(_)));
    assert!(expected, "{error}");
}

#[test]
fn a_tensor_in_two_shards_is_refused() {
    let fixture = sharded();
    let (a, b) = (counted(1.0, 6), counted(1.0, 8));
    let outputs = vec![
        TensorOutput::f32(QUERY[0].0, QUERY[0].1, &a),
        TensorOutput::f32(QUERY[1].0, QUERY[1].1, &b),
    ];
    write_tensor_file(&fixture.path().join(SHARDS[1]), outputs).unwrap();
    let error = AdapterFile::open(&fixture.path()).unwrap_err();
    let expected = matches!(error, AdapterError::File(FileError::TensorTwice { .. }));
    assert!(expected, "{error}");
}
