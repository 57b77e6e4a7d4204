//! Quantised base models through the whole command line: the logits of other people's software, the
//! losses of trainings, and what `inspect` and `--dry-run` say of their memory.

mod support;
use std::fs;
use std::path::{Path, PathBuf};

use eigenmix_tensors::{Dtype, TensorFile, TensorOutput, write_tensor_file};
use serde_json::{Map, Value, json};
use support::stopped_training::train;
use support::{Workplace, largest_difference};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(name)
}

fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

/// Writes the tensors of a reference that start with `prefix` as inputs.
fn write_inputs(reference: &TensorFile, prefix: &str, path: &Path) {
    let names: Vec<&str> = reference
        .names()
        .filter(|name| name.starts_with(prefix) && !name.contains("logits"))
        .collect();
    let outputs = names.iter().filter_map(|name| {
        let (shape, dtype) = reference.tensor(name).expect("a tensor");
        let name_of_input = format!("input.{}", name.rsplit('.').next()?);
        let bytes = reference.view(name).expect("its bytes");
        (dtype == Dtype::I64).then(|| TensorOutput::bytes(name_of_input, shape, dtype, bytes))
    });
    write_tensor_file(path, outputs.collect()).expect("a file");
}

/// The largest difference from reference logits where the mask is 1.
fn difference(base: &Path, adapter: Option<&Path>, file: &str, inputs: &str, name: &str) -> f32 {
    let reference = TensorFile::open(&golden(file)).expect("a reference");
    let place = Workplace::new();
    write_inputs(&reference, inputs, &place.path("inputs.safetensors"));
    let (base, adapter) = (text(base), adapter.map(text));
    let mut arguments = vec!["forward", "--base", &base, "--inputs", "inputs.safetensors"];
    arguments.extend(["--out", "out.safetensors"]);
    arguments.extend(adapter.iter().flat_map(|adapter| ["--adapter", adapter]));
    let outcome = place.run(&arguments);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let file = TensorFile::open(&place.path("out.safetensors")).expect("a file");
    let found = file.read_f32("logits").expect("logits");
    let expected = reference.read_f32(name).expect("logits");
    assert_eq!(found.len(), expected.len());
    let vocabulary = *reference.shape(name).expect("a shape").last().expect("one");
    let mask = reference.read_i64(&format!("{inputs}attention_mask"));
    let mask = mask.unwrap_or_else(|_| vec![1; found.len() / vocabulary]);
    let kept = |logits: Vec<f32>| -> Vec<f32> {
        let rows = logits.chunks(vocabulary).zip(&mask);
        let kept = rows.filter(|(_, mask)| **mask == 1);
        kept.flat_map(|(row, _)| row.to_vec()).collect()
    };
    largest_difference(&kept(found), &kept(expected))
}

/// Logits are up to some tens; adapters move them by more than 1.
const TOLERANCE: f32 = 1e-4;

#[test]
fn a_bitsandbytes_model_gives_the_logits_of_its_decoded_weights() {
    let base = golden("quantised/nf4");
    let adapter = golden("quantised/adapter");
    for (adapter, name) in [(None, "base"), (Some(&*adapter), "adapter")] {
        let name = format!("nf4-double-bf16.logits.{name}");
        let file = "quantised/reference.safetensors";
        let difference = difference(&base, adapter, file, "input.", &name);
        assert!(difference < TOLERANCE, "{name}: {difference}");
    }
}

#[test]
fn gguf_models_give_the_logits_of_their_decoded_weights() {
    for (base, inputs) in [("llama-Q4_1", "llama."), ("qwen2-mixed", "qwen2.")] {
        let path = golden(&format!("gguf/{base}.gguf"));
        let name = format!("{base}.logits");
        let difference = difference(&path, None, "gguf/reference.safetensors", inputs, &name);
        assert!(difference < TOLERANCE, "{name}: {difference}");
    }
}

