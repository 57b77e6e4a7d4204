//! Quantised tensors, as other software reads them, and broken ones.

use std::path::{Path, PathBuf};

use eigenmix_tensors::{Dtype, TensorFile, TensorOutput, write_tensor_file};
use serde_json::{Value, json};

use crate::holding::{Holding, Role};
use crate::{Checkpoint, ModelError, Precision};

const KEYS: &str = "model.layers.0.self_attn.k_proj.weight";
const DOWN: &str = "model.layers.0.mlp.down_proj.weight";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(name)
}

/// Bits are compared, so that −0 is not 0.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn bitsandbytes_matrices_have_the_values_that_bitsandbytes_gives_to_the_bit() {
    let reference = TensorFile::open(&golden("quantised/reference.safetensors")).unwrap();
    for (folder, variant) in [("nf4", "nf4-double-bf16"), ("fp4", "fp4"), ("int8", "int8")] {
        let checkpoint = Checkpoint::open(&golden(&format!("quantised/{folder}"))).unwrap();
        let expected = reference.read_f32(&format!("{variant}.dequantised.{KEYS}"));
        let found = checkpoint.read(KEYS, &[64, 128]).unwrap();
        assert_eq!(bits(&found), bits(&expected.unwrap()), "{variant}");
        assert!(checkpoint.is_quantised());
    }
}

#[test]
fn the_tensors_of_a_gguf_file_have_the_values_that_gguf_py_gives_to_the_bit() {
    let reference = TensorFile::open(&golden("gguf/reference.safetensors")).unwrap();
    for (file, tensor, name, shape) in [
        (
            "llama-Q4_1",
            "blk.1.ffn_down.weight",
            "layers.1.mlp.down_proj.weight",
            &[64, 96][..],
        ),
        (
            "qwen2-mixed",
            "blk.0.attn_q.weight",
            "layers.0.self_attn.q_proj.weight",
            &[64, 64],
        ),
        (
            "qwen2-mixed",
            "blk.0.attn_q.bias",
            "layers.0.self_attn.q_proj.bias",
            &[64],
        ),
    ] {
        let checkpoint = Checkpoint::open(&golden(&format!("gguf/{file}.gguf"))).unwrap();
        let expected = reference.read_f32(&format!("{file}.dequantised.{tensor}"));
        let found = checkpoint.read(&format!("model.{name}"), shape).unwrap();
        assert_eq!(bits(&found), bits(&expected.unwrap()), "{file}, {tensor}");
    }
}

#[test]
fn words_of_gptq_awq_and_mlx_have_the_values_of_their_definitions() {
    for folder in ["gptq-v1", "gptq-v2", "gptq-act-order", "awq", "mlx"] {
        let directory = golden("quantised").join(folder);
        let reference = TensorFile::open(&directory.join("reference.safetensors")).unwrap();
        let expected = reference.read_f32("weight").unwrap();
        let checkpoint = Checkpoint::open(&directory).unwrap();
        let found = checkpoint.read(DOWN, &[24, 64]).unwrap();
        for (found, expected) in found.iter().zip(&expected) {
            // scale · code + offset is rounded twice; values are up to 1.6, neighbours 0.01 apart.
            assert!(
                (found - expected).abs() < 1e-6,
                "{folder}: {found} {expected}"
            );
        }
    }
}

#[test]
fn what_a_matrix_will_take_is_known_before_it_is_made() {
    let of_quantised = [
        "nf4",
        "fp4",
        "int8",
        "gptq-v1",
        "gptq-act-order",
        "awq",
        "mlx",
    ];
    let folders = of_quantised.map(|name| golden("quantised").join(name));
    let files = ["gguf/qwen2-mixed.gguf", "gguf/llama-Q4_1.gguf"].map(golden);
    for path in folders.iter().chain(&files) {
        let checkpoint = Checkpoint::open(path).unwrap();
        let mut matrices = 0;
        for (name, tensor) in checkpoint.stored() {
            if tensor.shape().len() != 2 {
                continue;
            }
            let made = tensor.encoded().unwrap().map(|matrix| matrix.size());
            assert_eq!(made, tensor.encoded_size(), "{name} in {}", path.display());
            matrices += 1;
        }
        assert!(matrices > 0);
    }
}

#[test]
fn a_matrix_of_a_gguf_file_is_held_as_that_of_any_other_file() {
    let checkpoint = Checkpoint::open(&golden("gguf/llama3-F16.gguf")).unwrap();
    assert!(!checkpoint.is_quantised());
    assert_eq!(checkpoint.matrix_dtype(), Some(Dtype::F16));
    let name = "model.layers.0.mlp.down_proj.weight";
    let tensor = &*checkpoint.stored()[name];
    for (precision, expected) in [
        (Precision::Auto, Holding::Wide),
        (Precision::Float32, Holding::Wide),
        (Precision::Stored, Holding::Stored),
        (Precision::Nf4, Holding::Quantised),
    ] {
        let precision = checkpoint.settled(precision);
        // On a device that computes in f32 only.
        let found = Holding::of(tensor, name, Role::Layer, precision, |_| false);
        assert_eq!(found, expected, "{precision:?}");
    }
}

