//! Language models from the training to the words they write, on a model that counts in a circle.

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::stopped_training::train;
use support::{Workplace, quickstart};

/// How many words the circle has: `n0` to `n9`; the other two tokens begin and end a text.
const WORDS: usize = 10;
const POSITIONS: usize = 32;

/// `count` words of the circle from `first` on.
fn counting(first: usize, count: usize) -> String {
    let words: Vec<String> = (first..first + count)
        .map(|word| format!("n{}", word % WORDS))
        .collect();
    words.join(" ")
}

/// A configuration of a small LLaMA, and a tokenizer of one token a word.
fn write_untrained(directory: &Path) {
    fs::create_dir_all(directory).expect("a directory");
    let mut vocabulary = json!({"<s>": WORDS, "</s>": WORDS + 1});
    for word in 0..WORDS {
        vocabulary[format!("n{word}")] = json!(word);
    }
    let special = |id: usize, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true})
    };
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [special(WORDS, "<s>"), special(WORDS + 1, "</s>")],
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "n0"},
    });
    let config = json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": WORDS + 2,
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": POSITIONS, "rms_norm_eps": 1e-6,
        "bos_token_id": WORDS, "eos_token_id": WORDS + 1,
    });
    for (name, content) in [("tokenizer.json", tokenizer), ("config.json", config)] {
        fs::write(directory.join(name), content.to_string()).expect("a file");
    }
}

/// Prompts and completions that count on, each from another number.
fn write_counting(directory: &Path) {
    fs::create_dir_all(directory).expect("a directory");
    let rows: Vec<String> = (0..WORDS)
        .map(|first| {
            let prompt = counting(first, 2 + first % 3);
            let completion = counting(first + 2 + first % 3, 4 + first % 2);
            json!({"prompt": prompt, "completion": format!(" {completion}")}).to_string()
        })
        .collect();
    for split in ["train", "test"] {
        let path = directory.join(split).with_extension("jsonl");
        fs::write(path, rows.join("\n")).expect("a file");
    }
}

/// A training file; `rest` is the end of its `[training]` table.
fn training_file(place: &Workplace, output: &str, base: &str, adapter: &str, rest: &str) -> String {
    format!(
        r#"
        seed = 4
        output = "{output}"
        [base]
        model = "{model}"
        {base}
        [data]
        path = "{data}"
        max_length = 24
        [task]
        kind = "causal-lm"
        metrics = ["perplexity", "exact-match"]
        [adapter]
        {adapter}
        [training]
        log_every = 1
        {rest}
        "#,
        output = place.path(output).display(),
        model = place.path("base").display(),
        data = place.path("data").display(),
    )
}

/// A workplace with `data`, and a `base` that has not learnt anything.
fn untrained() -> Workplace {
    let place = Workplace::new();
    write_untrained(&place.path("base"));
    write_counting(&place.path("data"));
    place
}

/// A workplace with `data`, and a `base` of random weights.
fn random_base() -> Workplace {
    let place = untrained();
    let rest = "epochs = 1\nmax_steps = 1\nbatch_size = 4\nlearning_rate = 1e-3";
    let file = training_file(
        &place,
        "scratch",
        "from_scratch = true",
        "method = \"full\"",
        rest,
    );
    train(&file, false, usize::MAX);
    let weights = "model.safetensors";
    let from = place.path("scratch").join("model").join(weights);
    fs::copy(from, place.path("base").join(weights)).expect("trained weights");
    place
}

const LORA: &str = "method = \"lora\"\nrank = 3\nalpha = 5\ntarget_modules = \"all-linear\"";

