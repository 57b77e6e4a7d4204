//! What is refused before anything is trained or written, and in which words.

use std::fs;

use serde_json::{Value, json};

use crate::circle::{LORA, counting, random_base, training_file};
use crate::support::{quickstart, read_json};

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
    let mut config = read_json(&path);
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
