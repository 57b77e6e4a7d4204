//! LoRA adapters in GGUF through the binary, with llama.cpp's form of one and the logits of transformers and
//! PEFT (golden/gguf_adapters).

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Workplace, largest_difference, read_json};
use eigenmix_adapter::{AdapterFile, LoraModule};
use eigenmix_gguf::GgufFile;
use eigenmix_tensors::{Dtype, HostTensor, Matrix, TensorFile, TensorOutput, write_tensor_file};
use serde_json::json;

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

/// The arguments that merge an adapter into a base model.
fn merging<'a>(adapter: &'a str, base: &'a str, out: &'a str) -> [&'a str; 6] {
    ["export", adapter, "--merge-into-base", base, "--out", out]
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
fn an_adapter_is_in_gguf_by_what_it_is_and_not_by_how_it_is_named() {
    let place = workplace();
    fs::rename(place.path(ADAPTER), place.path("X.GGUF")).expect("a file");
    let told = place.run_json(&merging("X.GGUF", BASE, "merged"));
    assert_eq!(told["merged"]["merged"], 14);
    let to = [
        "export", "X.GGUF", "--format", "gguf", "--base", BASE, "--out", "Y.GGUF",
    ];
    assert_eq!(place.run_json(&to)["format"], "gguf");
    let [first, second] = ["X.GGUF", "Y.GGUF"].map(|name| {
        let told = place.run_json(&["inspect", name]);
        told["norm"].as_f64().expect("a norm")
    });
    assert!((first / second - 1.0).abs() < 1e-6);

    // A wrong name of the base model is told of even where nothing depended on it.
    fs::copy(golden("qwen2-lora-F32.gguf"), place.path("qwen2.gguf")).expect("a file");
    let pack = ["pack", "qwen2.gguf", "--out", "store", "--base", "nowhere"];
    let error = place.run_refused(&pack);
    assert!(error.contains("nowhere"), "{error}");
}

#[test]
fn several_gguf_adapters_are_compared_without_their_base_model_and_with_others_only_by_it() {
    let place = workplace();
    fs::copy(place.path(ADAPTER), place.path("copy.gguf")).expect("a file");
    let told = place.run_json(&["inspect", ADAPTER, "copy.gguf"]);
    let cosine = told["comparison"]["cosine"][0][1].as_f64();
    assert!((cosine.expect("a cosine") - 1.0).abs() < 1e-6, "{told}");
    // Their rows lie in different orders.
    let error = place.run_refused(&["inspect", ADAPTER, PEFT]);
    let words = "llama.cpp's order";
    let none = "the file names no base model";
    assert!(error.contains(words) && error.contains(none), "{error}");
    // Where a file names a model, what is wrong with that is told.
    let export = ["export", PEFT, "--format", "gguf", "--base", BASE, "--out"];
    place.run_json(&[&export[..], &["named.gguf"]].concat());
    let error = place.run_refused(&["inspect", "named.gguf", PEFT]);
    let named = "the file names `../llama-hf`, but";
    assert!(error.contains(words) && error.contains(named), "{error}");
}

#[test]
fn gguf_adapters_are_merged_and_decomposed_like_others() {
    let place = workplace();
    place.run_json(&["export", ADAPTER, "--base", BASE, "--out", "peft"]);
    let error = place.run_refused(&[
        "merge", ADAPTER, PEFT, "--space", "core", "--method", "sum", "--out", "merged",
    ]);
    assert!(error.contains("dialects"), "{error}");
    let merge = ["merge", ADAPTER, PEFT, "--space", "core", "--method", "sum"];
    let given = ["--base", BASE, "--format", "peft", "--out", "merged"];
    place.run_json(&[merge.as_slice(), &given].concat());
    let shared = [
        "extract",
        ADAPTER,
        PEFT,
        "--components",
        "3",
        "--out",
        "shared",
    ];
    let error = place.run_refused(&shared);
    assert!(error.contains("--base MODEL"), "{error}");
    place.run_json(&[shared.as_slice(), &["--base", BASE]].concat());
    let project = ["project", ADAPTER, "--subspace", "shared", "--base", BASE];
    place.run_json(&project);
    let pack = ["pack", ADAPTER, PEFT, "--out", "store", "--base", BASE];
    place.run_json(&pack);
    let error = place.run_refused(&["extract", PEFT, "--base", BASE, "--out", "other"]);
    assert!(error.contains("--base is for adapters in GGUF"), "{error}");

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
        "--space",
        "core",
        "--method",
        "sum",
    ];
    place.run_json(&[merge.as_slice(), &["--format", "peft", "--out", "twice"]].concat());
    let norm = |name: &str| place.run_json(&["inspect", name])["norm"].as_f64();
    let (once, twice) = (norm(PEFT).expect("a norm"), norm("twice").expect("a norm"));
    assert!((twice / once - 2.0).abs() < 1e-4, "{once} {twice}");
    let given = norm("merged").expect("a norm");
    assert!((given / once - 2.0).abs() < 1e-4, "{once} {given}");
}

