//! A little decoder from random weights to a recycled adapter, through the binary: it learns a language
//! with instructions, adapters learn what to do without them, and a new one is made of the old.

mod support;
use std::fs;
use std::path::Path;

use eigenmix_adapter::AdapterFile;
use eigenmix_tensors::TensorFile;
use serde_json::Value;
use support::letter_tasks::{
    Instruction, LetterTask, draw_letters, write_decoder, write_letter_tasks,
};
use support::{Random, Workplace};

/// The task that no adapter was trained on.
const UNSEEN: LetterTask = LetterTask {
    shift: 2,
    reversed: true,
};
const SEED: u64 = 0;

/// The tables that all trainings here have in common.
fn tables(base: &str, adapter: &str, training: &str) -> String {
    format!(
        r#"
        [base]
        {base}
        [data]
        path = "tasks/instructions"
        max_length = 16
        [task]
        kind = "causal-lm"
        metrics = ["exact-match", "perplexity"]
        [adapter]
        {adapter}
        [training]
        scheduler = "linear"
        warmup_ratio = 0.06
        evaluate_every = 0
        {training}
        "#
    )
}

fn lora() -> &'static str {
    r#"
    method = "lora"
    rank = 8
    target_modules = ["q_proj", "k_proj", "v_proj", "o_proj"]
    "#
}

/// Trains a decoder on all instructions, to `base/model`.
fn pretrain(place: &Workplace) {
    write_decoder(&place.path("sizes"));
    let (data, all) = (place.path("tasks/instructions"), LetterTask::all());
    write_letter_tasks(&data, &all, Instruction::Given, [300, 2, 10], SEED);
    let tables = tables(
        "model = \"sizes\"\nfrom_scratch = true",
        "method = \"full\"",
        "epochs = 16\nbatch_size = 32\nlearning_rate = 3e-3",
    );
    let config = format!("seed = {SEED}\noutput = \"base\"\n{tables}");
    fs::write(place.path("base.toml"), config).expect("a file");
    let outcome = place.run_json(&["train", "base.toml", "--quiet"]);
    assert!(number(&outcome["test"]["exact-match"]) > 0.9, "{outcome}");
}

/// Trains an adapter for every task but [`UNSEEN`]; returns the tasks with their directories.
fn train_sources(place: &Workplace) -> Vec<(LetterTask, String)> {
    let tables = tables(
        "model = \"base/model\"",
        lora(),
        "epochs = 15\nbatch_size = 16\nlearning_rate = 5e-3",
    );
    let mut config = format!("output = \"sources\"\n{tables}");
    let mut sources = Vec::new();
    let seen = LetterTask::all().into_iter().filter(|task| *task != UNSEEN);
    for (task, seed) in seen.zip(SEED + 1..) {
        let name = task.name();
        let data = place.path("tasks").join(&name);
        write_letter_tasks(&data, &[task], Instruction::Left, [200, 10, 20], seed);
        let arm = format!("name = \"{name}\"\nseed = {seed}\ndata.path = \"tasks/{name}\"");
        config += &format!("[[arm]]\n{arm}\n");
        sources.push((task, format!("sources/{name}/seed-{seed}/adapter")));
    }
    fs::write(place.path("sources.toml"), config).expect("a file");
    place.run_json(&["run", "sources.toml", "--quiet"]);
    sources
}

