//! Every way in which a directory can fail to be an adapter has its own error.

use eigenmix_adapter::{AdapterError, AdapterFile};
use eigenmix_tensors::{FileError, TensorOutput, write_tensor_file};
use serde_json::json;

use crate::fixture::{Fixture, QUERY, QUERY_A, QUERY_B, query_and};

fn open_error(fixture: &Fixture) -> AdapterError {
    AdapterFile::open(&fixture.path()).unwrap_err()
}

/// A fixture with a good configuration and good weights.
fn good() -> Fixture {
    let fixture = Fixture::new();
    fixture.config(json!({})).tensors(&QUERY);
    fixture
}

#[test]
fn a_path_that_does_not_exist_is_not_found() {
    assert!(matches!(
        open_error(&Fixture::new()),
        AdapterError::File(FileError::NotFound(_))
    ));
}

#[test]
fn a_file_that_is_no_safetensors_file_is_not_an_adapter() {
    let fixture = Fixture::new();
    fixture.file("notes.txt", "hello");
    let error = AdapterFile::open(&fixture.path().join("notes.txt")).unwrap_err();
    assert!(matches!(error, AdapterError::NotAnAdapter(_)), "{error}");
}

#[test]
fn an_empty_directory_is_called_empty() {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.path()).unwrap();
    assert!(matches!(
        open_error(&fixture),
        AdapterError::EmptyDirectory(_)
    ));
}

#[test]
fn a_directory_without_weights_lists_what_it_has() {
    let fixture = Fixture::new();
    fixture.config(json!({})).file("pytorch_model.txt", "");
    let error = open_error(&fixture);
    assert!(matches!(error, AdapterError::NoWeights { .. }));
    assert!(
        error
            .to_string()
            .contains("adapter_config.json, pytorch_model.txt"),
        "{error}"
    );
}

#[test]
fn a_missing_configuration_is_named() {
    let fixture = Fixture::new();
    fixture.tensors(&QUERY);
    let error = open_error(&fixture);
    assert!(matches!(error, AdapterError::NoConfig { .. }));
    assert!(error.to_string().contains("adapter_config.json"), "{error}");
}

#[test]
fn a_pickled_adapter_is_never_opened_and_the_error_says_how_to_convert_it() {
    let fixture = Fixture::new();
    fixture
        .config(json!({}))
        .file("adapter_model.bin", "not even a pickle");
    let error = open_error(&fixture);
    assert!(matches!(error, AdapterError::PickledWeights(_)));
    let text = error.to_string();
    assert!(
        text.contains("weights_only=True") && text.contains("save_file"),
        "{text}"
    );
    assert!(text.contains("save_pretrained"), "{text}");
}

#[test]
fn a_git_lfs_pointer_says_what_to_pull() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
    let fixture = good();
    fixture.file("adapter_model.safetensors", pointer);
    let error = open_error(&fixture);
    assert!(matches!(
        error,
        AdapterError::File(FileError::LfsPointer(_))
    ));
    assert!(error.to_string().contains("git lfs pull"), "{error}");
}

