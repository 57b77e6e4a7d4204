//! `adapter.init = "auto"`: the start of a training that its own examples choose.

mod support;

use std::fs;

use eigenmix_adapter::{Adapter, AdapterFile, SaveOptions};
use serde_json::Value;
use support::stopped_training::train;
use support::{Random, Workplace, quickstart, read_json};

/// A training file with few examples of a task that no adapter was trained on.
fn file(place: &Workplace, output: &str, adapter: &str) -> String {
    format!(
        "seed = 3\noutput = {:?}\n[base]\nmodel = {:?}\n[data]\npath = {:?}\nmax_length = 24\n\
         examples_per_class = 6\n[adapter]\nrank = 4\nallow_base_mismatch = true\n{adapter}\n\
         [training]\nepochs = 2\nbatch_size = 16\nlog_every = 1\nsave_every = 1\nlearning_rate = 5e-3\n",
        place.path(output).display().to_string(),
        quickstart("base"),
        quickstart("tasks/ferry_port"),
    )
}

/// Adapters of neighbouring tasks.
fn pool() -> Vec<String> {
    ["bakery", "gym", "library", "theatre"]
        .map(|name| quickstart(&format!("adapters/{name}")))
        .into()
}

/// The same adapters with random numbers of their sizes.
fn noise(place: &Workplace) -> Vec<String> {
    let mut random = Random(5);
    let mut saved = Vec::new();
    for (number, name) in pool().iter().enumerate() {
        let file = AdapterFile::open(name.as_ref()).expect("an adapter");
        let mut adapter: Adapter = file.load().expect("a whole adapter");
        for module in adapter.modules.values_mut() {
            let norm = module.b.norm();
            let [rows, columns] = module.b.shape();
            let drawn = random.matrix(rows, columns);
            let factor = (norm / drawn.norm()) as f32;
            module.b = drawn.scaled(factor);
        }
        let path = place.path(&format!("noise-{number}"));
        let options = SaveOptions::default();
        adapter.save(&path, &options).expect("an adapter to save");
        saved.push(path.display().to_string());
    }
    saved
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

#[test]
fn adapters_of_neighbouring_tasks_are_started_from_and_noise_is_not() {
    let place = Workplace::new();
    let pools = [(pool(), "merge"), (noise(&place), "zero")];
    for method in ["eigenmix", "eigenlorax"] {
        for (adapters, expected) in &pools {
            for more in ["components = 6", "gradient = true"] {
                let text = |output: &str, init: &str| {
                    // eigenmix leaves its start to the data where none is given.
                    let init = match (method, init) {
                        ("eigenmix", "auto") => String::new(),
                        _ => format!("init = \"{init}\""),
                    };
                    let table =
                        format!("method = \"{method}\"\nadapters = {adapters:?}\n{more}\n{init}");
                    file(&place, output, &table)
                };
                let case = format!("{method}, {more}, {expected}");
                let chosen = train(&text("chosen", "auto"), false, usize::MAX);
                // The training is that from the start that was chosen, to the bit.
                assert_eq!(
                    chosen,
                    train(&text("given", expected), false, usize::MAX),
                    "{case}"
                );
                let start = read_json(&place.path("chosen/start.json"));
                assert_eq!(start["init"], *expected, "{case}");
                assert_eq!(start["examples"], 60);
                let better = number(&start["merge_loss"]) < 0.9 * number(&start["zero_loss"]);
                assert_eq!(better, *expected == "merge", "{case}: {start}");
                assert_eq!(
                    read_json(&place.path("chosen/outcome.json"))["start"],
                    start
                );
                assert!(!place.path("given/start.json").exists());
                let given = read_json(&place.path("given/outcome.json"));
                assert!(given.get("start").is_none(), "{given}");
                for name in ["chosen", "given"] {
                    fs::remove_dir_all(place.path(name)).expect("a run to remove");
                }
            }
        }
    }
}

#[test]
fn a_stopped_training_keeps_its_choice_and_is_resumed_to_the_bit() {
    let place = Workplace::new();
    for (adapters, more) in [
        (pool(), "components = 6"),
        (noise(&place), "components = 6"),
        (pool(), "gradient = true"),
    ] {
        let table =
            format!("method = \"eigenmix\"\nadapters = {adapters:?}\n{more}\ninit = \"auto\"");
        let text = |output: &str| file(&place, output, &table);
        let whole = train(&text("whole"), false, usize::MAX);
        let begun = train(&text("stopped"), false, 3);
        let start = place.path("stopped/start.json");
        let kept = fs::read(&start).expect("the choice");
        // What the run kept is told, and not measured again.
        let mut marked: Value = serde_json::from_slice(&kept).expect("the choice");
        marked["examples"] = 61.into();
        fs::write(&start, marked.to_string()).expect("a file");
        let resumed = train(&text("stopped"), true, usize::MAX);
        assert_eq!([begun, resumed].concat(), whole, "{more}");
        let told = &read_json(&place.path("stopped/outcome.json"))["start"];
        assert_eq!(*told, marked);
        let weights = |run: &str| {
            fs::read(place.path(run).join("adapter").join(support::WEIGHTS)).expect("weights")
        };
        assert!(weights("whole") == weights("stopped"), "{more}");
        for name in ["whole", "stopped"] {
            fs::remove_dir_all(place.path(name)).expect("a run to remove");
        }
    }
}

#[test]
fn a_basis_that_is_not_that_of_the_adapters_starts_from_zero_without_a_measurement() {
    let place = Workplace::new();
    let names = pool();
    for basis in ["random", "weights", "gradient"] {
        let text = |output: &str, init: &str| {
            let table = format!(
                "method = \"eigenmix\"\nadapters = {names:?}\nbasis = \"{basis}\"\ncomponents = 6\n\
                 init = \"{init}\""
            );
            file(&place, output, &table)
        };
        let chosen = train(&text("chosen", "auto"), false, usize::MAX);
        assert_eq!(
            chosen,
            train(&text("given", "zero"), false, usize::MAX),
            "{basis}"
        );
        assert!(!place.path("chosen/start.json").exists(), "{basis}");
        for name in ["chosen", "given"] {
            fs::remove_dir_all(place.path(name)).expect("a run to remove");
        }
    }
}

#[test]
fn the_choice_is_told_in_words_and_one_that_cannot_be_read_is_refused() {
    let place = Workplace::new();
    let table = format!(
        "method = \"eigenmix\"\nadapters = {:?}\ninit = \"auto\"",
        pool()
    );
    let text = file(&place, "run", &table) + "max_steps = 2\n";
    fs::write(place.path("task.toml"), &text).expect("a file");
    let run = place.run(&["train", "task.toml"]);
    assert_eq!(run.status, 0, "{}", run.stderr);
    let words = "the training starts from the average of the recycled adapters: before any training their \
                 average brings the loss on 60 of its examples from ";
    assert!(run.stderr.contains(words), "{}", run.stderr);

    fs::remove_file(place.path("run/outcome.json")).expect("a file");
    fs::write(place.path("run/start.json"), "{").expect("a file");
    let refused = place.run(&["train", "task.toml", "--resume"]);
    assert_eq!(refused.status, 1);
    let words = "start.json` is damaged";
    assert!(refused.stderr.contains(words), "{}", refused.stderr);

    // A method that has no basis has no start to choose.
    let text = file(&place, "none", "method = \"lora\"\ninit = \"auto\"");
    fs::write(place.path("none.toml"), &text).expect("a file");
    let refused = place.run_refused(&["train", "none.toml"]);
    assert!(refused.contains("adapter.init"), "{refused}");
}
