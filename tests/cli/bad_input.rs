//! What is wrong with an input is said in one line, with status 2, and nothing is left behind.

use std::fs::{self, OpenOptions};
use std::path::Path;

use crate::support::{QUERY, WEIGHTS, Workplace, quickstart, random_adapter};
use eigenmix_adapter::LoraModule;
use eigenmix_tensors::{Dtype, Matrix, TensorOutput, write_tensor_file};
use serde_json::json;

/// A workplace with a good adapter `a` and one to be spoilt, `b`.
fn two_adapters() -> Workplace {
    let place = Workplace::new();
    place.save("a", &random_adapter(1, 3));
    place.save("b", &random_adapter(2, 2));
    place
}

/// That all commands which read `b` refuse it, with every word of `expected` in the message.
fn assert_refused(place: &Workplace, expected: &[&str]) {
    for arguments in [
        &["extract", "a", "b", "--out", "out"][..],
        &["export", "b", "--out", "out"],
        &["inspect", "b"],
    ] {
        let message = place.run_refused(arguments);
        for words in expected {
            assert!(message.contains(words), "{arguments:?}: {message}");
        }
    }
}

#[test]
fn a_truncated_file_is_refused() {
    let place = two_adapters();
    let path = place.path("b").join(WEIGHTS);
    let length = fs::metadata(&path).expect("a file").len();
    let file = OpenOptions::new().write(true).open(&path).expect("a file");
    file.set_len(length - 10).expect("a shorter file");
    assert_refused(&place, &["truncated", "b/adapter_model.safetensors"]);
}

#[test]
fn a_git_lfs_pointer_is_refused() {
    let place = two_adapters();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    fs::write(place.path("b").join(WEIGHTS), pointer).expect("a file");
    assert_refused(&place, &["Git LFS pointer", "git lfs pull"]);
}

#[test]
fn not_a_number_is_refused_with_its_tensor() {
    let place = two_adapters();
    let path = place.path("b").join(WEIGHTS);
    let mut bytes = fs::read(&path).expect("a file");
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).expect("a file");
    assert_refused(&place, &["NaN", "lora_"]);
}

#[test]
fn a_missing_directory_is_refused_by_name() {
    let place = Workplace::new();
    place.save("adapters/a", &random_adapter(1, 3));
    for missing in ["nowhere", "adapters/nowhere", "/no/such/directory", "./x/y"] {
        for arguments in [
            &["extract", "adapters/a", missing, "--out", "out"][..],
            &["export", missing, "--out", "out"],
            &["inspect", missing],
        ] {
            let message = place.run_refused(arguments);
            assert!(message.contains(missing), "{message}");
        }
    }
    let arguments = ["project", "adapters/a", "--subspace", "nowhere"];
    assert!(place.run_refused(&arguments).contains("nowhere"));
    let arguments = [
        "export",
        "adapters/a",
        "--out",
        "out",
        "--merge-into-base",
        "nowhere",
    ];
    assert!(place.run_refused(&arguments).contains("nowhere"));
}

#[test]
fn a_hub_id_that_cannot_be_had_is_refused() {
    let message = Workplace::new().run_refused(&["inspect", "no-such-owner/adapter"]);
    assert!(message.contains("no-such-owner/adapter"), "{message}");
}

#[test]
fn adapters_of_different_base_models_share_no_subspace_unless_allowed() {
    let place = two_adapters();
    let mut config = place.config("b");
    config["base_model_name_or_path"] = json!("org/other");
    place.write_config("b", &config);
    let extract = ["extract", "a", "b", "--out", "out"];
    let message = place.run_refused(&extract);
    assert!(
        message.contains("org/base") && message.contains("org/other"),
        "{message}"
    );
    let allowed = place.run(&[&extract[..], &["--allow-base-mismatch"]].concat());
    assert_eq!(allowed.status, 0, "{allowed:?}");

    assert_eq!(place.run(&["extract", "a", "--out", "of-a"]).status, 0);
    let message = place.run_refused(&["project", "b", "--subspace", "of-a", "--out", "p"]);
    assert!(message.contains("org/other"), "{message}");
}

