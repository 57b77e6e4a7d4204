//! GGUF files as base models, through the whole command line: tests/golden/gguf, see golden/README.md.

mod support;
use std::fs;
use std::path::Path;

use eigenmix_tensors::TensorFile;
use serde_json::json;
use support::{Workplace, largest_difference};

/// What the command line promises of any base model's logits.
const TOLERANCE: f32 = 1e-4;

fn golden(name: &str) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/gguf");
    let path = fs::canonicalize(directory.join(name)).expect("a golden file");
    path.to_str().expect("UTF-8").to_owned()
}

fn gives_the_logits_of_transformers(model: &str, reference: &str) {
    let place = Workplace::new();
    let (base, inputs) = (golden(model), golden(reference));
    let output = "out.safetensors";
    let outcome = place.run(&[
        "forward", "--base", &base, "--inputs", &inputs, "--out", output,
    ]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let logits = |path: &Path| {
        let file = TensorFile::open(path).expect("a file of tensors");
        file.read_f32("logits").expect("logits")
    };
    let found = logits(&place.path(output));
    let difference = largest_difference(&found, &logits(Path::new(&inputs)));
    println!("{model}: {difference:e}");
    assert!(difference < TOLERANCE, "{model}: {difference}");
}

#[test]
fn quantised_weights_in_llama_cpps_order_give_the_logits_of_transformers() {
    gives_the_logits_of_transformers("llama-Q4_1.gguf", "reference-llama.safetensors");
}

#[test]
fn frequencies_that_are_scaled_by_a_tensor_give_the_logits_of_the_right_model() {
    gives_the_logits_of_transformers("llama3-F16.gguf", "reference-llama3.safetensors");
}

/// A training on conversations, with the base and the template of one file.
fn trained(base: &str) -> Workplace {
    let place = Workplace::new();
    let row = |number: usize| {
        let [question, answer] = [("user", "the fox"), ("assistant", "the dog")]
            .map(|(role, words)| json!({"role": role, "content": format!("{words} {number}")}));
        json!({"messages": [question, answer]}).to_string()
    };
    fs::create_dir(place.path("data")).expect("a directory");
    for (split, numbers) in [("train", 0..8), ("validation", 8..10)] {
        let rows: Vec<String> = numbers.map(row).collect();
        let path = place.path("data").join(format!("{split}.jsonl"));
        fs::write(path, rows.join("\n")).expect("a file");
    }
    let config = format!(
        "output = \"run\"\n[base]\nmodel = {base:?}\n[data]\npath = \"data\"\n[task]\nkind = \"causal-lm\"\n\
         [adapter]\nmethod = \"lora\"\nrank = 3\n[training]\nepochs = 2\nbatch_size = 4\nlearning_rate = 1e-2\n"
    );
    fs::write(place.path("training.toml"), config).expect("a file");
    let outcome = place.run(&["train", "training.toml"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    place
}

#[test]
fn an_adapter_of_a_gguf_base_takes_its_tokenizer_and_template_along() {
    for base in ["llama-Q4_1.gguf", "llama3-F16.gguf"].map(golden) {
        let place = trained(&base);
        let adapter = place.path("run").join("adapter");
        for name in [
            "tokenizer.json",
            "tokenizer_config.json",
            "chat_template.jinja",
        ] {
            assert!(adapter.join(name).is_file(), "{name}");
        }
        fs::write(place.path("lines.txt"), "the fox 3\n").expect("a file");
        let generate = [
            "predict",
            "--base",
            &base,
            "--input",
            "lines.txt",
            "--max-new-tokens",
            "5",
        ];
        let with_adapter = [&generate[..], &["--adapter", "run/adapter"]].concat();
        let found = place.run_json(&with_adapter);
        assert!(
            found["predictions"][0]["continuation"].is_string(),
            "{found}"
        );
        // They are those of the base: nothing says that texts are put into other tokens.
        let outcome = place.run(&with_adapter);
        assert!(!outcome.stderr.contains("tokenizer"), "{outcome:?}");
    }
}

#[test]
fn a_gguf_base_without_a_tokenizer_takes_that_beside_the_adapter() {
    let base = golden("llama-Q4_1.gguf");
    let place = trained(&base);
    fs::write(place.path("lines.txt"), "the fox 3\n").expect("a file");
    let file = fs::read(&base).expect("a file");
    // A key of the same length that nothing reads, and a kind of tokenizer that is not known.
    for (key, other) in [
        (&b"tokenizer.ggml.tokens"[..], &b"tokenizer.ggml.tokenz"[..]),
        (b"tokenizer.ggml.model", b"tokenizer.ggml.modex"),
    ] {
        let mut changed = file.clone();
        let found = { changed.windows(key.len()) }.position(|window| window == key);
        let start = found.expect("the key");
        changed[start..start + key.len()].copy_from_slice(other);
        fs::write(place.path("bare.gguf"), changed).expect("a file");
        let predict = |base: &str| {
            let outcome = place.run(&[
                "predict",
                "--base",
                base,
                "--adapter",
                "run/adapter",
                "--input",
                "lines.txt",
                "--max-new-tokens",
                "5",
            ]);
            assert_eq!(outcome.status, 0, "{outcome:?}");
            outcome
        };
        let (own, bare) = (predict(&base), predict("bare.gguf"));
        assert_eq!(own.stdout, bare.stdout);
        let words = "the tokenizer is that beside the adapter";
        assert!(bare.stderr.contains(words), "{bare:?}");
        let alone = ["predict", "--base", "bare.gguf", "--input", "lines.txt"];
        assert_eq!(place.run(&alone).status, 2);
    }
}

#[test]
fn what_is_not_a_language_model_is_refused_in_one_line() {
    let place = Workplace::new();
    fs::write(place.path("lines.txt"), "the fox\n").expect("a file");
    let refused =
        |base: &str| place.run_refused(&["predict", "--base", base, "--input", "lines.txt"]);
    let line = refused(&golden("../gguf_adapters/llama-lora-F32.gguf"));
    assert!(
        line.contains("holds no language model: its `general.type` is `adapter`"),
        "{line}"
    );

    // Its last tensor ends 24 bytes before the file does, which are padding.
    let whole = fs::read(golden("llama-Q4_1.gguf")).expect("a golden file");
    fs::write(place.path("cut.gguf"), &whole[..whole.len() / 2]).expect("a file");
    let line = refused("cut.gguf");
    assert!(
        line.contains("`cut.gguf` is truncated: its header asks for 77032 bytes"),
        "{line}"
    );
}
