//! What is wrong with a file of kohya, diffusers or mlx-lm is said with its tensor or module.

use std::collections::BTreeMap;
use std::path::PathBuf;

use eigenmix_adapter::{AdapterError, AdapterFile};
use eigenmix_tensors::{TensorOutput, write_tensor_file_with};
use serde_json::json;
use tempfile::TempDir;

use crate::fixture::counted;

const NAME: &str = "lora_unet_mid_block_attentions_0_proj_in";
const PATH: &str = "unet.mid_block.attentions.0.proj_in";

/// A file of these tensors, counted up, and this metadata.
fn file(tensors: &[(&str, &[usize])], metadata: &[(&str, &str)]) -> (TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("adapters.safetensors");
    let values: Vec<Vec<f32>> = tensors
        .iter()
        .map(|(_, shape)| counted(1.0, shape.iter().product()))
        .collect();
    let outputs = tensors
        .iter()
        .zip(&values)
        .map(|((name, shape), values)| TensorOutput::f32(*name, *shape, values))
        .collect();
    let metadata: BTreeMap<String, String> = metadata
        .iter()
        .map(|&(key, text)| (key.to_owned(), text.to_owned()))
        .collect();
    write_tensor_file_with(&path, outputs, &metadata).unwrap();
    (root, path)
}

fn refusal(tensors: &[(&str, &[usize])], metadata: &[(&str, &str)]) -> String {
    let (_root, path) = file(tensors, metadata);
    let error = AdapterFile::open(&path).unwrap_err().to_string();
    assert!(error.contains("adapters.safetensors"), "{error}");
    error
}

