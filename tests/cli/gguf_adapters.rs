//! LoRA adapters in GGUF through the binary, with llama.cpp's form of one and the logits of transformers and
//! PEFT (golden/gguf_adapters).

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Workplace, largest_difference};
use eigenmix_adapter::AdapterFile;
use eigenmix_gguf::GgufFile;
use eigenmix_tensors::TensorFile;

const BASE: &str = "llama-Q4_0.gguf";
const ADAPTER: &str = "llama-lora-F32.gguf";
const PEFT: &str = "llama-adapter";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/gguf_adapters")
        .join(name)
}

/// A workplace with the base model and the adapter in both forms.
fn workplace() -> Workplace {
    let place = Workplace::new();
    for name in [BASE, ADAPTER, "reference.safetensors"] {
        fs::copy(golden(name), place.path(name)).expect("a golden file");
    }
    fs::create_dir(place.path(PEFT)).expect("a directory");
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        let path = format!("{PEFT}/{name}");
        fs::copy(golden(&path), place.path(&path)).expect("a golden file");
    }
    place
}

/// The logits with an adapter, or of the base model.
fn logits(place: &Workplace, base: &str, adapter: Option<&str>) -> Vec<f32> {
    let mut arguments = vec![
        "forward",
        "--base",
        base,
        "--inputs",
        "reference.safetensors",
    ];
    arguments.extend(["--out", "logits.safetensors", "--force"]);
    if let Some(adapter) = adapter {
        arguments.extend(["--adapter", adapter]);
    }
    place.run_json(&arguments);
    let file = TensorFile::open(&place.path("logits.safetensors")).expect("logits");
    file.read_f32("logits").expect("numbers")
}

fn reference(place: &Workplace, name: &str) -> Vec<f32> {
    let file = TensorFile::open(&place.path("reference.safetensors")).expect("references");
    file.read_f32(name).expect("numbers")
}

#[test]
fn a_gguf_adapter_gives_the_logits_of_the_peft_adapter_that_it_was_made_of() {
    let place = workplace();
    let expected = reference(&place, "logits.adapter");
    let without = logits(&place, BASE, None);
    assert!(largest_difference(&without, &reference(&place, "logits.base")) < 1e-4);
    // The adapter moves logits by more than 1; sums in f32 differ by some 1e-6 of them.
    assert!(largest_difference(&without, &expected) > 1.0);
    for adapter in [ADAPTER, PEFT] {
        let found = logits(&place, BASE, Some(adapter));
        assert!(largest_difference(&found, &expected) < 1e-4, "{adapter}");
    }
}

#[test]
fn a_peft_adapter_becomes_the_gguf_file_of_llama_cpp_and_comes_back() {
    let place = workplace();
    let to = [
        "export",
        PEFT,
        "--format",
        "gguf",
        "--base",
        BASE,
        "--out",
        "lora.gguf",
    ];
    let told = place.run_json(&to);
    assert_eq!(told["format"], "gguf");
    let open = |name: &str| GgufFile::open(&place.path(name)).expect("a GGUF file");
    let (written, expected) = (open("lora.gguf"), open(ADAPTER));
    assert!(written.names().eq(expected.names()));
    for name in expected.names() {
        let tensor = |file: &GgufFile| file.tensor(name).expect("a tensor").data;
        assert_eq!(tensor(&written), tensor(&expected), "{name}");
    }
    // A name that is there already is refused, and overwritten when it is asked for.
    let error = place.run_refused(&to);
    assert!(error.contains("lora.gguf"), "{error}");
    place.run_json(&[to.as_slice(), &["--force"]].concat());

    let back = ["export", "lora.gguf", "--base", BASE, "--out", "back"];
    assert_eq!(place.run_json(&back)["format"], "peft");
    let load = |path: &Path| {
        AdapterFile::open(path)
            .expect("an adapter")
            .load()
            .expect("it")
    };
    let (back, first) = (load(&place.path("back")), load(&place.path(PEFT)));
    for (path, module) in &first.modules {
        let (found, expected) = (back.modules[path].update(), module.update());
        // The scaling is folded into B in one and not in the other.
        let difference = largest_difference(found.values(), expected.values());
        assert!(difference < 1e-6, "{path}: {difference}");
    }
}

