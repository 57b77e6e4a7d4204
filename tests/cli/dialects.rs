//! Files of kohya, diffusers and mlx-lm through the binary.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Workplace, quickstart, random_adapter};
use eigenmix_adapter::AdapterFile;
use eigenmix_tensors::{Matrix, TensorFile};
use serde_json::{Value, json};

/// A small adapter that another program wrote; crates/adapter/tests/golden/dialects says which.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../adapter/tests/golden/dialects")
        .join(name)
}

/// A workplace with the golden files `names`.
fn with_files(names: &[&str]) -> Workplace {
    let place = Workplace::new();
    for name in names {
        fs::copy(golden(name), place.path(name)).expect("a golden file");
    }
    place
}

fn update(path: &Path, module: &str) -> Matrix {
    let file = AdapterFile::open(path).expect("an adapter");
    file.module(module).expect("a module").update()
}

fn assert_close(left: &Matrix, right: &Matrix) {
    let [rows, cols] = left.shape();
    let difference = Matrix::from_fn(rows, cols, |row, col| {
        left.get(row, col) - right.get(row, col)
    });
    // Rounding to f32 on the way through a decomposition.
    let relative = difference.norm() / right.norm();
    assert!(relative < 1e-5, "{relative}");
}

#[test]
fn inspect_tells_the_dialect_and_what_kohya_noted() {
    let place = with_files(&["kohya.safetensors"]);
    let summary = place.run_json(&["inspect", "kohya.safetensors"]);
    assert_eq!(summary["kind"], "adapter");
    assert_eq!(summary["dialect"], "kohya");
    assert_eq!(summary["base_model"], "sd_v1");
    assert_eq!(summary["metadata"]["ss_sd_model_name"], "tiny.safetensors");
    let upsampler = &summary["modules"]["unet.up_blocks.0.upsamplers.0.conv"];
    assert_eq!(upsampler["layer"], "a convolution of 3 × 3");
    assert_eq!(
        (&upsampler["d_out"], &upsampler["d_in"]),
        (&json!(4), &json!(36))
    );
    let people = place.run(&["inspect", "kohya.safetensors"]);
    assert!(people.stdout.contains("written by kohya"), "{people:?}");
}

#[test]
fn extract_project_and_merge_work_on_files_of_two_dialects() {
    let files = ["kohya.safetensors", "diffusers.safetensors"];
    let place = with_files(&files);
    place.run_json(&[&["extract"], &files[..], &["--out", "subspace"]].concat());
    let project = [
        "project",
        files[0],
        "--subspace",
        "subspace",
        "--out",
        "p.safetensors",
    ];
    let projected = place.run_json(&project);
    let error = projected["adapters"][0]["relative_error"].as_f64();
    // All directions were kept.
    assert!(error.is_some_and(|error| error < 1e-5), "{projected}");

    let merge = [
        "merge", files[0], files[1], "--space", "core", "--method", "sum", "--out", "m",
    ];
    let message = place.run_refused(&merge);
    assert!(message.contains("--format"), "{message}");
    for format in ["kohya", "diffusers"] {
        let out = format!("{format}-merged.safetensors");
        place.run_json(&[&merge[..8], &[out.as_str(), "--format", format]].concat());
        let module = "unet.up_blocks.0.upsamplers.0.conv";
        let merged = update(&place.path(&out), module);
        let [a, b] = files.map(|name| update(&place.path(name), module));
        let [rows, cols] = a.shape();
        let sum = Matrix::from_fn(rows, cols, |row, col| a.get(row, col) + b.get(row, col));
        assert_close(&merged, &sum);
        let summary = place.run_json(&["inspect", &out]);
        assert_eq!(summary["dialect"], format);
    }
}

#[test]
fn an_exported_file_is_the_file_that_came_in() {
    let place = with_files(&["kohya.safetensors"]);
    // Not of the adapter, which is one file.
    fs::write(place.path("tokenizer.json"), "{}").expect("a file");
    let export = ["export", "kohya.safetensors", "--out"];
    place.run_json(&[&export[..], &["copy.safetensors"]].concat());
    let [old, new] = ["kohya.safetensors", "copy.safetensors"]
        .map(|name| TensorFile::open(&place.path(name)).expect("a file"));
    assert!(new.names().eq(old.names()));
    for key in old.names() {
        assert_eq!(
            new.view(key).expect("bytes"),
            old.view(key).expect("bytes"),
            "{key}"
        );
    }
    let provenance: Value =
        serde_json::from_str(&new.metadata()["eigenmix"]).expect("a JSON object");
    assert_eq!(provenance["sources"][0]["location"], "kohya.safetensors");

    // Into a directory, in half the bytes, and in the other dialect.
    place.run_json(
        &[
            &export[..],
            &["halves", "--dtype", "bf16", "--format", "diffusers"],
        ]
        .concat(),
    );
    let summary = place.run_json(&["inspect", "halves"]);
    assert_eq!(summary["dialect"], "diffusers");
    assert!(place.path("halves/eigenmix.json").exists());
    assert!(!place.path("halves/tokenizer.json").exists());

    let message = place.run_refused(&[&export[..], &["copy.safetensors"]].concat());
    assert!(message.contains("--force"), "{message}");
    let forced = [&export[..], &["copy.safetensors", "--force"]].concat();
    assert_eq!(place.run(&forced).status, 0);
}