#[test]
fn changed_bytes_are_refused_or_read_and_never_a_panic() {
    let folders = ["fp4", "int8", "gptq-v1", "gptq-act-order", "awq", "mlx"];
    for folder in folders {
        let from = golden("quantised").join(folder);
        let whole = std::fs::read(from.join("model.safetensors")).unwrap();
        let header = 8 + u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
        let config = std::fs::read_to_string(from.join("config.json")).unwrap();
        let directory = tempfile::tempdir().unwrap();
        for round in 0..60usize {
            // Digits of the header, so that shapes and types change, then anything of the tensors.
            let mut bytes = whole.clone();
            let digits: Vec<usize> = (8..header)
                .filter(|&at| bytes[at].is_ascii_digit())
                .collect();
            match round % 2 {
                0 => bytes[digits[round * 131 % digits.len()]] = b"0123456789"[round * 7 % 10],
                _ => bytes[header + round * 7919 % (whole.len() - header)] ^= 0xff,
            }
            let mut config: Value = serde_json::from_str(&config).unwrap();
            for table in ["quantization_config", "quantization"] {
                if let Some(size) = config.pointer_mut(&format!("/{table}/group_size"))
                    && round % 3 == 0
                {
                    *size = json!([33, 0, -1, 1i64 << 62, 32, 7][round / 3 % 6]);
                }
            }
            std::fs::write(directory.path().join("model.safetensors"), &bytes).unwrap();
            std::fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
            let Ok(checkpoint) = Checkpoint::open(directory.path()) else {
                continue;
            };
            for tensor in checkpoint.stored().values() {
                let _ = (
                    tensor.read(),
                    tensor.encoded().map(|_| ()),
                    tensor.stored().map(|_| ()),
                );
                tensor.encoded_size();
            }
        }
    }
}

#[test]
fn a_quantised_gpt2_is_refused_because_nobody_could_tell_a_square_weight_from_its_transpose() {
    let broken = Broken::new("int8", |_, config| config["model_type"] = json!("gpt2"));
    let message = broken.refusal(KEYS, &[64, 128]);
    assert!(
        message.contains("GPT-2") && message.contains("transpose"),
        "{message}"
    );
}

#[test]
fn a_zero_of_fifteen_is_the_zero_of_gptqs_first_format() {
    let directory = golden("quantised/gptq-v1");
    let plain = Checkpoint::open(&directory)
        .unwrap()
        .read(DOWN, &[24, 64])
        .unwrap();
    let changed = |byte: u8, format: &'static str| {
        let broken = Broken::new("gptq-v1", move |tensors, config| {
            for tensor in tensors
                .iter_mut()
                .filter(|tensor| tensor.name.ends_with(".qzeros"))
            {
                tensor.bytes.fill(byte);
            }
            config["quantization_config"]["checkpoint_format"] = json!(format);
        });
        let checkpoint = Checkpoint::open(broken.directory.path()).unwrap();
        checkpoint.read(DOWN, &[24, 64]).unwrap()
    };
    // Stored less one in four bits, so that fifteen is zero there.
    assert_eq!(changed(0xff, "gptq"), changed(0x00, "gptq_v2"));
    assert_eq!(changed(0x66, "gptq"), changed(0x77, "gptq_v2"));
    assert_ne!(changed(0xff, "gptq"), plain);
}

#[test]
fn group_sizes_that_cannot_be_are_refused_when_the_model_is_opened() {
    for size in [33, 0, -2] {
        let broken = Broken::new("gptq-v1", |_, config| {
            config["quantization_config"]["group_size"] = json!(size);
        });
        let error = Checkpoint::open(broken.directory.path())
            .map(|_| ())
            .unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains(&format!("group_size is {size}")),
            "{message}"
        );
    }
}

/// A copy of a folder of the golden values with a change to its tensors and configuration.
struct Broken {
    directory: tempfile::TempDir,
}

/// A tensor as a file has it.
struct Raw {
    name: String,
    shape: Vec<usize>,
    dtype: Dtype,
    bytes: Vec<u8>,
}