/// The bitsandbytes model with a tokenizer of a word a token, and texts for it.
fn write_task(place: &Workplace) -> String {
    let base = place.path("nf4");
    fs::create_dir(&base).expect("a directory");
    for name in ["config.json", "model.safetensors"] {
        fs::copy(golden("quantised/nf4").join(name), base.join(name)).expect("a copy");
    }
    let vocabulary: Map<String, Value> = (0..99).map(|id| (format!("w{id}"), json!(id))).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w0"}
    });
    fs::write(base.join("tokenizer.json"), tokenizer.to_string()).expect("a file");
    let names = json!({"eos_token": "w2"});
    fs::write(base.join("tokenizer_config.json"), names.to_string()).expect("a file");
    fs::create_dir(place.path("data")).expect("a directory");
    let rows = (0..20).map(|row| {
        let words = (0..8 + row % 5).map(|word| format!("w{}", 3 + (row * 11 + word * 7) % 96));
        let text = words.collect::<Vec<_>>().join(" ");
        format!("{}\n", json!({"text": text}))
    });
    fs::write(place.path("data/train.jsonl"), rows.collect::<String>()).expect("a file");
    text(&base)
}

/// Adapters to recycle: two of the golden one's shape, trained for a few steps.
fn train_sources(place: &Workplace, base: &str) -> String {
    let sources = [11, 12].map(|seed| {
        let output = text(&place.path(&format!("source-{seed}")));
        let configuration =
            configuration(place, base, "auto", "method = \"lora\"\nrank = 4", &output);
        train(
            &configuration.replace("seed = 3", &format!("seed = {seed}")),
            false,
            usize::MAX,
        );
        format!("{:?}", format!("{output}/adapter"))
    });
    sources.join(", ")
}

fn configuration(
    place: &Workplace,
    base: &str,
    weights: &str,
    adapter: &str,
    output: &str,
) -> String {
    let data = text(&place.path("data"));
    format!(
        "seed = 3\noutput = {output:?}\n[base]\nmodel = {base:?}\nweights = \"{weights}\"\n\
         [data]\npath = {data:?}\nmax_length = 16\n[task]\nkind = \"causal-lm\"\n\
         [adapter]\n{adapter}\n\
         [training]\nepochs = 10\nmax_steps = 20\nbatch_size = 5\nlearning_rate = 5e-3\n\
         log_every = 1\nevaluate_every = 0\n"
    )
}

#[test]
fn every_method_trains_on_a_quantised_model_as_on_its_decoded_weights() {
    let place = Workplace::new();
    let bitsandbytes = write_task(&place);
    let gguf = text(&golden("gguf/llama-Q4_1.gguf"));
    for (name, base) in [("nf4", &bitsandbytes), ("q4_1", &gguf)] {
        let place = Workplace::new();
        write_task(&place);
        let sources = train_sources(&place, base);
        for adapter in [
            "method = \"lora\"\nrank = 4\ntarget_modules = \"all-linear\"".to_owned(),
            "method = \"moslora\"\nrank = 4".to_owned(),
            format!("method = \"eigenlorax\"\nrank = 2\nadapters = [{sources}]"),
            format!("method = \"eigenmix\"\nrank = 3\nadapters = [{sources}]"),
        ] {
            let [quantised, wide] = ["auto", "float32"].map(|weights| {
                let output = text(&place.path(&format!("run-{weights}")));
                let _ = fs::remove_dir_all(&output);
                let configuration = configuration(&place, base, weights, &adapter, &output);
                train(&configuration, false, usize::MAX)
            });
            assert_eq!(quantised.len(), 20);
            let pairs = quantised.iter().zip(&wide);
            let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            println!("{name}, {adapter}: {largest:e}, {:?}", quantised.last());
            assert!(largest < 1e-5, "{name}, {adapter}: {largest}");
            let learnt = quantised[0] - quantised[19];
            assert!(learnt > 0.01, "{name}, {adapter}: {quantised:?}");
        }
    }
}