#[test]
fn a_model_that_learnt_to_count_counts_on_from_every_prompt() {
    let place = untrained();
    let rest = "epochs = 120\nbatch_size = 10\nlearning_rate = 1e-2\nevaluate_every = 0";
    let file = training_file(
        &place,
        "run",
        "from_scratch = true",
        "method = \"full\"",
        rest,
    );
    train(&file, false, usize::MAX);
    let model = place.path("run").join("model");
    let weights = "model.safetensors";
    fs::copy(model.join(weights), place.path("base").join(weights)).expect("trained weights");

    // It says the end where its examples end, which for these prompts is after 4 or 5 words.
    let prompts = [counting(3, 2), counting(7, 3), counting(2, 4)];
    fs::write(place.path("prompts.txt"), prompts.join("\n")).expect("a file");
    let expected = [counting(5, 5), counting(10, 5), counting(6, 4)];
    let predict = [
        "predict",
        "--base",
        "base",
        "--input",
        "prompts.txt",
        "--max-new-tokens",
        "9",
    ];
    let found = place.run_json(&predict);
    let streamed = place.run(&predict);
    assert_eq!(streamed.status, 0, "{streamed:?}");
    for (index, expected) in expected.iter().enumerate() {
        let prediction = &found["predictions"][index];
        assert_eq!(prediction["text"], prompts[index]);
        assert_eq!(prediction["continuation"], *expected);
        assert_eq!(streamed.stdout.lines().nth(index), Some(expected.as_str()));
    }

    let evaluate = [
        "evaluate",
        "--base",
        "base",
        "--data",
        "data",
        "--metric",
        "exact-match",
        "--metric",
        "perplexity",
    ];
    let found = place.run_json(&evaluate);
    assert_eq!(found["metrics"]["exact-match"], 1.0, "{found}");
    let [loss, perplexity] =
        [&found["loss"], &found["metrics"]["perplexity"]].map(|value| value.as_f64().unwrap());
    assert!((loss.exp() / perplexity - 1.0).abs() < 1e-12);
    // Nothing but the place of the end is uncertain to it; a guess among all tokens has 12.
    assert!(perplexity < 1.2, "{perplexity}");

    let longer = json!({"prompt": counting(1, 400), "completion": " n1"}).to_string();
    let test = place.path("data").join("test.jsonl");
    let rows = fs::read_to_string(&test).expect("rows");
    fs::write(&test, [rows.as_str(), &longer].join("\n")).expect("a file");
    let count = rows.lines().count();
    let outcome = place.run(&evaluate);
    let expected = format!("exact-match compares {count} of {} rows", count + 1);
    assert!(outcome.stderr.contains(&expected), "{outcome:?}");
}

#[test]
fn checkpointed_gradients_and_parts_of_a_batch_train_as_the_whole_batch_does() {
    let place = random_base();
    let losses = |output: &str, rest: &str| {
        let rest = format!("epochs = 6\nlearning_rate = 2e-2\n{rest}");
        train(
            &training_file(&place, output, "", LORA, &rest),
            false,
            usize::MAX,
        )
    };
    let whole = losses("whole", "batch_size = 10");
    assert!(whole[5] < whole[0] - 0.05, "{whole:?}");
    let variants = [
        (
            "checkpointed",
            "batch_size = 10\ngradient_checkpointing = true",
        ),
        ("parts", "batch_size = 4\ngradient_accumulation = 3"),
        (
            "both",
            "batch_size = 4\ngradient_accumulation = 3\ngradient_checkpointing = true",
        ),
    ];
    for (name, rest) in variants {
        for (found, expected) in losses(name, rest).iter().zip(&whole) {
            // Sums of f32 in another order, over six steps.
            assert!(
                (found - expected).abs() < 1e-4,
                "{name}: {found} {expected}"
            );
        }
    }
}

#[test]
fn a_training_goes_on_from_an_adapter_where_that_ended() {
    let place = random_base();
    let rest = "epochs = 6\nbatch_size = 10\nlearning_rate = 1e-2";
    let first = training_file(&place, "first", "", LORA, rest);
    train(&first, false, usize::MAX);
    let evaluate = [
        "evaluate",
        "--base",
        "base",
        "--adapter",
        "first",
        "--data",
        "data",
    ];
    let found = place.run_json(&[&evaluate[..], &["--split", "train"]].concat());
    let expected = found["loss"].as_f64().expect("a loss");
    for (method, more) in [("lora", ""), ("moslora", ""), ("lora", "rank = 4")] {
        let init = place.path("first").display().to_string();
        let adapter = format!("method = \"{method}\"\ninit = \"{init}\"\n{more}");
        let output = format!("{method}-{}", more.len());
        let losses = train(
            &training_file(&place, &output, "", &adapter, rest),
            false,
            usize::MAX,
        );
        // All ten rows are one batch; a mean of losses of size three, in f32.
        assert!(
            (losses[0] - expected).abs() < 1e-6,
            "{losses:?}, not {expected}"
        );
        assert!(losses[5] < losses[0], "{losses:?}");
    }
}