#[test]
fn without_a_base_model_a_command_says_what_to_do_and_the_named_one_is_tried() {
    let place = workplace();
    let error = place.run_refused(&["export", ADAPTER, "--out", "peft"]);
    assert!(error.contains("--base MODEL"), "{error}");
    let error = place.run_refused(&["export", PEFT, "--format", "gguf", "--out", "lora.gguf"]);
    assert!(
        error.contains("../llama-hf") && error.contains("--base"),
        "{error}"
    );
    let error = place.run_refused(&["export", PEFT, "--base", BASE, "--out", "peft"]);
    assert!(error.contains("--format gguf"), "{error}");
    let error = place.run_refused(&[
        "export", PEFT, "--format", "gguf", "--base", BASE, "--out", "d",
    ]);
    assert!(error.contains("FILE.gguf"), "{error}");

    // Beside the adapter, as it names it.
    fs::create_dir(place.path("llama-hf")).expect("a directory");
    fs::copy(
        golden("llama-config.json"),
        place.path("llama-hf/config.json"),
    )
    .expect("a file");
    place.run_json(&["export", PEFT, "--format", "gguf", "--out", "sub/lora.gguf"]);
    // The new file is in a directory of its own, so that it names its base model in the same words.
    place.run_json(&["export", "sub/lora.gguf", "--out", "peft"]);
    let norm = |name: &str| place.run_json(&["inspect", name])["norm"].as_f64();
    let (first, second) = (norm(PEFT).expect("a norm"), norm("peft").expect("a norm"));
    assert!((first / second - 1.0).abs() < 1e-6);
    // Norms need no order of rows.
    let third = norm(ADAPTER).expect("a norm");
    assert!((first / third - 1.0).abs() < 1e-6);
}

#[test]
fn gguf_adapters_are_merged_and_decomposed_like_others() {
    let place = workplace();
    place.run_json(&["export", ADAPTER, "--base", BASE, "--out", "peft"]);
    let error = place.run_refused(&["merge", ADAPTER, PEFT, "--out", "merged"]);
    assert!(error.contains("dialects"), "{error}");
    // With a base model at hand, an adapter in GGUF is one among others.
    fs::create_dir(place.path("llama-hf")).expect("a directory");
    fs::copy(
        golden("llama-config.json"),
        place.path("llama-hf/config.json"),
    )
    .expect("a file");
    let to = ["export", PEFT, "--format", "gguf", "--out", "sub/lora.gguf"];
    place.run_json(&to);
    let merge = [
        "merge",
        "sub/lora.gguf",
        PEFT,
        "--method",
        "sum",
        "--out",
        "twice",
    ];
    place.run_json(&[merge.as_slice(), &["--format", "peft"]].concat());
    let norm = |name: &str| place.run_json(&["inspect", name])["norm"].as_f64();
    let (once, twice) = (norm(PEFT).expect("a norm"), norm("twice").expect("a norm"));
    assert!((twice / once - 2.0).abs() < 1e-4, "{once} {twice}");
}

#[test]
fn merging_into_a_quantised_base_decodes_it_and_gives_the_logits_of_the_adapter() {
    let place = workplace();
    let expected = reference(&place, "logits.adapter");
    let merge = [
        "export",
        ADAPTER,
        "--merge-into-base",
        BASE,
        "--out",
        "merged",
    ];
    let told = place.run_json(&[merge.as_slice(), &["--dtype", "f32"]].concat());
    assert_eq!(told["merged"]["merged"], 14);
    let notes = told["merged"]["notes"].to_string();
    assert!(
        notes.contains("decoded to f32") && notes.contains("tokenizer"),
        "{notes}"
    );
    let config = crate::support::read_json(&place.path("merged/config.json"));
    assert_eq!(config["torch_dtype"], "float32");
    assert_eq!(config["model_type"], "llama");
    let found = logits(&place, "merged", None);
    assert!(largest_difference(&found, &expected) < 1e-4);

    // In half precision unless something else is asked for: 11 bits of weights.
    place.run_json(&[merge.as_slice(), &["--force"]].concat());
    let config = crate::support::read_json(&place.path("merged/config.json"));
    assert_eq!(config["torch_dtype"], "float16");
    let rounded = logits(&place, "merged", None);
    let difference = largest_difference(&rounded, &expected);
    assert!(difference > 1e-5 && difference < 2e-2, "{difference}");

    // What was decoded is merged into as any checkpoint is, in the dtype that it has.
    let again = [
        "export",
        PEFT,
        "--merge-into-base",
        "merged",
        "--out",
        "again",
    ];
    let error = place.run_refused(&[again.as_slice(), &["--dtype", "f32"]].concat());
    assert!(error.contains("--dtype"), "{error}");
    let told = place.run_json(&again);
    assert_eq!(told["merged"]["notes"].as_array().map(Vec::len), Some(0));
}