#[test]
fn merging_into_a_quantised_base_decodes_it_and_gives_the_logits_of_the_adapter() {
    let place = workplace();
    let expected = reference(&place, "logits.adapter");
    let merge = merging(ADAPTER, BASE, "merged");
    let told = place.run_json(&[merge.as_slice(), &["--dtype", "f32"]].concat());
    assert_eq!(told["merged"]["merged"], 14);
    let notes = told["merged"]["notes"].to_string();
    assert!(notes.contains("decoded to f32"), "{notes}");
    assert!(place.path("merged/tokenizer.json").is_file());
    let config = read_json(&place.path("merged/config.json"));
    assert_eq!(config["torch_dtype"], "float32");
    assert_eq!(config["model_type"], "llama");
    let found = logits(&place, "merged", None);
    assert!(largest_difference(&found, &expected) < 1e-4);

    // In half precision unless something else is asked for: 11 bits of weights.
    place.run_json(&[merge.as_slice(), &["--force"]].concat());
    let config = read_json(&place.path("merged/config.json"));
    assert_eq!(config["torch_dtype"], "float16");
    let rounded = logits(&place, "merged", None);
    let difference = largest_difference(&rounded, &expected);
    assert!(difference > 1e-5 && difference < 2e-2, "{difference}");

    // What was decoded is merged into as any checkpoint is, in the dtype that it has.
    let again = merging(PEFT, "merged", "again");
    let error = place.run_refused(&[again.as_slice(), &["--dtype", "f32"]].concat());
    assert!(error.contains("--dtype"), "{error}");
    let told = place.run_json(&again);
    assert_eq!(told["merged"]["notes"].as_array().map(Vec::len), Some(0));
}

#[test]
fn tables_that_peft_saved_unchanged_are_left_out_and_trained_ones_refused() {
    const TABLE: &str = "model.embed_tokens.weight";
    let place = workplace();
    let decode = merging(ADAPTER, BASE, "merged");
    place.run_json(&[decode.as_slice(), &["--dtype", "f32"]].concat());
    let decoded = TensorFile::open(&place.path("merged/model.safetensors")).expect("a file");
    let shape = decoded.shape(TABLE).expect("a table").to_vec();
    let table = HostTensor::new(shape, decoded.read_f32(TABLE).expect("numbers"));

    let mut adapter = AdapterFile::open(&place.path(PEFT))
        .expect("one")
        .load()
        .expect("it");
    adapter.heads.insert(TABLE.to_owned(), table);
    place.save("with-table", &adapter);
    let to = [
        "export",
        "with-table",
        "--format",
        "gguf",
        "--base",
        BASE,
        "--out",
        "lora.gguf",
    ];
    let outcome = place.run(&to);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.stderr.contains(TABLE), "{outcome:?}");

    adapter.heads.get_mut(TABLE).expect("it").values[5] += 1.0;
    place.save("trained-table", &adapter);
    let to = [
        "export",
        "trained-table",
        "--format",
        "gguf",
        "--base",
        BASE,
        "--out",
        "no.gguf",
    ];
    let error = place.run_refused(&to);
    assert!(error.contains(TABLE), "{error}");
}