#[test]
fn unequal_shapes_are_refused_with_both_of_them() {
    let place = Workplace::new();
    place.save("a", &random_adapter(1, 3));
    let mut wider = random_adapter(2, 3);
    let module = LoraModule::new(Matrix::zeros(37, 3), Matrix::zeros(3, 24), 1.0);
    wider.modules.insert(QUERY.to_owned(), module);
    place.save("b", &wider);
    let message = place.run_refused(&["extract", "a", "b", "--out", "out"]);
    for words in [QUERY, "[37, 23]", "[37, 24]"] {
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn adapters_that_change_nothing_have_no_subspace() {
    let place = Workplace::new();
    let mut idle = random_adapter(1, 3);
    for module in idle.modules.values_mut() {
        module.b = Matrix::zeros(module.d_out(), module.rank());
    }
    place.save("idle", &idle);
    let message = place.run_refused(&["extract", "idle", "--out", "out"]);
    assert!(message.contains("nothing to extract"), "{message}");

    place.save("a", &random_adapter(2, 2));
    let outcome = place.run(&["extract", "a", "idle", "--out", "out"]);
    assert_eq!(outcome.status, 0);
    assert!(
        outcome.stderr.contains("`idle` changes nothing"),
        "{outcome:?}"
    );
}

#[test]
fn modules_that_peft_would_ignore_are_refused_unless_allowed() {
    let place = two_adapters();
    let mut config = place.config("b");
    config["target_modules"] = json!(["query"]);
    place.write_config("b", &config);
    let extract = ["extract", "a", "b", "--out", "out"];
    let message = place.run_refused(&extract);
    assert!(message.contains("--allow-partial"), "{message}");
    let outcome = place.run(&[&extract[..], &["--allow-partial"]].concat());
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.stderr.contains("warning: "), "{outcome:?}");
}

#[test]
fn several_adapters_are_projected_all_or_none() {
    let place = two_adapters();
    assert_eq!(place.run(&["extract", "a", "b", "--out", "s"]).status, 0);
    let mut other = random_adapter(3, 2);
    other.config = other
        .config
        .with("base_model_name_or_path", json!("org/other"))
        .expect("a configuration");
    place.save("c", &other);
    place.run_refused(&["project", "a", "b", "c", "--subspace", "s", "--out", "p"]);

    let twice = ["project", "a", "./a", "--subspace", "s", "--out", "p"];
    assert!(place.run_refused(&twice).contains("twice"));
}

#[test]
fn a_directory_of_anything_else_is_no_input() {
    let place = Workplace::new();
    fs::create_dir(place.path("photos")).expect("a directory");
    fs::write(place.path("photos/cat.png"), "x").expect("a file");
    let message = place.run_refused(&["inspect", "photos"]);
    assert!(message.contains("`photos`"), "{message}");
    let message = place.run_refused(&["inspect", "photos/cat.png"]);
    assert!(message.contains("cat.png"), "{message}");
}

#[test]
fn tokens_that_the_model_has_no_place_for_are_named_before_it_runs() {
    let place = Workplace::new();
    let base = quickstart("base");
    let gym = quickstart("adapters/gym");
    let config = crate::support::read_json(&Path::new(&base).join("config.json"));
    let number = |key: &str| config[key].as_u64().expect("a size") as usize;
    let positions = number("max_position_embeddings");
    let write = |name: &str, length: usize, segment: i64| {
        let bytes = |value: i64| value.to_le_bytes().repeat(length);
        let (ids, types) = (bytes(1), bytes(segment));
        let tensor = |name, bytes| TensorOutput::bytes(name, vec![1, length], Dtype::I64, bytes);
        let tensors = vec![
            tensor("input.input_ids", &ids[..]),
            tensor("input.token_type_ids", &types[..]),
        ];
        write_tensor_file(&place.path(name), tensors).expect("inputs");
    };
    write("fits", positions, 0);
    write("long", positions + 1, 0);
    let segments = number("type_vocab_size");
    write("segment", 4, segments as i64);
    let forward = |inputs: &str| {
        let mut arguments = vec!["forward", "--base", &base, "--adapter", &gym];
        arguments.extend(["--inputs", inputs, "--out", "out", "--force"]);
        place.run(&arguments)
    };
    assert_eq!(forward("fits").status, 0);
    for (inputs, expected) in [
        ("long", format!("{positions} positions")),
        ("segment", format!("token_type_ids` has {segments}")),
    ] {
        let outcome = forward(inputs);
        assert_eq!(outcome.status, 2, "{outcome:?}");
        assert!(outcome.stderr.contains(&expected), "{outcome:?}");
    }
}
