//! What a training knew of its input is known wherever its result is used: templates, pairs, columns and
//! what ends a turn come from the adapter, unless flags say otherwise.

mod support;

use std::fs;
use std::path::Path;

use eigenmix_adapter::{AdapterFile, SaveOptions};
use eigenmix_tensors::{TensorFile, TensorOutput, write_tensor_file};
use serde_json::{Value, json};
use support::{Workplace, quickstart, read_json};

/// `w0` to `w9`, then the tokens that frame a conversation; only `</s>` is the model's own end.
const WORDS: usize = 10;
const SPECIAL: [&str; 5] = ["<s>", "</s>", "<user>", "<bot>", "<turn>"];

const TEMPLATE: &str = "{% for m in messages %}{% if m.role == 'user' %}<user> {% else %}<bot> {% endif %}\
                        {{ m.content }} <turn> {% endfor %}{% if add_generation_prompt %}<bot> {% endif %}";

fn write_base(directory: &Path) {
    fs::create_dir_all(directory).expect("a directory");
    let mut vocabulary = json!({});
    let words: Vec<String> = (0..WORDS).map(|word| format!("w{word}")).collect();
    let names = words.iter().map(String::as_str).chain(SPECIAL);
    for (id, name) in names.enumerate() {
        vocabulary[name] = json!(id);
    }
    let special = SPECIAL.iter().enumerate().map(|(place, content)| {
        json!({"id": WORDS + place, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true})
    });
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": special.collect::<Vec<_>>(),
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w0"},
    });
    let config = json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"],
        "vocab_size": WORDS + SPECIAL.len(), "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 32, "rms_norm_eps": 1e-6,
        "bos_token_id": WORDS, "eos_token_id": WORDS + 1,
    });
    for (name, content) in [("tokenizer.json", tokenizer), ("config.json", config)] {
        fs::write(directory.join(name), content.to_string()).expect("a file");
    }
}

/// Each word is answered by the two that follow it in the circle.
fn answer(word: usize) -> String {
    format!("w{} w{}", (word + 1) % WORDS, (word + 2) % WORDS)
}

fn write_rows(directory: &Path, row: impl Fn(usize) -> Value) {
    fs::create_dir_all(directory).expect("a directory");
    let rows: Vec<String> = (0..WORDS).map(|word| row(word).to_string()).collect();
    for split in ["train", "test"] {
        let path = directory.join(split).with_extension("jsonl");
        fs::write(path, rows.join("\n")).expect("a file");
    }
}

fn conversation(word: usize) -> Value {
    json!({"messages": [
        {"role": "user", "content": format!("w{word}")},
        {"role": "assistant", "content": answer(word)},
    ]})
}

