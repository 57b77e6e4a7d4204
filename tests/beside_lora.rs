//! What an adapter brings besides LoRA factors: logits of transformers and PEFT (golden/beside_lora)
//! through the whole command line, on top of the base model and merged into it.

mod support;
use std::fs;
use std::path::{Path, PathBuf};

use eigenmix_adapter::{AdapterFile, SaveOptions};
use eigenmix_tensors::{HostTensor, TensorFile, TensorOutput, write_tensor_file};
use serde_json::{Map, Value, json};
use support::{Workplace, largest_difference, quickstart, read_json};

/// Relative to the largest logit, as for the other golden models.
const TOLERANCE: f32 = 2e-5;

fn golden(path: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    folder.join(path)
}

fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

/// The inputs of one variant, under the names that the command reads.
fn write_inputs(reference: &TensorFile, variant: &str, path: &Path) {
    let ending = format!(".{variant}");
    let names = reference.names().filter_map(|name| {
        let plain = name.strip_suffix(&ending)?;
        plain.starts_with("input.").then_some((name, plain))
    });
    let tensors = names.map(|(name, plain)| {
        let (shape, dtype) = reference.tensor(name).expect("a tensor");
        let bytes = reference.view(name).expect("bytes");
        TensorOutput::bytes(plain, shape, dtype, bytes)
    });
    write_tensor_file(path, tensors.collect()).expect("a file");
}

fn assert_logits(place: &Workplace, arguments: &[&str], expected: &[f32], what: &str) {
    let common = ["forward", "--inputs", "inputs.safetensors"];
    let common = [&common[..], &["--out", "out.safetensors", "--force"]].concat();
    let outcome = place.run(&[&common, arguments].concat());
    assert_eq!(outcome.status, 0, "{what}: {outcome:?}");
    let found = TensorFile::open(&place.path("out.safetensors"))
        .and_then(|file| file.read_f32("logits"))
        .expect("logits");
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected
        .iter()
        .fold(0.0f32, |all, logit| all.max(logit.abs()));
    let difference = largest_difference(&found, expected) / largest;
    println!("{what}: {difference:e} of {largest}");
    assert!(difference < TOLERANCE, "{what}: {difference}");
}

fn agrees_with_the_reference(family: &str, variants: usize) {
    let folder = golden(&format!("beside_lora/{family}"));
    let reference = TensorFile::open(&folder.join("reference.safetensors")).expect("a reference");
    let base = text(&golden(&format!("models/{family}/base")));
    let names: Vec<&str> = reference
        .names()
        .filter_map(|name| name.strip_prefix("logits."))
        .collect();
    assert_eq!(names.len(), variants, "{family}");
    for variant in names {
        let place = Workplace::new();
        write_inputs(&reference, variant, &place.path("inputs.safetensors"));
        let expected = reference
            .read_f32(&format!("logits.{variant}"))
            .expect("logits");
        let adapter = text(&folder.join(format!("adapter-{variant}")));
        let what = format!("{family}, {variant}");
        let on_top = ["--base", &base, "--adapter", &adapter];
        assert_logits(&place, &on_top, &expected, &what);

        // A merge is stored in the type of the base model, which may be a half.
        let merge = ["export", &adapter, "--out", "merged", "--merge-into-base"];
        if !matches!(family, "gpt2" | "bert") {
            continue;
        }
        let outcome = place.run(&[&merge[..], &[base.as_str()]].concat());
        assert_eq!(outcome.status, 0, "{what}: {outcome:?}");
        let what = format!("{what}, merged");
        assert_logits(&place, &["--base", "merged"], &expected, &what);
    }
}

#[test]
fn a_model_whose_tables_are_tied_gives_the_logits_of_peft() {
    agrees_with_the_reference("qwen2", 5);
}

#[test]
fn a_model_with_an_output_layer_of_its_own_gives_the_logits_of_peft() {
    agrees_with_the_reference("llama", 3);
}

#[test]
fn gpt2_gives_the_logits_of_peft() {
    agrees_with_the_reference("gpt2", 3);
}

#[test]
fn a_classifier_gives_the_logits_of_peft() {
    agrees_with_the_reference("bert", 2);
}