#[test]
fn a_truncated_file_names_both_lengths() {
    let fixture = good();
    let path = fixture.path().join("adapter_model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    let error = open_error(&fixture);
    let (expected, found) = (bytes.len() as u64, bytes.len() as u64 - 3);
    assert!(
        matches!(error, AdapterError::File(FileError::Truncated { expected: e, found: f, .. }) if e == expected && f == found),
        "{error}"
    );
}

#[test]
fn a_configuration_that_is_no_json_names_the_file() {
    let fixture = good();
    fixture.file("adapter_config.json", "{\"peft_type\": ");
    let error = open_error(&fixture);
    assert!(matches!(error, AdapterError::File(FileError::Json { .. })));
    assert!(error.to_string().contains("adapter_config.json"), "{error}");
}

#[test]
fn another_method_is_named_beside_what_is_supported() {
    let fixture = good();
    fixture.config(json!({"peft_type": "LOHA"}));
    let text = open_error(&fixture).to_string();
    assert!(text.contains("LOHA") && text.contains("LORA"), "{text}");
}

#[test]
fn a_module_without_its_b_is_incomplete() {
    let fixture = good();
    fixture.tensors(&[QUERY[0]]);
    let error = open_error(&fixture).to_string();
    assert!(
        error.contains("`layer.0.query`") && error.contains("lora_B"),
        "{error}"
    );
}

#[test]
fn what_the_configuration_promises_must_be_there() {
    for (promise, missing) in [
        ("use_dora", "lora_magnitude_vector"),
        ("lora_bias", "lora_B.bias"),
        ("lora_use_mixer", "lora_AB.weight"),
    ] {
        let fixture = good();
        fixture.config(json!({ promise: true }));
        let error = open_error(&fixture).to_string();
        assert!(error.contains(missing), "{promise}: {error}");
    }
}

#[test]
fn a_rank_other_than_the_configured_one_is_an_error() {
    let fixture = good();
    fixture.config(json!({"rank_pattern": {"query": 5}}));
    let error = open_error(&fixture);
    assert!(
        matches!(&error, AdapterError::RankMismatch { module, expected: 5, found: 2, .. } if module == "layer.0.query"),
        "{error}"
    );
}

#[test]
fn factors_that_do_not_fit_each_other_are_an_error() {
    for (a, b) in [([2, 3], vec![2, 4]), ([2, 3], vec![4])] {
        let fixture = good();
        fixture.tensors(&[(QUERY_A, &a), (QUERY_B, &b)]);
        let error = open_error(&fixture);
        assert!(
            matches!(error, AdapterError::File(FileError::TensorShape { .. })),
            "{a:?} {b:?}: {error}"
        );
    }
}

#[test]
fn a_mixer_or_magnitude_of_another_size_is_an_error() {
    for (name, shape) in [
        ("base_model.model.layer.0.query.lora_AB.weight", vec![2, 3]),
        (
            "base_model.model.layer.0.query.lora_magnitude_vector",
            vec![3],
        ),
    ] {
        let fixture = good();
        fixture.config(json!({"use_dora": name.contains("magnitude")}));
        fixture.tensors(&query_and(&[(name, &shape)]));
        let error = open_error(&fixture);
        assert!(
            matches!(&error, AdapterError::File(FileError::TensorShape { tensor, .. }) if tensor == name),
            "{error}"
        );
    }
}

#[test]
fn one_tensor_under_two_adapter_names_is_an_error() {
    let fixture = good();
    let again = "base_model.model.layer.0.query.lora_A.other.weight";
    fixture.tensors(&query_and(&[(again, &[2, 3])]));
    assert!(matches!(
        open_error(&fixture),
        AdapterError::DuplicateTensor { .. }
    ));
}

#[test]
fn an_embedding_without_one_of_its_factors_is_incomplete() {
    let fixture = good();
    fixture.tensors(&[("base_model.model.wte.lora_embedding_A", &[2, 9])]);
    let error = open_error(&fixture).to_string();
    assert!(
        error.contains("`wte`") && error.contains("lora_embedding_B"),
        "{error}"
    );
}

#[test]
fn dora_on_a_convolution_is_refused_by_name() {
    let fixture = good();
    let magnitude = "base_model.model.conv.lora_magnitude_vector";
    fixture.config(json!({"use_dora": true, "target_modules": ["conv"]}));
    fixture.tensors(&[
        ("base_model.model.conv.lora_A.weight", &[2, 3, 3, 3]),
        ("base_model.model.conv.lora_B.weight", &[4, 2, 1, 1]),
        (magnitude, &[1, 4, 1, 1]),
    ]);
    let error = open_error(&fixture);
    assert!(
        matches!(&error, AdapterError::UnsupportedTensor { tensor, .. } if tensor == magnitude),
        "{error}"
    );
}

#[test]
fn a_convolution_in_groups_is_refused_with_its_shape() {
    let fixture = good();
    fixture.tensors(&[
        ("base_model.model.conv.lora_A.weight", &[2, 3, 3, 3]),
        ("base_model.model.conv.lora_B.weight", &[4, 1, 1, 1]),
    ]);
    let error = open_error(&fixture).to_string();
    assert!(
        error.contains("[4, 1, 1, 1]") && error.contains("[d_out, 2, 1, 1]"),
        "{error}"
    );
}

#[test]
fn a_nan_is_an_error_that_names_the_tensor() {
    let fixture = good();
    let (a, b) = ([1.0, 2.0, 3.0, 4.0, f32::NAN, 6.0], [1.0; 8]);
    let outputs = vec![
        TensorOutput::f32(QUERY_A, [2, 3], &a),
        TensorOutput::f32(QUERY_B, [4, 2], &b),
    ];
    write_tensor_file(&fixture.path().join("adapter_model.safetensors"), outputs).unwrap();
    let error = AdapterFile::open(&fixture.path())
        .unwrap()
        .load()
        .unwrap_err();
    assert!(
        matches!(&error, AdapterError::File(FileError::NotFinite { tensor, position: 4, .. }) if tensor == QUERY_A),
        "{error}"
    );
}

#[test]
fn labels_with_a_gap_are_an_error() {
    let fixture = good();
    fixture.file("labels.json", r#"{"0": "a", "2": "b"}"#);
    assert!(matches!(open_error(&fixture), AdapterError::Labels { .. }));
}

#[test]
fn what_would_be_left_out_is_reported_and_can_be_refused() {
    let fixture = good();
    fixture.tensors(&query_and(&[
        ("base_model.model.wpe.base_layer.weight", &[9, 3]),
        ("base_model.model.layer.0.key.lora_A.weight", &[2, 3]),
        ("base_model.model.layer.0.key.lora_B.weight", &[4, 2]),
        ("base_model.model.norm.weight", &[3]),
    ]));
    let file = AdapterFile::open(&fixture.path()).unwrap();
    let unexpected: Vec<&str> = file
        .report()
        .unexpected
        .iter()
        .map(|tensor| tensor.name.as_str())
        .collect();
    assert_eq!(
        unexpected,
        [
            "base_model.model.norm.weight",
            "base_model.model.wpe.base_layer.weight",
        ]
    );
    assert_eq!(file.report().untargeted, ["layer.0.key"]);
    let error = file.require_clean().unwrap_err().to_string();
    assert!(
        error.contains("below an adapted layer") && error.contains("norm"),
        "{error}"
    );
    assert!(good_file().require_clean().is_ok());
}

fn good_file() -> AdapterFile {
    AdapterFile::open(&good().path()).unwrap()
}

#[test]
fn no_change_of_a_few_bytes_makes_opening_or_loading_panic() {
    let fixture = good();
    let path = fixture.path().join("adapter_model.safetensors");
    let original = std::fs::read(&path).unwrap();
    // Knuth's linear congruential generator: the same changes every time.
    let mut state = 0x5eed_u64;
    let mut random = move |below: usize| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    let mut opened = 0;
    for _ in 0..300 {
        let mut bytes = original.clone();
        for _ in 0..=random(3) {
            let position = random(bytes.len());
            // Digits, so that some changes leave valid JSON with other numbers.
            bytes[position] = if random(2) == 0 {
                b'0' + random(10) as u8
            } else {
                random(256) as u8
            };
        }
        if random(4) == 0 {
            bytes.truncate(random(bytes.len()));
        }
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(file) = AdapterFile::open(&fixture.path()) {
            opened += 1;
            let _ = file.load();
        }
    }
    assert!(
        opened > 0,
        "every change was refused, so reading was never tried"
    );
}

#[test]
fn a_single_file_in_a_spelling_that_is_not_supported_names_the_program() {
    for (program, a, b) in [
        (
            "ComfyUI",
            "diffusion_model.blocks.0.q.lora_A.weight",
            "diffusion_model.blocks.0.q.lora_B.weight",
        ),
        (
            "OneTrainer",
            "lora_transformer_blocks_0_q.lora_down.weight",
            "lora_transformer_blocks_0_q.lora_up.weight",
        ),
        (
            "XLabs",
            "double_blocks.0.processor.proj_lora1.down.weight",
            "double_blocks.0.processor.proj_lora1.up.weight",
        ),
    ] {
        let fixture = Fixture::new();
        fixture.tensors(&[(a, &[2, 3]), (b, &[4, 2])]);
        let error = AdapterFile::open(&fixture.path()).unwrap_err().to_string();
        assert!(
            error.contains(program) && error.contains("save_lora_weights"),
            "{error}"
        );
    }
}
