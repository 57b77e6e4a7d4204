//! Trainings whose batches hold a number of tokens: texts of an encoder and of a decoder, and images.

mod support;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::image_tasks::{Attribute, TaskSize, write_image_task};
use support::stopped_training::train;
use support::{Workplace, metrics, quickstart};

/// What is trained on what.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Encoder,
    Decoder,
    Vision,
}

const KINDS: [Kind; 3] = [Kind::Encoder, Kind::Decoder, Kind::Vision];

/// Images of the training split, each four patches and a class token.
const IMAGES: usize = 20;

fn write(place: &Workplace, files: &[(&str, Value)]) {
    for (name, content) in files {
        let path = place.path(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, content.to_string()).expect("a file");
    }
}

/// A small LLaMA, a tokenizer of one token a word, and texts of two to eight words.
fn write_decoder(place: &Workplace) {
    let words: Vec<String> = (0..10).map(|word| format!("n{word}")).collect();
    let ids = words.iter().enumerate();
    let mut vocabulary: Value = ids.map(|(id, word)| (word.clone(), json!(id))).collect();
    vocabulary["<s>"] = json!(10);
    vocabulary["</s>"] = json!(11);
    let special = |id: usize, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true})
    };
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [special(10, "<s>"), special(11, "</s>")],
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "n0"},
    });
    let config = json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 12,
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32,
        "rms_norm_eps": 1e-6, "bos_token_id": 10, "eos_token_id": 11,
    });
    write(
        place,
        &[
            ("llama/tokenizer.json", tokenizer),
            ("llama/config.json", config),
        ],
    );
    let text = |row: usize| -> String {
        let words: Vec<String> = (0..2 + row * 5 % 7)
            .map(|word| format!("n{}", (row + word * word) % 10))
            .collect();
        json!({"text": words.join(" ")}).to_string()
    };
    let rows: Vec<String> = (0..24).map(text).collect();
    fs::create_dir_all(place.path("texts")).expect("a directory");
    fs::write(place.path("texts/train.jsonl"), rows.join("\n")).expect("a file");
}