/// The lines of metrics.jsonl without what depends on the clock.
fn metrics(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    let without_speed = |line: &str| {
        let mut value: Value = serde_json::from_str(line).expect("JSON");
        let object = value.as_object_mut().expect("an object");
        object.retain(|key, _| !key.ends_with("per_second"));
        value
    };
    text.lines().map(without_speed).collect()
}

#[test]
fn a_resumed_training_drops_what_an_uninterrupted_one_drops() {
    let place = random_base();
    for checkpointing in [false, true] {
        let file = |output: &str| {
            let rest = format!(
                "epochs = 3\nbatch_size = 2\ngradient_accumulation = 2\nlearning_rate = 1e-2\n\
                 gradient_checkpointing = {checkpointing}"
            );
            let adapter = format!("{LORA}\ndropout = 0.2");
            training_file(&place, output, "dropout = 0.1", &adapter, &rest)
        };
        let [whole, parts] = ["whole", "parts"].map(|name| format!("{name}-{checkpointing}"));
        train(&file(&whole), false, usize::MAX);
        train(&file(&parts), false, 2);
        train(&file(&parts), true, 5);
        train(&file(&parts), true, usize::MAX);
        let [whole, parts] = [whole, parts].map(|name| place.path(&name));
        assert_eq!(metrics(&parts), metrics(&whole));
        let weights = |run: &Path| fs::read(run.join("adapter/adapter_model.safetensors")).ok();
        assert!(weights(&whole).is_some() && weights(&whole) == weights(&parts));
    }
}

#[test]
fn a_line_that_cannot_be_continued_is_named_with_what_to_do() {
    let place = random_base();
    let predict = |content: &[u8], more: &[&str]| {
        fs::write(place.path("in.txt"), content).expect("a file");
        let arguments = ["predict", "--base", "base", "--input", "in.txt", "--json"];
        place.run_refused(&[&arguments[..], more].concat())
    };
    let long = predict(b"n1\nn2 n3 n4\n", &["--max-new-tokens", "30"]);
    let expected =
        "in.txt:2: the prompt's 3 tokens and --max-new-tokens 30 exceed the model's 32 positions";
    assert!(long.contains(expected), "{long}");
    assert!(long.contains("give --max-new-tokens 29"), "{long}");
    let binary = predict(b"n1\n\xff\n", &[]);
    assert!(
        binary.contains("line 2 of `in.txt` is not UTF-8"),
        "{binary}"
    );
    let top = predict(b"n1\n", &["--top", "2"]);
    assert!(top.contains("--top is for classifiers"), "{top}");
    let seed = [
        "predict", "--base", "base", "--input", "in.txt", "--seed", "2",
    ];
    let seed = place.run(&seed);
    assert_eq!(seed.status, 2, "{seed:?}");
    assert!(seed.stderr.contains("--temperature <T>"), "{seed:?}");
    let chat = predict(b"n1\n", &["--chat"]);
    assert!(chat.contains("no chat template"), "{chat}");
    let messages = r#"{"messages": [{"role": "user", "content": "n1"}]}"#;
    fs::write(place.path("rows.jsonl"), messages).expect("a file");
    let rows = ["predict", "--base", "base", "--input", "rows.jsonl"];
    let rows = place.run_refused(&rows);
    assert!(rows.contains("no chat template"), "{rows}");

    // An empty line is what a text begins with, if the model has a token for it.
    fs::write(place.path("in.txt"), "\n").expect("a file");
    let arguments = [
        "predict",
        "--base",
        "base",
        "--input",
        "in.txt",
        "--max-new-tokens",
        "3",
    ];
    let of_nothing = place.run_json(&arguments);
    fs::write(place.path("in.txt"), "<s>\n").expect("a file");
    let of_begin = place.run_json(&arguments);
    let continuation = |found: &Value| found["predictions"][0]["continuation"].clone();
    assert_eq!(continuation(&of_nothing), continuation(&of_begin));

    let path = place.path("base").join("config.json");
    let mut config = support::read_json(&path);
    for key in ["bos_token_id", "eos_token_id"] {
        config.as_object_mut().expect("an object").remove(key);
    }
    fs::write(&path, config.to_string()).expect("a file");
    let empty = predict(b"n1\n\nn2\n", &["--max-new-tokens", "3"]);
    assert!(empty.contains("in.txt:2 is empty"), "{empty}");
}