/// That every one of `words` is in the refusal.
fn assert_refused(tensors: &[(&str, &[usize])], words: &[&str]) {
    let error = refusal(tensors, &[]);
    for word in words {
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn up_without_down_is_incomplete() {
    let up = format!("{NAME}.lora_up.weight");
    assert_refused(&[(&up, &[4, 2])], &[NAME, "lora_down.weight"]);
    let up = format!("{PATH}.lora_B.weight");
    assert_refused(&[(&up, &[4, 2])], &[PATH, "lora_A.weight"]);
}

#[test]
fn factors_of_unequal_rank_are_refused_with_both() {
    let [down, up] = ["lora_down", "lora_up"].map(|part| format!("{NAME}.{part}.weight"));
    assert_refused(
        &[(&down, &[3, 5]), (&up, &[4, 2])],
        &[&up, "[4, 2]", "[d_out, 3]"],
    );
    let middle = format!("{NAME}.lora_mid.weight");
    assert_refused(
        &[
            (&down, &[2, 5, 1, 1]),
            (&middle, &[3, 2, 3, 3]),
            (&up, &[4, 2, 1, 1]),
        ],
        &[&up, "[4, 2, 1, 1]", "[d_out, 3, 1, 1]"],
    );
}

#[test]
fn other_methods_are_refused_by_name() {
    for (tail, method) in [
        ("hada_w1_a", "LoHa"),
        ("lokr_w1", "LoKr"),
        ("dora_scale", "DoRA"),
        ("on_input", "IA3"),
        ("oft_blocks", "OFT"),
        ("diff", "full difference"),
    ] {
        let key = format!("{NAME}.{tail}");
        assert_refused(&[(&key, &[4, 2])], &[&key, method]);
    }
    let magnitude = format!("{PATH}.lora_magnitude_vector.weight");
    let down = format!("{PATH}.lora_A.weight");
    assert_refused(&[(&down, &[2, 5]), (&magnitude, &[4])], &["DoRA"]);
}

#[test]
fn an_alpha_must_be_one_number_other_than_zero() {
    let [down, up] = ["lora_down", "lora_up"].map(|part| format!("{NAME}.{part}.weight"));
    let alpha = format!("{NAME}.alpha");
    assert_refused(
        &[(&down, &[2, 5]), (&up, &[4, 2]), (&alpha, &[3])],
        &[&alpha, "one number"],
    );
    let (root, path) = file(&[], &[]);
    let values = counted(1.0, 10);
    let outputs = vec![
        TensorOutput::f32(&down, [2, 5], &values),
        TensorOutput::f32(&up, [5, 2], &values),
        TensorOutput::f32(&alpha, [], &[0.0]),
    ];
    write_tensor_file_with(&path, outputs, &BTreeMap::new()).unwrap();
    let error = AdapterFile::open(&path).unwrap_err();
    assert!(matches!(error, AdapterError::TensorValue { .. }), "{error}");
    drop(root);
}

#[test]
fn two_names_of_one_module_are_refused() {
    let clip = "text_model_encoder_layers_0_mlp_fc1";
    let tensors: Vec<(String, Vec<usize>)> = ["lora_te", "lora_te1"]
        .iter()
        .flat_map(|prefix| {
            [("lora_down", vec![2, 5]), ("lora_up", vec![4, 2])]
                .map(|(part, shape)| (format!("{prefix}_{clip}.{part}.weight"), shape))
        })
        .collect();
    let tensors: Vec<(&str, &[usize])> = tensors
        .iter()
        .map(|(name, shape)| (name.as_str(), shape.as_slice()))
        .collect();
    assert_refused(&tensors, &["lora_te_text", "lora_te1_text"]);
}

#[test]
fn a_configuration_in_the_metadata_must_fit() {
    let [down, up] = ["lora_A", "lora_B"].map(|part| format!("{PATH}.{part}.weight"));
    let tensors: [(&str, &[usize]); 2] = [(&down, &[2, 5]), (&up, &[4, 2])];
    let key = "lora_adapter_metadata";
    let error = refusal(&tensors, &[(key, r#"{"unet.r": 3, "unet.lora_alpha": 6}"#)]);
    assert!(error.contains("rank 2") && error.contains('3'), "{error}");
    let error = refusal(&tensors, &[(key, "not JSON")]);
    assert!(error.contains(key), "{error}");
    let error = refusal(&tensors, &[(key, r#"{"unet.r": "three"}"#)]);
    assert!(error.contains("`r`") && error.contains("three"), "{error}");
    // A configuration for another part says nothing of this one.
    let (_root, path) = file(&tensors, &[(key, r#"{"text_encoder.r": 3}"#)]);
    let opened = AdapterFile::open(&path).unwrap();
    assert_eq!(opened.module(PATH).unwrap().scaling, 1.0);
}

#[test]
fn a_directory_with_several_files_asks_which_is_meant() {
    let [down, up] = ["lora_A", "lora_B"].map(|part| format!("{PATH}.{part}.weight"));
    let (root, path) = file(&[(&down, &[2, 5]), (&up, &[4, 2])], &[]);
    let renamed = root.path().join("one.safetensors");
    std::fs::rename(&path, &renamed).unwrap();
    assert!(AdapterFile::open(root.path()).is_ok());
    std::fs::copy(&renamed, root.path().join("two.safetensors")).unwrap();
    let error = AdapterFile::open(root.path()).unwrap_err();
    assert!(
        matches!(error, AdapterError::SeveralFiles { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("two.safetensors"), "{error}");
}

#[test]
fn what_mlx_cannot_mean_is_refused() {
    let layer = "model.layers.0.mlp.up_proj";
    let [a, b] = ["lora_a", "lora_b"].map(|part| format!("{layer}.{part}"));
    let good: [(&str, &[usize]); 2] = [(&a, &[5, 2]), (&b, &[2, 4])];
    let expert: [(&str, &[usize]); 2] = [(&a, &[3, 2, 5]), (&b, &[3, 4, 2])];
    let unequal: [(&str, &[usize]); 2] = [(&a, &[5, 3]), (&b, &[2, 4])];
    let parameters = json!({"rank": 2, "scale": 20.0});
    for (tensors, config, words) in [
        (
            good,
            json!({"fine_tune_type": "dora", "lora_parameters": parameters}),
            "dora",
        ),
        (good, json!({"fine_tune_type": "lora"}), "lora_parameters"),
        (good, json!({"lora_parameters": {"rank": 2}}), "scale"),
        (
            good,
            json!({"lora_parameters": {"rank": 2, "alpha": 16, "scale": 10.0}}),
            "alpha",
        ),
        (expert, json!({"lora_parameters": parameters}), "experts"),
        (
            unequal,
            json!({"lora_parameters": parameters}),
            "[3, d_out]",
        ),
    ] {
        let (root, path) = file(&tensors, &[]);
        let text = config.to_string();
        std::fs::write(root.path().join("adapter_config.json"), text).unwrap();
        let error = AdapterFile::open(&path).unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
    let error = refusal_without_config(&good);
    assert!(error.contains("adapter_config.json"), "{error}");
}

fn refusal_without_config(tensors: &[(&str, &[usize])]) -> String {
    let (_root, path) = file(tensors, &[]);
    AdapterFile::open(&path).unwrap_err().to_string()
}