/// A model that was trained from scratch in `run/model`, and its weights in `base`, whose files know
/// nothing of that training.
fn trained(place: &Workplace, data: &str) {
    write_base(&place.path("base"));
    let file = format!(
        "seed = 4\noutput = \"run\"\n[base]\nmodel = \"base\"\nfrom_scratch = true\n\
         [data]\npath = \"data\"\nmax_length = 24\n{data}\n[task]\nkind = \"causal-lm\"\n\
         metrics = [\"exact-match\"]\n[adapter]\nmethod = \"full\"\n\
         [training]\nepochs = 150\nbatch_size = 10\nlearning_rate = 1e-2\nevaluate_every = 0\n"
    );
    fs::write(place.path("train.toml"), &file).expect("a file");
    let outcome = place.run(&["train", "train.toml"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let weights = "model.safetensors";
    let from = place.path("run").join("model").join(weights);
    fs::copy(from, place.path("base").join(weights)).expect("trained weights");
    let adapter = file
        .replace("output = \"run\"", "output = \"tuned\"")
        .replace("from_scratch = true\n", "")
        .replace("method = \"full\"", "method = \"lora\"\nrank = 2")
        .replace("epochs = 150", "epochs = 1")
        .replace("learning_rate = 1e-2", "learning_rate = 1e-9");
    fs::write(place.path("tune.toml"), adapter).expect("a file");
    let outcome = place.run(&["train", "tune.toml"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
}

fn ask(place: &Workplace, model: &[&str], input: &str) -> Value {
    fs::write(place.path("asked.txt"), input).expect("a file");
    let asked = ["predict", "--input", "asked.txt", "--max-new-tokens", "6"];
    let found = place.run_json(&[&asked, model].concat());
    found["predictions"][0]["continuation"].clone()
}

const TUNED: [&str; 4] = ["--base", "base", "--adapter", "tuned"];

#[test]
fn a_chat_template_of_ones_own_and_the_end_of_a_turn_come_with_the_adapter() {
    let place = Workplace::new();
    fs::write(place.path("own.jinja"), TEMPLATE).expect("a file");
    write_rows(&place.path("data"), conversation);
    trained(&place, "chat_template = \"own.jinja\"");
    let adapter = place.path("tuned").join("adapter");
    let template = fs::read_to_string(adapter.join("chat_template.jinja"));
    assert_eq!(template.expect("the template"), TEMPLATE);
    assert!(adapter.join("tokenizer.json").is_file());
    let input = &read_json(&adapter.join("eigenmix.json"))["input"];
    assert_eq!(input["format"], "messages");
    assert_eq!(input["max_length"], 24);
    fs::remove_file(place.path("own.jinja")).expect("the file");

    for model in [&TUNED[..], &["--base", "run/model"]] {
        // It stops at <turn>, which the model's own files do not know as an end.
        assert_eq!(ask(&place, model, "w3"), answer(3), "{model:?}");
        assert_eq!(ask(&place, &[model, &["--chat"]].concat(), "w3"), answer(3));
        let raw = [model, &["--raw"]].concat();
        assert_eq!(ask(&place, &raw, "<user> w3 <turn> <bot>"), answer(3));
        let metric = ["--data", "data", "--metric", "exact-match"];
        let evaluated = place.run(&[&["evaluate", "--json"], model, &metric].concat());
        let found: Value = serde_json::from_str(&evaluated.stdout).expect("JSON");
        assert_eq!(found["metrics"]["exact-match"], 1.0, "{evaluated:?}");
        let notes = evaluated
            .stderr
            .matches("the input is that of the training")
            .count();
        assert_eq!(notes, 1, "{evaluated:?}");
    }
    let other = "{% for m in messages %}{{ m.content }} {% endfor %}";
    fs::write(place.path("other.jinja"), other).expect("a file");
    let set = ["--data", "data", "--set", "chat_template=other.jinja"];
    let otherwise = place.run(&[&["evaluate"], &TUNED[..], &set].concat());
    assert!(!otherwise.stderr.contains("chat_template"), "{otherwise:?}");

    let copied = place.run(&["export", "tuned", "--out", "copied"]);
    assert_eq!(copied.status, 0, "{copied:?}");
    let copied = ["--base", "base", "--adapter", "copied"];
    assert_eq!(ask(&place, &copied, "w3"), answer(3));
    let into = [
        "export",
        "tuned",
        "--merge-into-base",
        "base",
        "--out",
        "whole",
    ];
    let merged = place.run(&into);
    assert_eq!(merged.status, 0, "{merged:?}");
    assert_eq!(ask(&place, &["--base", "whole"], "w5"), answer(5));
}

#[test]
fn rows_of_conversations_are_answered_and_written_back() {
    let place = Workplace::new();
    fs::write(place.path("own.jinja"), TEMPLATE).expect("a file");
    write_rows(&place.path("data"), conversation);
    trained(&place, "chat_template = \"own.jinja\"");
    let predict = ["predict", "--max-new-tokens", "6", "--input"];
    let rows = [&predict[..], &["data/test.jsonl"], &TUNED].concat();
    let outcome = place.run(&rows);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let lines: Vec<Value> = outcome
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), WORDS);
    for (word, line) in lines.iter().enumerate() {
        assert_eq!(line["messages"], conversation(word)["messages"]);
        assert_eq!(line["prediction"], answer(word));
    }
    let written = [&rows[..], &["--out", "answered.jsonl"]].concat();
    let outcome = place.run(&written);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let found = fs::read_to_string(place.path("answered.jsonl")).expect("rows");
    assert_eq!(found.lines().count(), WORDS);
    let refused = place.run_refused(&[&written[..], &["--quiet"]].concat());
    assert!(
        refused.contains("`answered.jsonl` exists; --force"),
        "{refused}"
    );
    let other = [&rows[..], &["--out", "answered.csv", "--quiet"]].concat();
    let refused = place.run_refused(&other);
    assert!(refused.contains("is of another format"), "{refused}");
    let nowhere = [&rows[..], &["--out", "nowhere/a.jsonl", "--quiet"]].concat();
    let refused = place.run_refused(&nowhere);
    assert!(
        refused.contains("there is no directory `nowhere`"),
        "{refused}"
    );
}

#[test]
fn a_line_is_put_into_the_words_of_the_training() {
    let place = Workplace::new();
    let row = |word| json!({"instruction": format!("w{word}"), "output": answer(word)});
    write_rows(&place.path("data"), row);
    trained(&place, "prompt_template = \"<s> {{ instruction }} <bot> \"");
    for model in [&TUNED[..], &["--base", "run/model"]] {
        assert_eq!(ask(&place, model, "w7"), answer(7), "{model:?}");
        let raw = [model, &["--raw"]].concat();
        assert_eq!(ask(&place, &raw, "<s> w7 <bot>"), answer(7), "{model:?}");
    }
    let table = "instruction,id\nw2,a\nw4,b\n";
    fs::write(place.path("rows.csv"), table).expect("a file");
    let rows = ["predict", "--max-new-tokens", "6", "--input", "rows.csv"];
    let outcome = place.run(&[&rows[..], &TUNED].concat());
    let expected = format!(
        "instruction,id,prediction\nw2,a,{}\nw4,b,{}\n",
        answer(2),
        answer(4)
    );
    assert_eq!(outcome.stdout, expected, "{outcome:?}");
}

/// Pairs of queries of the quick start, the same or another; and the training file.
fn pairs(place: &Workplace) {
    let text = fs::read_to_string(quickstart("tasks/gym/train.jsonl")).expect("rows");
    let queries: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let row = |index: usize| {
        let one = &queries[index % queries.len()];
        let other = &queries[(index * 7 + index % 2) % queries.len()];
        let label = if one["label"] == other["label"] {
            "same"
        } else {
            "other"
        };
        json!({"first": one["text"], "second": other["text"], "verdict": label})
    };
    fs::create_dir_all(place.path("pairs")).expect("a directory");
    for (split, rows) in [("train", 0..48), ("test", 48..72)] {
        let rows: Vec<String> = rows.map(|index| row(index).to_string()).collect();
        let path = place.path("pairs").join(split).with_extension("jsonl");
        fs::write(path, rows.join("\n")).expect("a file");
    }
    let file = format!(
        "seed = 1\noutput = \"run\"\n[base]\nmodel = \"{}\"\n[data]\npath = \"pairs\"\nmax_length = 30\n\
         text = \"first\"\ntext_pair = \"second\"\nlabel = \"verdict\"\n[adapter]\nmethod = \"lora\"\nrank = 4\n\
         [training]\nepochs = 3\nbatch_size = 8\nlearning_rate = 5e-3\n",
        quickstart("base")
    );
    fs::write(place.path("train.toml"), file).expect("a file");
    let outcome = place.run(&["train", "train.toml"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
}

#[test]
fn a_model_of_pairs_is_asked_about_pairs() {
    let place = Workplace::new();
    pairs(&place);
    let base = quickstart("base");
    let model = ["--base", &base, "--adapter", "run"];
    let known = place.run_json(&[&["evaluate", "--data", "pairs"], &model[..]].concat());
    let named = [
        "evaluate",
        "--data",
        "pairs",
        "--text",
        "first",
        "--text-pair",
        "second",
        "--label",
        "verdict",
    ];
    let named = place.run_json(&[&named, &model[..]].concat());
    assert_eq!(known["loss"], named["loss"]);
    // The adapter by its file of tensors is the same adapter.
    let file = "run/adapter/adapter_model.safetensors";
    let by_file = [
        "evaluate",
        "--data",
        "pairs",
        "--base",
        &base,
        "--adapter",
        file,
    ];
    assert_eq!(place.run_json(&by_file)["loss"], known["loss"]);
    let short = ["evaluate", "--data", "pairs", "--set", "max_length=8"];
    let short = place.run(&[&short, &model[..]].concat());
    let expected = "examples of the test split were cut at data.max_length = 8";
    assert!(short.stderr.contains(expected), "{short:?}");

    let rows = fs::read_to_string(place.path("pairs/test.jsonl")).expect("rows");
    let rows: Vec<Value> = rows
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let predict = ["predict", "--input"];
    let outcome = place.run(&[&predict[..], &["pairs/test.jsonl"], &model].concat());
    let found: Vec<Value> = outcome
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let right = found
        .iter()
        .filter(|row| row["prediction"] == row["verdict"]);
    let accuracy = right.count() as f64 / rows.len() as f64;
    assert_eq!(known["metrics"]["accuracy"], accuracy, "{outcome:?}");

    let text = |row: &Value, column: &str| row[column].as_str().expect("a text").to_owned();
    let lines: Vec<String> = rows
        .iter()
        .map(|row| format!("{}\t{}", text(row, "first"), text(row, "second")))
        .collect();
    fs::write(place.path("pairs.txt"), lines.join("\n")).expect("a file");
    let by_line = place.run_json(&[&predict[..], &["pairs.txt"], &model].concat());
    for (row, line) in found
        .iter()
        .zip(by_line["predictions"].as_array().expect("a list"))
    {
        assert_eq!(row["prediction"], line["label"]);
        assert_eq!(row["first"], line["text"]);
        assert_eq!(row["second"], line["text_pair"]);
    }
    fs::write(place.path("one.txt"), "where is my bag\n").expect("a file");
    let quiet = [&predict[..], &["one.txt", "--quiet"], &model].concat();
    let refused = place.run_refused(&quiet);
    assert!(refused.contains("trained on pairs of texts"), "{refused}");
    assert!(
        refused.contains("columns `first` and `second`"),
        "{refused}"
    );
}

#[test]
fn a_merged_adapter_knows_the_input_that_its_sources_share() {
    let place = Workplace::new();
    pairs(&place);
    let copy = place.run(&["export", "run", "--out", "copy"]);
    assert_eq!(copy.status, 0, "{copy:?}");
    let merge = [
        "merge", "run", "copy", "--space", "core", "--method", "sum", "--out", "both",
    ];
    let merged = place.run(&merge);
    assert_eq!(merged.status, 0, "{merged:?}");
    let input = |name: &str| read_json(&place.path(name).join("eigenmix.json"))["input"].clone();
    assert_eq!(input("both")["text_pair"], "second");

    let path = place.path("copy").join("eigenmix.json");
    let mut made = read_json(&path);
    made["input"]["text_pair"] = json!("third");
    fs::write(&path, made.to_string()).expect("a file");
    let merged = place.run(&[
        "merge", "run", "copy", "--space", "core", "--method", "sum", "--out", "unlike",
    ]);
    assert_eq!(merged.status, 0, "{merged:?}");
    assert!(
        merged.stderr.contains("were trained on different input"),
        "{merged:?}"
    );
    assert_eq!(input("unlike"), Value::Null);
}

/// The classifier in `directory` with its outputs in the opposite order.
fn turn_round(directory: &Path) {
    let path = directory.join("model.safetensors");
    let file = TensorFile::open(&path).expect("weights");
    let tensors: Vec<(String, Vec<usize>, Vec<f32>)> = file
        .names()
        .map(|name| {
            let shape = file.shape(name).expect("a shape").to_vec();
            let mut values = file.read_f32(name).expect("values");
            if name.starts_with("classifier.") {
                let width = values.len() / shape[0];
                let rows = values.chunks(width).rev();
                values = rows.flatten().copied().collect();
            }
            (name.to_owned(), shape, values)
        })
        .collect();
    drop(file);
    let outputs = tensors
        .iter()
        .map(|(name, shape, values)| TensorOutput::f32(name, shape.clone(), values));
    write_tensor_file(&path, outputs.collect()).expect("weights");
    let path = directory.join("config.json");
    let mut config = read_json(&path);
    let names = config["id2label"].as_object().expect("labels").clone();
    let count = names.len();
    for (output, name) in names {
        let output: usize = output.parse().expect("a number");
        config["id2label"][(count - 1 - output).to_string()] = name;
    }
    fs::write(&path, config.to_string()).expect("a file");
}

#[test]
fn training_starts_where_a_base_that_is_a_classifier_already_is() {
    let place = Workplace::new();
    let (gym, base, data) = (
        quickstart("adapters/gym"),
        quickstart("base"),
        quickstart("tasks/gym"),
    );
    let export = [
        "export",
        &gym,
        "--merge-into-base",
        &base,
        "--out",
        "classifier",
    ];
    assert_eq!(place.run(&export).status, 0);
    turn_round(&place.path("classifier"));
    let evaluate = ["evaluate", "--base", "classifier", "--data", &data];
    let of_base = place.run_json(&evaluate);
    assert!(of_base["metrics"]["accuracy"].as_f64().expect("a number") > 0.8);
    let file = format!(
        "seed = 1\noutput = \"run\"\n[base]\nmodel = \"classifier\"\n[data]\npath = \"{data}\"\nmax_length = 32\n\
         examples_per_class = 2\n[adapter]\nmethod = \"lora\"\nrank = 2\n\
         [training]\nepochs = 1\nbatch_size = 16\nlearning_rate = 1e-12\n"
    );
    fs::write(place.path("train.toml"), file).expect("a file");
    let outcome = place.run(&["train", "train.toml"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(
        outcome.stderr.contains("training starts from it"),
        "{outcome:?}"
    );
    let trained = place.run_json(&[&evaluate[..], &["--adapter", "run"]].concat());
    assert_eq!(
        trained["metrics"]["accuracy"],
        of_base["metrics"]["accuracy"]
    );
}

#[test]
fn a_contract_that_is_not_understood_is_refused_by_its_name() {
    let place = Workplace::new();
    let adapter = AdapterFile::open(Path::new(&quickstart("adapters/gym"))).expect("an adapter");
    let adapter = adapter.load().expect("an adapter");
    adapter
        .save(&place.path("later"), &SaveOptions::default())
        .expect("a directory");
    let made = json!({"version": "9.0", "method": "train/lora", "sources": [], "options": {},
        "input": {"task": "sequence-classification", "order_of_texts": "reversed"}});
    fs::write(place.path("later/eigenmix.json"), made.to_string()).expect("a file");
    let (base, data) = (quickstart("base"), quickstart("tasks/gym"));
    let evaluate = [
        "evaluate",
        "--base",
        &base,
        "--adapter",
        "later",
        "--data",
        &data,
    ];
    let refused = place.run_refused(&evaluate);
    assert!(refused.contains("later/eigenmix.json"), "{refused}");
    assert!(refused.contains("order_of_texts"), "{refused}");
}