#[test]
fn what_does_not_go_with_the_model_is_refused_before_anything_runs() {
    let place = random_base();
    let texts = place.path("texts");
    fs::create_dir(&texts).expect("a directory");
    for split in ["train", "test"] {
        let row = json!({"text": counting(4, 6)}).to_string();
        fs::write(texts.join(split).with_extension("jsonl"), row).expect("a file");
    }
    let evaluate = ["evaluate", "--base", "base", "--data", "texts"];
    let accuracy = place.run_refused(&[&evaluate[..], &["--metric", "accuracy"]].concat());
    let expected = "metric `accuracy` is for multiple-choice data, and this is causal language";
    assert!(accuracy.contains(expected), "{accuracy}");
    let long = place.run_refused(&[&evaluate[..], &["--set", "max_length=33"]].concat());
    assert!(long.contains("data.max_length is 33"), "{long}");
    assert!(long.contains("only 32 positions"), "{long}");

    let bakery = quickstart("adapters/bakery");
    let encoder = place.run_refused(&[&evaluate[..], &["--adapter", &bakery]].concat());
    assert!(
        encoder.contains("adapter of another base model"),
        "{encoder}"
    );

    let rest = "epochs = 1\nbatch_size = 4\nlearning_rate = 1e-3";
    let file = training_file(&place, "run", "", LORA, rest);
    fs::write(
        place.path("metric.toml"),
        file.replace("/data\"", "/texts\""),
    )
    .expect("a file");
    let metric = place.run_refused(&["train", "metric.toml"]);
    assert!(
        metric.contains("metric `exact-match` is for prompts"),
        "{metric}"
    );
    let kind = file.replace("causal-lm", "image-classification");
    fs::write(place.path("kind.toml"), kind).expect("a file");
    let kind = place.run_refused(&["train", "kind.toml"]);
    assert!(kind.contains("which is a decoder"), "{kind}");
}

#[test]
fn a_missing_part_of_a_checkpoint_is_named() {
    let place = random_base();
    let base = place.path("base");
    let [first, second] = [1, 2].map(|part| format!("model-{part:05}-of-00002.safetensors"));
    fs::rename(base.join("model.safetensors"), base.join(&first)).expect("a weight file");
    let index = json!({"metadata": {}, "weight_map": {
        "model.embed_tokens.weight": first, "lm_head.weight": second,
    }});
    fs::write(base.join("model.safetensors.index.json"), index.to_string()).expect("a file");
    let message = place.run_refused(&["evaluate", "--base", "base", "--data", "data"]);
    assert!(
        message.contains("model.safetensors.index.json"),
        "{message}"
    );
    assert!(
        message.contains(&format!("names `{second}`, which is missing")),
        "{message}"
    );
}