fn write_vision(place: &Workplace) {
    let config = json!({"model_type": "vit", "hidden_size": 16, "intermediate_size": 20,
        "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 16, "patch_size": 8});
    let preprocessor = json!({"image_processor_type": "ViTImageProcessor", "size": 16,
        "do_rescale": true, "do_normalize": false});
    write(
        place,
        &[
            ("vit/config.json", config),
            ("vit/preprocessor_config.json", preprocessor),
        ],
    );
    let size = TaskSize {
        side: 16,
        per_class: [IMAGES / 4, 1, 1],
    };
    write_image_task(&place.path("images"), &[Attribute::Color], size, 3);
}

fn workplace() -> Workplace {
    let place = Workplace::new();
    write_decoder(&place);
    write_vision(&place);
    place
}

/// A training file; `rest` is the end of its `[training]` table.
fn configuration(place: &Workplace, kind: Kind, output: &str, dropout: f64, rest: &str) -> String {
    let at = |name: &str| place.path(name).display().to_string();
    let lora = format!("method = \"lora\"\nrank = 4\ndropout = {dropout}");
    let scratch = "method = \"full\"".to_owned();
    let (task, base, data, adapter) = match kind {
        Kind::Encoder => (
            "sequence-classification",
            quickstart("base"),
            quickstart("tasks/ferry_port"),
            lora,
        ),
        Kind::Decoder => ("causal-lm", at("llama"), at("texts"), scratch),
        Kind::Vision => ("image-classification", at("vit"), at("images"), scratch),
    };
    let few = match kind {
        Kind::Encoder => "examples_per_class = 4\n",
        _ => "",
    };
    format!(
        "seed = 5\noutput = \"{output}\"\n\
         [base]\nmodel = \"{base}\"\nfrom_scratch = {from_scratch}\ndropout = {dropout}\n\
         [data]\npath = \"{data}\"\nmax_length = 24\n{few}\
         [task]\nkind = \"{task}\"\n\
         [adapter]\n{adapter}\n\
         [training]\nlearning_rate = 2e-3\nlog_every = 1\nevaluate_every = 0\n{rest}",
        output = at(output),
        from_scratch = kind != Kind::Encoder,
    )
}

/// The learning rates of the logged steps.
fn rates(run: &Path) -> Vec<f64> {
    let lines = metrics(run).into_iter();
    lines
        .filter_map(|line| line["learning_rate"].as_f64())
        .collect()
}

#[test]
fn a_batch_by_tokens_has_the_losses_of_its_examples_one_by_one() {
    let place = workplace();
    for kind in KINDS {
        let losses = |output: &str, batches: &str| {
            let rest = format!("epochs = 6\n{batches}");
            let output = format!("{kind:?}-{output}");
            train(
                &configuration(&place, kind, &output, 0.0, &rest),
                false,
                usize::MAX,
            )
        };
        // All examples in one step, whatever it consists of.
        let packed = losses("packed", "tokens_per_batch = 100000");
        let single = losses("single", "batch_size = 1\ngradient_accumulation = 1000");
        let parts = losses(
            "parts",
            "tokens_per_batch = 30\ngradient_accumulation = 1000",
        );
        assert_eq!((packed.len(), single.len(), parts.len()), (6, 6, 6));
        assert!(packed[5] < packed[0] - 1e-3, "{packed:?}");
        for others in [single, parts] {
            for (found, expected) in packed.iter().zip(&others) {
                // f32 sums over a few hundred tokens, in another order; a step moves the loss by
                // more than 1e-3 a step.
                assert!(
                    (found - expected).abs() < 2e-5,
                    "{kind:?}: {packed:?} {others:?}"
                );
            }
        }
    }
}

#[test]
fn a_resumed_training_by_tokens_is_the_uninterrupted_one_to_the_bit() {
    let place = workplace();
    for kind in KINDS {
        let file = |output: &str| {
            let rest = "epochs = 2\ntokens_per_batch = 30\ngradient_accumulation = 2";
            configuration(&place, kind, output, 0.1, rest)
        };
        let [whole, parts] = ["whole", "parts"].map(|name| format!("{kind:?}-{name}"));
        let steps = train(&file(&whole), false, usize::MAX).len();
        assert!(steps >= 4, "{kind:?}: {steps}");
        // Inside the first epoch, and inside the second.
        train(&file(&parts), false, 1);
        train(&file(&parts), true, steps - 1);
        train(&file(&parts), true, usize::MAX);
        let [whole, parts] = [whole, parts].map(|name| place.path(&name));
        assert_eq!(metrics(&parts), metrics(&whole), "{kind:?}");
        let weights = |run: &Path| {
            let path = match kind {
                Kind::Encoder => "adapter/adapter_model.safetensors",
                _ => "model/model.safetensors",
            };
            fs::read(run.join(path)).expect("weights")
        };
        assert_eq!(weights(&parts), weights(&whole), "{kind:?}");
    }
}

#[test]
fn the_schedule_ends_with_the_last_step_of_batches_by_tokens() {
    let place = workplace();
    for kind in KINDS {
        for limit in [None, Some(3)] {
            let output = format!("{kind:?}-{limit:?}");
            let limit_line = limit.map(|limit| format!("max_steps = {limit}\n"));
            let rest = format!(
                "epochs = 3\ntokens_per_batch = 32\n{}",
                limit_line.unwrap_or_default()
            );
            let steps = train(
                &configuration(&place, kind, &output, 0.0, &rest),
                false,
                usize::MAX,
            );
            let rates = rates(&place.path(&output));
            assert_eq!(rates.len(), steps.len());
            if let Some(limit) = limit {
                assert_eq!(steps.len(), limit);
            }
            // The linear schedule would reach zero one step later.
            let last = 2e-3 / steps.len() as f64;
            assert!((rates[steps.len() - 1] - last).abs() < 1e-12, "{rates:?}");
            if (kind, limit) == (Kind::Vision, None) {
                // Six images of five rows fit into 32.
                assert_eq!(steps.len(), 3 * IMAGES.div_ceil(6));
            }
        }
    }
}

#[test]
fn the_flag_takes_the_place_of_the_batch_size_of_the_file() {
    let place = workplace();
    let rest = "epochs = 1\nbatch_size = 4";
    let text = configuration(&place, Kind::Encoder, "run", 0.0, rest);
    fs::write(place.path("config.toml"), text).expect("a file");
    fn of<'a>(flags: &[&'a str]) -> Vec<&'a str> {
        [&["train", "config.toml"], flags].concat()
    }

    let rows =
        |flags: &[&str]| place.run_json(&of(&[flags, &["--dry-run"]].concat()))["rows"].clone();
    assert_eq!(rows(&[]), 4 * 24);
    assert_eq!(rows(&["--tokens-per-batch", "70"]), 70);
    // An example of 24 tokens would be a batch of its own.
    assert_eq!(rows(&["--tokens-per-batch", "10"]), 24);
    let shown = place.run(&of(&["--tokens-per-batch", "70", "--dry-run"]));
    let expected = "at most 70 rows (tokens or patches) per batch";
    assert!(shown.stdout.contains(expected), "{shown:?}");

    let both = ["--set", "training.tokens_per_batch=70"];
    let message = place.run_refused(&of(&both));
    let expected = "both `training.batch_size` and `training.tokens_per_batch` are set";
    assert!(message.contains(expected), "{message}");
    let again = ["--tokens-per-batch", "70", "--set", "training.batch_size=4"];
    let message = place.run_refused(&of(&again));
    assert!(message.contains(expected), "{message}");

    let outcome = place.run(&of(&["--tokens-per-batch", "6"]));
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let expected = "are longer than training.tokens_per_batch = 6";
    assert!(outcome.stderr.contains(expected), "{outcome:?}");
    let written = fs::read_to_string(place.path("run/config.toml")).expect("a configuration");
    assert!(written.contains("\ntokens_per_batch = 6\n"), "{written}");
    assert!(!written.contains("\nbatch_size"), "{written}");
}

#[test]
fn a_file_without_a_size_of_batches_is_refused_with_both_keys() {
    let place = workplace();
    let text = configuration(&place, Kind::Encoder, "run", 0.0, "epochs = 1");
    fs::write(place.path("config.toml"), text).expect("a file");
    let message = place.run_refused(&["train", "config.toml"]);
    for key in [
        "`training.batch_size` is missing",
        "`training.tokens_per_batch`",
    ] {
        assert!(message.contains(key), "{message}");
    }
}