/// A copy of an adapter of LLaMA with some of its tensors, and another one.
fn changed(
    place: &Workplace,
    keeps: impl Fn(&str) -> bool,
    another: Option<TensorOutput<'_>>,
) -> String {
    let adapter = golden("beside_lora/llama/adapter-resized");
    let copy = place.path("adapter");
    fs::create_dir(&copy).expect("a directory");
    let config = "adapter_config.json";
    fs::copy(adapter.join(config), copy.join(config)).expect("a copy");
    let file = TensorFile::open(&adapter.join("adapter_model.safetensors")).expect("a file");
    let names = file.names().filter(|name| keeps(name));
    let tensors = names.map(|name| {
        let (shape, dtype) = file.tensor(name).expect("a tensor");
        TensorOutput::bytes(name, shape, dtype, file.view(name).expect("bytes"))
    });
    let tensors = tensors.chain(another).collect();
    write_tensor_file(&copy.join("adapter_model.safetensors"), tensors).expect("a file");
    text(&copy)
}

fn refusal(place: &Workplace, adapter: &str, base: &str) -> String {
    let inputs = text(&golden("models/llama/reference.safetensors"));
    let base = text(&golden(&format!("models/{base}/base")));
    let mut arguments = vec!["forward", "--base", &base, "--adapter", adapter];
    arguments.extend(["--inputs", &inputs, "--out", "out.safetensors"]);
    let outcome = place.run(&arguments);
    assert_eq!(outcome.status, 2, "{outcome:?}");
    outcome.stderr
}

#[test]
fn one_resized_table_without_the_other_is_refused() {
    let place = Workplace::new();
    let adapter = changed(&place, |name| !name.contains("lm_head"), None);
    let message = refusal(&place, &adapter, "llama");
    for part in [
        "embed_tokens",
        "47",
        "lm_head",
        "43",
        "save_embedding_layers",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_bias_of_a_layer_that_has_none_is_refused_by_its_name() {
    let place = Workplace::new();
    let bias = [0.5; 36];
    let name = "base_model.model.model.layers.0.self_attn.o_proj.bias";
    let adapter = changed(&place, |_| true, Some(TensorOutput::f32(name, [36], &bias)));
    let path = place.path("adapter/adapter_config.json");
    let config = fs::read_to_string(&path).expect("a file");
    let mut config: Map<String, Value> = serde_json::from_str(&config).expect("JSON");
    config.insert("bias".to_owned(), json!("all"));
    fs::write(&path, Value::Object(config).to_string()).expect("a file");
    let message = refusal(&place, &adapter, "llama");
    assert!(message.contains("o_proj.bias"), "{message}");
}

/// The adapter of the gym with a table that has a token more, whose row is that of `word`, and the
/// tokenizer that knows it.
fn with_a_new_token(place: &Workplace, token: &str, word: &str) {
    let file = AdapterFile::open(Path::new(&quickstart("adapters/gym"))).expect("an adapter");
    let mut adapter = file.load().expect("an adapter");
    let name = "bert.embeddings.word_embeddings.weight";
    let base = PathBuf::from(quickstart("base"));
    let weights = TensorFile::open(&base.join("model.safetensors")).expect("weights");
    let bare = "embeddings.word_embeddings.weight";
    let stored = if weights.contains(name) { name } else { bare };
    let mut table = HostTensor {
        shape: weights.shape(stored).expect("a table").to_vec(),
        values: weights.read_f32(stored).expect("a table"),
    };
    let [tokens, width] = table.shape[..] else {
        panic!("a table")
    };
    let mut tokenizer = read_json(&base.join("tokenizer.json"));
    let id = tokenizer["model"]["vocab"][word].as_u64().expect("a word") as usize;
    let row = table.values[id * width..][..width].to_vec();
    table.values.extend(row);
    table.shape[0] = tokens + 1;
    adapter.heads.insert(name.to_owned(), table);
    adapter
        .save(&place.path("adapter"), &SaveOptions::default())
        .expect("an adapter");
    let added = json!({
        "id": tokens, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": false,
    });
    let all = tokenizer["added_tokens"].as_array_mut().expect("a list");
    all.push(added);
    let path = place.path("adapter/tokenizer.json");
    fs::write(path, tokenizer.to_string()).expect("a file");
}

#[test]
fn a_new_token_is_read_with_the_row_that_the_adapter_has_for_it() {
    let place = Workplace::new();
    with_a_new_token(&place, "zyzzyva", "freeze");
    let base = quickstart("base");
    let predict = |word: &str, adapter: &str| {
        let line = format!("please {word} my membership\n");
        fs::write(place.path("lines"), line).expect("a file");
        let mut arguments = vec!["predict", "--base", &base, "--adapter", adapter];
        arguments.extend(["--input", "lines", "--top", "3"]);
        let found = place.run_json(&arguments);
        found["predictions"][0]["labels"].clone()
    };
    let expected = predict("freeze", &quickstart("adapters/gym"));
    assert_eq!(predict("freeze", "adapter"), expected);
    assert_eq!(predict("zyzzyva", "adapter"), expected);
    assert_ne!(predict("cancel", "adapter"), expected);
}