#[test]
fn a_tied_output_layer_that_is_targeted_is_adapted_alone() {
    let place = untrained();
    let path = place.path("base").join("config.json");
    let mut config = support::read_json(&path);
    config["tie_word_embeddings"] = json!(true);
    fs::write(&path, config.to_string()).expect("a file");
    let scratch = "epochs = 1\nmax_steps = 1\nbatch_size = 4\nlearning_rate = 1e-3";
    let scratch = training_file(
        &place,
        "scratch",
        "from_scratch = true",
        "method = \"full\"",
        scratch,
    );
    train(&scratch, false, usize::MAX);
    let weights = "model.safetensors";
    let from = place.path("scratch").join("model").join(weights);
    fs::copy(from, place.path("base").join(weights)).expect("trained weights");

    let adapter = "method = \"lora\"\nrank = 2\ntarget_modules = [\"lm_head\", \"q_proj\"]";
    let rest = "epochs = 6\nbatch_size = 10\nlearning_rate = 5e-2";
    let file = training_file(&place, "run", "", adapter, rest);
    fs::write(place.path("run.toml"), &file).expect("a file");
    let slope = place.run_json(&["gradient", "run.toml", "--out", "slope", "--rank", "4"]);
    assert!(
        slope["modules"]["lm_head"]["norm"].as_f64() > Some(0.0),
        "{slope}"
    );
    let losses = train(&file, false, usize::MAX);
    assert!(losses[5] < losses[0] - 0.1, "{losses:?}");
    let evaluate = [
        "evaluate",
        "--data",
        "data",
        "--metric",
        "perplexity",
        "--base",
    ];
    let of_run = place.run_json(&[&evaluate[..], &["base", "--adapter", "run"]].concat());
    // A checkpoint whose two tables are told apart computes the same.
    let export = [
        "export",
        "run",
        "--merge-into-base",
        "base",
        "--out",
        "merged",
    ];
    assert_eq!(place.run(&export).status, 0);
    let merged = support::read_json(&place.path("merged").join("config.json"));
    assert_eq!(merged["tie_word_embeddings"], false);
    let of_merged = place.run_json(&[&evaluate[..], &["merged"]].concat());
    let loss = |found: &Value| found["loss"].as_f64().expect("a loss");
    assert!(
        (loss(&of_run) - loss(&of_merged)).abs() < 1e-5,
        "{of_run} {of_merged}"
    );
    let base = place.run_json(&[&evaluate[..], &["base"]].concat());
    assert!(loss(&of_run) < loss(&base) - 0.1, "{of_run} {base}");
}

#[test]
fn the_weights_of_adapters_of_a_language_model_are_trained_without_a_head() {
    let place = untrained();
    let scratch = "epochs = 1\nmax_steps = 1\nbatch_size = 4\nlearning_rate = 1e-3";
    let scratch = training_file(
        &place,
        "scratch",
        "from_scratch = true",
        "method = \"full\"",
        scratch,
    );
    train(&scratch, false, usize::MAX);
    let weights = "model.safetensors";
    let from = place.path("scratch").join("model").join(weights);
    fs::copy(from, place.path("base").join(weights)).expect("trained weights");
    let rest = "epochs = 10\nbatch_size = 10\nlearning_rate = 5e-2";
    for (name, targets) in [("first", "q_proj"), ("second", "down_proj")] {
        let adapter = format!("method = \"lora\"\nrank = 2\ntarget_modules = [\"{targets}\"]");
        train(
            &training_file(&place, name, "", &adapter, rest),
            false,
            usize::MAX,
        );
    }
    let names = ["first/adapter", "second/adapter"];
    let names = names.map(|name| place.path(name).display().to_string());
    let pool = format!("adapters = {names:?}\nallow_base_mismatch = true");
    let compose = format!("method = \"compose\"\n{pool}");
    let file = training_file(&place, "run", "", &compose, rest);
    fs::write(place.path("run.toml"), &file).expect("a file");
    let losses = train(&file, false, usize::MAX);
    assert!(losses[9] < losses[0], "{losses:?}");
    let outcome = support::read_json(&place.path("run/outcome.json"));
    // A weight for each of two modules that one adapter has, and for each of two that the other has.
    assert_eq!(outcome["adapter_parameters"], 4);
    assert_eq!(outcome["head_parameters"], 0);
    let tested = outcome["test"]["perplexity"].as_f64().expect("a number");
    let of_run = place.run_json(&[
        "evaluate",
        "--data",
        "data",
        "--metric",
        "perplexity",
        "--base",
        "base",
        "--adapter",
        "run",
    ]);
    let found = of_run["metrics"]["perplexity"].as_f64().expect("a number");
    assert!((found / tested - 1.0).abs() < 1e-4, "{found} {tested}");

    let mix = format!("method = \"eigenmix\"\nrank = 2\n{pool}\ninit = \"compose\"");
    let text =
        |output: &str| training_file(&place, output, "", &mix, &format!("{rest}\nsave_every = 1"));
    let whole = train(&text("whole"), false, usize::MAX);
    // The start is better than that of the base model.
    assert!(whole[0] < losses[0], "{whole:?} {losses:?}");
    let begun = train(&text("stopped"), false, 3);
    let resumed = train(&text("stopped"), true, usize::MAX);
    assert_eq!([begun, resumed].concat(), whole);
}