#[test]
fn an_adapter_of_weights_that_were_quantised_while_loading_says_so_on_others() {
    let place = Workplace::new();
    let quickstart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/quickstart");
    let (base, data) = (
        text(&quickstart.join("base")),
        text(&quickstart.join("tasks/gym")),
    );
    let configuration = format!(
        "output = \"run\"\n[base]\nmodel = {base:?}\nweights = \"nf4\"\n\
         [data]\npath = {data:?}\nmax_length = 16\n[adapter]\nmethod = \"lora\"\nrank = 2\n\
         [training]\nepochs = 1\nmax_steps = 2\nbatch_size = 4\nlearning_rate = 1e-3\n"
    );
    fs::write(place.path("train.toml"), configuration).expect("a file");
    let outcome = place.run(&["train", "train.toml"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    fs::write(place.path("lines.txt"), "where is it\n").expect("a file");
    let arguments = [
        "predict",
        "--base",
        &base,
        "--adapter",
        "run",
        "--input",
        "lines.txt",
    ];
    let plain = place.run(&arguments);
    assert_eq!(plain.status, 0, "{plain:?}");
    assert!(
        plain.stderr.contains("--weights nf4 repeats it"),
        "{plain:?}"
    );
    let repeated = place.run(&[&arguments[..], &["--weights", "nf4"]].concat());
    assert_eq!(repeated.status, 0, "{repeated:?}");
    assert!(!repeated.stderr.contains("--weights nf4"), "{repeated:?}");
    // A training on a file that was quantised already is not repeated by a flag.
    let made = place.path("run/adapter/eigenmix.json");
    let record = fs::read_to_string(&made).expect("a file");
    let changed = record.replace("\"nf4\"", "\"stored\"");
    assert_ne!(record, changed);
    fs::write(&made, changed).expect("a file");
    let stored = place.run(&arguments);
    assert_eq!(stored.status, 0, "{stored:?}");
    assert!(!stored.stderr.contains("--weights"), "{stored:?}");
}

/// The parameters of the golden LLaMA of the bitsandbytes files, by part.
const TABLE: u64 = 99 * 128;
const ATTENTION: u64 = 2 * (2 * 128 * 128 + 2 * 64 * 128);
const FEED_FORWARD: u64 = 2 * 3 * 128 * 192;
const NORMS: u64 = 5 * 128;

fn part<'a>(found: &'a Value, name: &str) -> &'a Value {
    let parts = found["parts"].as_array().expect("parts");
    let part = parts.iter().find(|part| part["part"] == name);
    part.unwrap_or_else(|| panic!("no {name} in {found}"))
}

#[test]
fn a_quantised_model_is_described_with_what_its_parts_take() {
    let place = Workplace::new();
    let base = text(&golden("quantised/nf4"));
    let found = place.run_json(&["inspect", &base]);
    assert_eq!(
        (&found["kind"], &found["family"]),
        (&json!("model"), &json!("llama"))
    );
    assert_eq!(
        (&found["layers"], &found["widths"]),
        (&json!(2), &json!([128, 192]))
    );
    assert_eq!(
        (&found["vocabulary"], &found["context_length"]),
        (&json!(99), &json!(64))
    );
    assert_eq!(
        found["parameters"],
        2 * TABLE + ATTENTION + FEED_FORWARD + NORMS
    );
    assert_eq!(found["forms"]["NF4"]["tensors"], 14);
    assert_eq!(
        found["forms"]["NF4"]["parameters"],
        ATTENTION + FEED_FORWARD
    );
    assert_eq!(found["forms"]["BF16"]["bytes"], 2 * (2 * TABLE + NORMS));
    // Four bits and a scale in f32 for each 64 of them.
    let nf4 = |count: u64| count / 2 + count / 64 * 4;
    for (name, count) in [("attention", ATTENTION), ("feed-forward", FEED_FORWARD)] {
        let held = &part(&found, name)["held"];
        for weights in ["auto", "stored", "nf4", "int8"] {
            assert_eq!(held[weights], nf4(count), "{name}, {weights}");
        }
        assert_eq!(held["float32"], 4 * count, "{name}");
    }
    // Doubly quantised, the scales take a byte each in the file.
    let stored = part(&found, "attention")["stored"].as_u64().expect("bytes");
    assert!(
        stored > ATTENTION / 2 && stored < nf4(ATTENTION) + 8 * 2000,
        "{stored}"
    );
    for name in ["token table", "output layer"] {
        let held = &part(&found, name)["held"];
        assert_eq!(
            (&held["auto"], &held["float32"]),
            (&json!(2 * TABLE), &json!(4 * TABLE))
        );
    }
    let words = place.run(&["inspect", &base]).stdout;
    assert!(
        words.contains("quantised") && words.contains("NF4"),
        "{words}"
    );
}