/// The linear layers of a checkpoint in bitsandbytes' eight bits: value = weight · SCB / 127.
fn write_eight_bits(from: &Path, to: &Path) {
    let file = TensorFile::open(&from.join("model.safetensors")).expect("a file");
    let mut tensors: Vec<(String, Vec<usize>, Dtype, Vec<u8>)> = Vec::new();
    for name in file.names() {
        let shape = file.shape(name).expect("a tensor").to_vec();
        let values = file.read_f32(name).expect("numbers");
        if !name.ends_with("_proj.weight") {
            let bytes = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            tensors.push((name.to_owned(), shape, Dtype::F32, bytes));
            continue;
        }
        let (mut codes, mut scales) = (Vec::new(), Vec::new());
        for row in values.chunks(shape[1]) {
            let largest = row.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            codes.extend(
                row.iter()
                    .map(|value| (value / largest * 127.0).round() as i8 as u8),
            );
            scales.extend(largest.to_le_bytes());
        }
        let scale = name.replace(".weight", ".SCB");
        tensors.push((scale, vec![shape[0]], Dtype::F32, scales));
        tensors.push((name.to_owned(), shape, Dtype::I8, codes));
    }
    let outputs = tensors.iter().map(|(name, shape, dtype, bytes)| {
        TensorOutput::bytes(name.as_str(), shape.as_slice(), *dtype, bytes.as_slice())
    });
    fs::create_dir(to).expect("a directory");
    write_tensor_file(&to.join("model.safetensors"), outputs.collect()).expect("a file");
    let mut config = read_json(&from.join("config.json"));
    config["quantization_config"] = json!({"quant_method": "bitsandbytes", "load_in_8bit": true});
    config["torch_dtype"] = json!("bfloat16");
    fs::write(to.join("config.json"), config.to_string()).expect("a file");
    fs::write(to.join("tokenizer.json"), "{}").expect("a file");
}

#[test]
fn a_bitsandbytes_base_becomes_an_ordinary_checkpoint_with_the_update_in_it() {
    let place = workplace();
    let decode = merging(ADAPTER, BASE, "plain");
    place.run_json(&[decode.as_slice(), &["--dtype", "f32"]].concat());
    write_eight_bits(&place.path("plain"), &place.path("eight-bits"));
    let expected = logits(&place, "eight-bits", Some(PEFT));

    let merge = merging(PEFT, "eight-bits", "merged");
    let told = place.run_json(&[merge.as_slice(), &["--dtype", "f32"]].concat());
    assert_eq!(told["merged"]["merged"], 14);
    let config = read_json(&place.path("merged/config.json"));
    assert_eq!(config.get("quantization_config"), None);
    assert_eq!(config["torch_dtype"], "float32");
    assert!(place.path("merged/tokenizer.json").is_file());
    let found = logits(&place, "merged", None);
    assert!(largest_difference(&found, &expected) < 1e-4);

    // The dtype of the model, unless another is asked for.
    place.run_json(&[merge.as_slice(), &["--force"]].concat());
    assert_eq!(
        read_json(&place.path("merged/config.json"))["torch_dtype"],
        "bfloat16"
    );
}

#[test]
fn a_rank_that_vllm_does_not_take_unasked_is_told() {
    let place = workplace();
    let mut adapter = AdapterFile::open(&place.path(PEFT))
        .expect("one")
        .load()
        .expect("it");
    adapter.config = adapter
        .config
        .with("task_type", json!("CAUSAL_LM"))
        .expect("a task");
    for (rank, told) in [(16, false), (17, true)] {
        let value = LoraModule::new(Matrix::zeros(32, rank), Matrix::zeros(rank, 64), 1.0);
        let path = "model.layers.0.self_attn.v_proj".to_owned();
        adapter.modules.insert(path, value);
        let name = format!("rank-{rank}");
        place.save(&name, &adapter);
        let outcome = place.run(&["export", &name, "--out", "copy", "--force"]);
        let says = outcome.stderr.contains("--max-lora-rank 32");
        assert_eq!(says, told, "{outcome:?}");
    }
}

#[test]
fn an_adapter_of_quantised_weights_merged_into_others_is_told() {
    let place = workplace();
    let decode = merging(ADAPTER, BASE, "plain");
    place.run_json(&decode);
    let says = |name: &str| {
        let to = merging(PEFT, "plain", name);
        let outcome = place.run(&to);
        assert_eq!(outcome.status, 0, "{outcome:?}");
        outcome.stderr
    };
    assert!(!says("first").contains("trained on"));
    let mut config = place.config(PEFT);
    config["base_model_name_or_path"] = json!("models/tiny-Q4_0.gguf");
    place.write_config(PEFT, &config);
    let told = says("second");
    assert!(
        told.contains("the quantised `models/tiny-Q4_0.gguf`"),
        "{told}"
    );
    // What a training noted goes before what a name says.
    let path = place.path(PEFT).join("eigenmix.json");
    for (form, words) in [
        ("nf4", "weights in nf4"),
        ("stored", "weights in the form of its quantised file"),
    ] {
        let options = json!({ "base_weights": form });
        let made =
            json!({"version": "1", "method": "train/lora", "sources": [], "options": options});
        fs::write(&path, made.to_string()).expect("a file");
        let told = says(form);
        assert!(told.contains(words), "{told}");
    }
}