impl Broken {
    fn new(folder: &str, change: impl FnOnce(&mut Vec<Raw>, &mut Value)) -> Self {
        let from = golden("quantised").join(folder);
        let file = TensorFile::open(&from.join("model.safetensors")).unwrap();
        let raw = |name: &str| {
            let (shape, dtype) = file.tensor(name).unwrap();
            Raw {
                name: name.to_owned(),
                shape,
                dtype,
                bytes: file.view(name).unwrap().to_vec(),
            }
        };
        let mut tensors: Vec<Raw> = file.names().map(raw).collect();
        let text = std::fs::read_to_string(from.join("config.json")).unwrap();
        let mut config = serde_json::from_str(&text).unwrap();
        change(&mut tensors, &mut config);
        let directory = tempfile::tempdir().unwrap();
        let outputs = tensors.iter().map(|raw| {
            TensorOutput::bytes(raw.name.clone(), raw.shape.clone(), raw.dtype, &raw.bytes)
        });
        let path = directory.path().join("model.safetensors");
        write_tensor_file(&path, outputs.collect()).unwrap();
        std::fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
        Self { directory }
    }

    /// What is said when it is opened and its matrix is read.
    fn refusal(&self, name: &str, shape: &[usize]) -> String {
        let read = Checkpoint::open(self.directory.path())
            .and_then(|checkpoint| checkpoint.read(name, shape));
        let error = read.expect_err("a refusal");
        let source = std::error::Error::source(&error);
        let source = source.map(|source| format!(": {source}"));
        format!("{error}{}", source.unwrap_or_default())
    }
}

fn without(suffix: &'static str) -> impl FnOnce(&mut Vec<Raw>, &mut Value) {
    move |tensors, _| tensors.retain(|tensor| !tensor.name.ends_with(suffix))
}

/// Cuts the last row off.
fn shortened(suffix: &'static str) -> impl FnOnce(&mut Vec<Raw>, &mut Value) {
    move |tensors, _| {
        let tensor = tensors
            .iter_mut()
            .find(|tensor| tensor.name.ends_with(suffix));
        let tensor = tensor.expect("a tensor");
        let row = tensor.bytes.len() / tensor.shape[0];
        tensor.shape[0] -= 1;
        tensor.bytes.truncate(tensor.bytes.len() - row);
    }
}

#[test]
fn a_matrix_that_lacks_a_part_or_a_piece_of_one_is_refused_by_name() {
    let keys = (KEYS, [64, 128]);
    let down = (DOWN, [24, 64]);
    for (broken, (name, shape), named) in [
        (
            Broken::new("fp4", without(".absmax")),
            keys,
            "k_proj.weight.absmax",
        ),
        (
            Broken::new("fp4", without(".quant_map")),
            keys,
            "k_proj.weight.quant_map",
        ),
        (Broken::new("fp4", shortened(".absmax")), keys, KEYS),
        (Broken::new("fp4", shortened(".weight")), keys, KEYS),
        (Broken::new("int8", shortened(".SCB")), keys, KEYS),
        (
            Broken::new("gptq-v1", without(".qzeros")),
            down,
            "down_proj.qzeros",
        ),
        (
            Broken::new("gptq-v1", shortened(".scales")),
            down,
            "down_proj.scales",
        ),
        (
            Broken::new("gptq-act-order", shortened(".g_idx")),
            down,
            DOWN,
        ),
        (
            Broken::new("awq", shortened(".qzeros")),
            down,
            "down_proj.qzeros",
        ),
        (
            Broken::new("mlx", without(".biases")),
            down,
            "down_proj.biases",
        ),
    ] {
        let message = broken.refusal(name, &shape);
        assert!(message.contains(named), "{named}: {message}");
    }
}

#[test]
fn a_matrix_of_another_shape_than_the_configuration_implies_is_refused() {
    let broken = Broken::new("gptq-v1", |_, _| {});
    let message = broken.refusal(DOWN, &[24, 128]);
    assert!(
        message.contains(DOWN) && message.contains("[24, 64]"),
        "{message}"
    );
}

#[test]
fn ways_to_quantise_that_are_not_read_are_named() {
    let of = |scheme: Value| {
        move |_: &mut Vec<Raw>, config: &mut Value| config["quantization_config"] = scheme
    };
    let unknown = Broken::new("gptq-v1", of(json!({"quant_method": "hqq", "bits": 4})));
    let error = Checkpoint::open(unknown.directory.path()).err().unwrap();
    assert!(matches!(error, ModelError::Quantisation { .. }), "{error}");
    assert!(error.to_string().contains("hqq"), "{error}");
    for (scheme, said) in [
        (
            json!({"quant_method": "gptq", "bits": 3, "group_size": 16}),
            "3 bits",
        ),
        (
            json!({"quant_method": "gptq", "bits": 4, "group_size": 0}),
            "group_size",
        ),
        (
            json!({"quant_method": "awq", "bits": 4, "group_size": 16, "version": "gemv"}),
            "gemv",
        ),
    ] {
        let message = Broken::new("gptq-v1", of(scheme)).refusal(DOWN, &[24, 64]);
        assert!(message.contains(said), "{message}");
    }
}

#[test]
fn a_truncated_file_is_refused() {
    let whole = Broken::new("fp4", |_, _| {});
    let path = whole.directory.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    assert!(
        whole
            .refusal(KEYS, &[64, 128])
            .contains("model.safetensors")
    );
}