#[test]
fn mlx_becomes_peft_and_the_other_way_round() {
    let place = Workplace::new();
    let mlx = golden("mlx");
    let mlx = mlx.to_str().expect("UTF-8");
    place.run_json(&["export", mlx, "--out", "peft", "--format", "peft"]);
    place.run_json(&["export", "peft", "--out", "again", "--format", "mlx"]);
    for module in ["model.layers.0.self_attn.q_proj", "model.embed_tokens"] {
        let expected = update(&golden("mlx"), module);
        assert_close(&update(&place.path("peft"), module), &expected);
        assert_close(&update(&place.path("again"), module), &expected);
    }
    let config = crate::support::read_json(&place.path("again/adapter_config.json"));
    assert_eq!(config["model"], "org/tiny-llama");
    assert_eq!(config["lora_parameters"]["scale"], 1.0);
}

#[test]
fn an_adapter_for_an_image_generator_is_not_taken_for_a_models() {
    let place = with_files(&["kohya.safetensors"]);
    let base = quickstart("base");
    let data = quickstart("tasks/library");
    let evaluate = [
        "evaluate",
        "--base",
        &base,
        "--adapter",
        "kohya.safetensors",
        "--data",
        &data,
    ];
    let config = format!(
        "output = \"run\"\n[base]\nmodel = \"{base}\"\n[data]\npath = \"{data}\"\nmax_length = 32\n\
         [task]\nkind = \"sequence-classification\"\n\
         [adapter]\nmethod = \"eigenlorax\"\nrank = 2\ncomponents = 2\n\
         adapters = [\"kohya.safetensors\"]\n\
         [training]\nepochs = 1\nbatch_size = 4\nlearning_rate = 1e-3\n"
    );
    fs::write(place.path("train.toml"), config).expect("a file");
    let merged = [
        "export",
        "kohya.safetensors",
        "--out",
        "out",
        "--merge-into-base",
        &base,
    ];
    for arguments in [&evaluate[..], &["train", "train.toml"], &merged] {
        let message = place.run_refused(arguments);
        for words in ["kohya.safetensors", "image generator", "text_encoder."] {
            assert!(message.contains(words), "{arguments:?}: {message}");
        }
    }
}

#[test]
fn adapters_of_an_image_generator_and_a_language_model_are_not_mixed() {
    let place = with_files(&["kohya.safetensors", "diffusers.safetensors"]);
    place.save("llm", &random_adapter(1, 3));
    let ending = [
        "--space", "core", "--method", "sum", "--out", "out", "--format", "peft",
    ];
    // kohya names a base model, diffusers does not.
    for (file, words) in [
        ("kohya.safetensors", ["sd_v1", "org/base"]),
        (
            "diffusers.safetensors",
            ["no module in common", "bert.encoder"],
        ),
    ] {
        for arguments in [
            [&["merge", "llm", file], &ending[..]].concat(),
            vec!["extract", "llm", file, "--out", "out"],
        ] {
            let message = place.run_refused(&arguments);
            for word in words.iter().chain(&[file]) {
                assert!(message.contains(word), "{arguments:?}: {message}");
            }
        }
    }
}

#[test]
fn damaged_files_are_refused_by_every_command() {
    let place = with_files(&["kohya.safetensors"]);
    let whole = fs::read(place.path("kohya.safetensors")).expect("a file");
    fs::write(place.path("cut.safetensors"), &whole[..whole.len() - 9]).expect("a file");
    // The name of an alpha spelt differently: its module would use the rank instead, silently.
    let text = String::from_utf8_lossy(&whole).into_owned();
    assert!(text.contains(".alpha"));
    let position = whole
        .windows(14)
        .position(|window| window == b"lora_up.weight")
        .expect("a name");
    let mut without_up = whole.clone();
    without_up[position..position + 7].copy_from_slice(b"lora_xx");
    fs::write(place.path("incomplete.safetensors"), without_up).expect("a file");
    for (name, words) in [
        ("cut.safetensors", "truncated"),
        ("incomplete.safetensors", "lora_up"),
    ] {
        for arguments in [
            &["inspect", name][..],
            &["export", name, "--out", "out"],
            &["extract", name, "--out", "out"],
            &[
                "merge", name, "--space", "core", "--method", "sum", "--out", "out",
            ],
        ] {
            let message = place.run_refused(arguments);
            assert!(
                message.contains(words) && message.contains(name),
                "{arguments:?}: {message}"
            );
        }
    }
}

#[test]
fn what_cannot_be_written_as_asked_is_refused_before_the_work() {
    let place = with_files(&["kohya.safetensors"]);
    place.save("llm", &random_adapter(1, 3));
    for (arguments, words) in [
        (
            &["export", "llm", "--out", "x.safetensors"][..],
            "is a directory",
        ),
        (
            &["export", "llm", "--out", "x", "--dtype", "f16"],
            "--dtype",
        ),
        (
            &["export", "llm", "--out", "x", "--format", "kohya"],
            "bert.encoder",
        ),
        (
            &[
                "export",
                "kohya.safetensors",
                "--out",
                "x",
                "--format",
                "peft",
            ],
            "unet",
        ),
    ] {
        let message = place.run_refused(arguments);
        assert!(message.contains(words), "{arguments:?}: {message}");
    }
}
