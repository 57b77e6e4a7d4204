//! Tensors that nothing provides are drawn by their names.

use burn::tensor::Device;
use eigenmix_models::HeadKind;
use eigenmix_moslora::TrainedValues;
use serde_json::{Value, json};

use crate::small_models::{encoder, from_scratch};

fn drawn(config: &Value) -> TrainedValues {
    let task = HeadKind::Classification { labels: 3 };
    let loaded = from_scratch(config, task, &Device::flex());
    loaded.names.values_of(&loaded.model)
}

#[test]
fn one_more_layer_changes_no_other_tensor() {
    let shallow = encoder();
    let mut deep = shallow.clone();
    let layers = shallow["num_hidden_layers"].as_u64().expect("a number");
    deep["num_hidden_layers"] = json!(layers + 1);
    let (shallow, deep) = (drawn(&shallow), drawn(&deep));
    assert!(shallow.len() < deep.len());
    for (name, value) in shallow {
        assert_eq!(deep[&name], value, "{name}");
    }
}

#[test]
fn no_two_matrices_are_drawn_alike() {
    let drawn = drawn(&encoder());
    let matrices = drawn.iter().filter(|(_, value)| value.shape.len() == 2);
    let matrices: Vec<_> = matrices.collect();
    for (index, (name, value)) in matrices.iter().enumerate() {
        for (other, another) in &matrices[..index] {
            assert_ne!(value.values[..8], another.values[..8], "{name} and {other}");
        }
    }
}