#[test]
fn a_gguf_file_is_described_and_quantising_on_the_way_counts_for_others() {
    let place = Workplace::new();
    let gguf = text(&golden("gguf/llama-Q4_1.gguf"));
    let found = place.run_json(&["inspect", &gguf]);
    assert_eq!(found["is_quantised"], true);
    let attention = part(&found, "attention");
    let count = attention["parameters"].as_u64().expect("a number");
    // Blocks of 32 values take 20 bytes.
    assert_eq!(attention["held"]["auto"], count / 32 * 20);
    assert_eq!(attention["stored"], count / 32 * 20);

    let plain = text(&golden("models/llama/base"));
    let found = place.run_json(&["inspect", &plain]);
    assert_eq!(found["is_quantised"], false);
    let attention = part(&found, "attention");
    let count = attention["parameters"].as_u64().expect("a number");
    assert_eq!(attention["held"]["auto"], 4 * count);
    let int8 = attention["held"]["int8"].as_u64().expect("bytes");
    assert!(int8 > count && int8 < 2 * count, "{int8} of {count}");
    let table = part(&found, "token table");
    // It is in half precision, and quantised by none.
    assert_eq!(table["held"]["nf4"], table["stored"]);
}

#[test]
fn a_dry_run_counts_frozen_weights_as_they_are_held() {
    let place = Workplace::new();
    let base = write_task(&place);
    let frozen = |weights: &str| {
        let adapter = "method = \"lora\"\nrank = 4";
        let file = configuration(&place, &base, weights, adapter, "run");
        fs::write(place.path("t.toml"), file).expect("a file");
        let dry = place.run_json(&["train", "t.toml", "--dry-run"]);
        assert_eq!(
            dry["frozen_parameters"],
            2 * TABLE + ATTENTION + FEED_FORWARD + NORMS
        );
        dry["weights"].as_u64().expect("bytes")
    };
    let layers = ATTENTION + FEED_FORWARD;
    let rest = 2 * 2 * TABLE + 4 * NORMS;
    assert_eq!(frozen("auto"), layers / 2 + layers / 64 * 4 + rest);
    assert_eq!(frozen("float32"), 4 * (layers + 2 * TABLE + NORMS));
    // Where the weights are not at hand, config.json says enough.
    fs::remove_file(place.path("nf4/model.safetensors")).expect("a file");
    assert_eq!(
        frozen("auto"),
        layers / 2 + layers / 64 * 4 + 2 * (2 * TABLE + NORMS)
    );
}

#[test]
fn a_directory_of_gguf_files_alone_is_refused_with_their_names() {
    let place = Workplace::new();
    let models = place.path("models");
    fs::create_dir(&models).expect("a directory");
    for name in [
        "a-Q4_1.gguf",
        "b-00001-of-00002.gguf",
        "b-00002-of-00002.gguf",
    ] {
        fs::copy(golden("gguf/llama-Q4_1.gguf"), models.join(name)).expect("a copy");
    }
    let refused = place.run(&["inspect", "models"]);
    assert_eq!(refused.status, 2, "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("a-Q4_1.gguf, b-00001-of-00002.gguf;")
            && refused.stderr.contains("models/a-Q4_1.gguf"),
        "{refused:?}"
    );
    assert_eq!(place.run(&["inspect", "models/a-Q4_1.gguf"]).status, 0);
}
