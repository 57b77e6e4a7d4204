//! Language models from the training to the words they write, on a model that counts in a circle.

mod circle;
mod refusals;
#[path = "../support/mod.rs"]
mod support;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use self::circle::{LORA, counting, random_base, training_file, untrained};
use self::support::Outcome;
use self::support::stopped_training::train;

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
    let in_file = place.run(&predict);
    // One of standard input after the other, each token as it comes.
    let lines = fs::File::open(place.path("prompts.txt")).expect("the prompts");
    let mut command = place.command(&["predict", "--base", "base", "--max-new-tokens", "9"]);
    let streamed = Outcome::of(command.stdin(lines).output().expect("the binary runs"));
    for outcome in [&in_file, &streamed] {
        assert_eq!(outcome.status, 0, "{outcome:?}");
        assert_eq!(outcome.stdout.lines().collect::<Vec<_>>(), expected);
        let closing = outcome.stderr.lines().last().expect("a closing line");
        assert!(closing.contains(" tokens per second ("), "{closing}");
        assert!(closing.contains("; prompts: "), "{closing}");
    }
    let speed = &found["speed"];
    for (index, expected) in expected.iter().enumerate() {
        let prediction = &found["predictions"][index];
        assert_eq!(prediction["text"], prompts[index]);
        assert_eq!(prediction["continuation"], *expected);
    }
    let count = |text: &String| text.split_whitespace().count();
    let prompt_tokens: usize = prompts.iter().map(count).sum();
    assert_eq!(speed["prompt_tokens"], prompt_tokens);
    // The first word of each comes with its prompt, and the end that it says after the last one counts.
    assert_eq!(
        speed["new_tokens"],
        expected.iter().map(count).sum::<usize>()
    );
    let rate = speed["tokens_per_second"].as_f64().expect("a rate");
    let seconds = speed["new_seconds"].as_f64().expect("seconds");
    let tokens = speed["new_tokens"].as_f64().expect("tokens");
    assert!((rate * seconds / tokens - 1.0).abs() < 1e-9);

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
    let place = random_base();
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