/// Trains [`UNSEEN`] with every method; returns the report's arms.
fn train_unseen(place: &Workplace, sources: &[String]) -> Vec<Value> {
    let data = place.path("tasks/unseen");
    let counts = [96, 10, 100];
    write_letter_tasks(&data, &[UNSEEN], Instruction::Left, counts, SEED + 99);
    let tables = tables(
        "model = \"base/model\"",
        lora(),
        "epochs = 40\nbatch_size = 8\nlearning_rate = 3e-3",
    );
    let mut config = format!("seed = {SEED}\noutput = \"unseen\"\n{tables}");
    let recycled = format!("components = 12\ninit = \"merge\"\nadapters = {sources:?}");
    for (method, rest) in [
        ("lora", ""),
        ("moslora", ""),
        ("eigenlorax", recycled.as_str()),
        ("eigenmix", recycled.as_str()),
    ] {
        let adapter = format!("[arm.adapter]\nmethod = \"{method}\"\n{rest}");
        config +=
            &format!("[[arm]]\nname = \"{method}\"\ndata.path = \"tasks/unseen\"\n{adapter}\n");
    }
    fs::write(place.path("unseen.toml"), config).expect("a file");
    let report = place.run_json(&["run", "unseen.toml", "--quiet"]);
    report["arms"].as_array().expect("arms").clone()
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// Whether the adapters of other tasks are worth recycling: of a language model the loss itself is measured.
fn check_selection(place: &Workplace, sources: &[String]) {
    let tables = tables(
        "model = \"base/model\"",
        lora(),
        "epochs = 1\nbatch_size = 8\nlearning_rate = 3e-3",
    );
    let config = format!("seed = {SEED}\noutput = \"none\"\n{tables}");
    fs::write(place.path("select.toml"), config).expect("a file");
    let mut arguments = vec!["select"];
    arguments.extend(sources.iter().map(String::as_str));
    let data = "data.path=\"tasks/unseen\"";
    arguments.extend(["--for", "select.toml", "--set", data]);
    let found = place.run_json(&arguments);
    let base = number(&found["base"]["loss"]);
    assert!(found["base"].get("metric").is_none(), "{found}");
    let adapters = found["adapters"].as_array().expect("adapters");
    assert_eq!(adapters.len(), sources.len());
    let losses = adapters
        .iter()
        .map(|adapter| number(&adapter["loss"]["loss"]));
    let lowest = losses.fold(f64::INFINITY, f64::min);
    // They all leave the instruction out, as the base model has never seen it.
    assert!(lowest < base, "{lowest} {base}");
    let first = &adapters[0];
    let over_chance = number(&first["alignment"]) / number(&first["alignment_chance"]);
    assert!(over_chance > 5.0, "{over_chance}");
    assert_eq!(found["prospect"], "good", "{found}");
}

/// Exact match and perplexity on the test split, as `evaluate` finds them.
fn evaluate(place: &Workplace, adapter: Option<&str>, task: &str) -> [f64; 2] {
    let data = format!("tasks/{task}");
    let mut arguments = vec!["evaluate", "--base", "base/model", "--data", &data];
    arguments.extend(["--metric", "exact-match", "--metric", "perplexity"]);
    arguments.extend(adapter.iter().flat_map(|adapter| ["--adapter", adapter]));
    let metrics = &place.run_json(&arguments)["metrics"];
    ["exact-match", "perplexity"].map(|name| number(&metrics[name]))
}

/// The share of fresh texts that `predict` continues as it should.
fn predicted(place: &Workplace, adapter: &str) -> f64 {
    let mut random = Random(SEED + 7);
    let texts: Vec<_> = (0..20).map(|_| draw_letters(&mut random, true)).collect();
    let prompts: Vec<String> = texts
        .iter()
        .map(|letters| UNSEEN.prompt(letters, Instruction::Left))
        .collect();
    fs::write(place.path("prompts"), prompts.join("\n")).expect("a file");
    let mut arguments = vec!["predict", "--base", "base/model", "--adapter", adapter];
    arguments.extend(["--input", "prompts", "--max-new-tokens", "8"]);
    let found = place.run_json(&arguments);
    let found = found["predictions"].as_array().expect("predictions").iter();
    let right = found
        .zip(&texts)
        .filter(|(found, letters)| found["continuation"] == UNSEEN.completion(*letters));
    right.count() as f64 / texts.len() as f64
}

/// A plain adapter for a language model: no head, nothing that PEFT would not know.
fn check_files(run: &Path, has_basis: bool) {
    let file = AdapterFile::open(&run.join("adapter")).expect("an adapter");
    file.require_clean().expect("nothing unexpected");
    assert_eq!(file.config().task_type(), Some("CAUSAL_LM"));
    assert!(file.config().modules_to_save().is_empty());
    assert!(file.heads().expect("no head").is_empty());
    assert!(file.zero_effect().expect("factors").is_empty());
    assert_eq!(file.load().expect("factors").modules.len(), 2 * 4);
    let coefficients = run.join("coefficients.safetensors");
    assert_eq!(coefficients.is_file(), has_basis);
    if has_basis {
        let file = TensorFile::open(&coefficients).expect("coefficients");
        assert!(file.names().all(|name| !name.contains("lora")));
    }
}

#[test]
fn an_unseen_transformation_is_learned_from_the_adapters_of_others() {
    let place = Workplace::new();
    pretrain(&place);
    let sources = train_sources(&place);
    let directories: Vec<String> = sources.iter().map(|(_, path)| path.clone()).collect();
    let arms = train_unseen(&place, &directories);
    check_selection(&place, &directories);

    // Without instruction the base model can't know; what it says is never right by accident, as
    // that would take four letters out of twelve.
    let [base_match, base_perplexity] = evaluate(&place, None, "unseen");
    assert!(base_match < 0.05, "{base_match}");
    let trained = |arm: &Value| number(&arm["adapter_parameters"]);
    for arm in &arms {
        let name = arm["name"].as_str().expect("a name");
        let run = format!("unseen/{name}/seed-{SEED}");
        let [found_match, perplexity] = evaluate(&place, Some(&run), "unseen");
        println!(
            "{name}: {} numbers, {found_match}, {perplexity}",
            trained(arm)
        );
        assert!(perplexity < 0.1 * base_perplexity, "{name}: {perplexity}");
        assert_eq!(found_match, number(&arm["metrics"]["exact-match"]["mean"]));
        let has_basis = name.starts_with("eigen");
        check_files(&place.path(&run), has_basis);
        if has_basis {
            assert!(found_match > 0.8, "{name}: {found_match}");
            let right = predicted(&place, &run);
            assert!(right > 0.8, "{name}: {right}");
            assert!(4.0 * trained(arm) < trained(&arms[0]), "{name}");
        }
    }
    merges_load_and_run(&place, &sources);
}

fn merges_load_and_run(place: &Workplace, sources: &[(LetterTask, String)]) {
    let merge = |out: &str, rest: &[&str]| {
        let mut arguments = vec!["merge", "--out", out, "--space", "core"];
        arguments.extend(sources.iter().map(|(_, path)| path.as_str()));
        arguments.extend(rest);
        place.run_json(&arguments);
    };
    // Of tasks that contradict each other an average knows none, but it is a model.
    merge("average", &["--method", "average"]);
    let (first, directory) = &sources[0];
    let [_, perplexity] = evaluate(place, Some("average"), &first.name());
    assert!(perplexity.is_finite() && perplexity > 1.0, "{perplexity}");
    // With all weight on one of them it is that one, up to f32 rounding of the factors.
    let mut weights = vec!["0"; sources.len()];
    weights[0] = "1";
    merge(
        "first",
        &["--method", "sum", "--weights", &weights.join(",")],
    );
    let [own_match, own] = evaluate(place, Some(directory), &first.name());
    let [found_match, found] = evaluate(place, Some("first"), &first.name());
    assert!(own_match > 0.8, "{own_match}");
    assert_eq!(found_match, own_match);
    assert!((found - own).abs() < 1e-3 * own, "{found} against {own}");
}
