//! Method `compose`, and `adapter.init = "compose"`: the weights of adapters in their sum.

mod support;

use std::fs;
use std::path::Path;

use eigenmix_adapter::{Adapter, AdapterFile, SaveOptions};
use support::stopped_training::train;
use support::{Workplace, largest_difference, metrics, quickstart, random_adapter, read_json};

const POOL: [&str; 2] = ["adapters/gym", "adapters/library"];

/// A training file; `adapter` is its table, `rest` the end of `[training]`.
fn file(place: &Workplace, output: &str, adapter: &str, rest: &str) -> String {
    format!(
        "seed = 3\noutput = {:?}\n[base]\nmodel = {:?}\n[data]\npath = {:?}\nmax_length = 24\n\
         examples_per_class = 6\n[adapter]\nallow_base_mismatch = true\n{adapter}\n\
         [training]\nepochs = 2\nbatch_size = 16\nlog_every = 1\nsave_every = 1\n{rest}\n",
        place.path(output).display().to_string(),
        quickstart("base"),
        quickstart("tasks/ferry_port"),
    )
}

fn compose(adapters: &[String], more: &str) -> String {
    format!("method = \"compose\"\nadapters = {adapters:?}\n{more}")
}

fn pool() -> Vec<String> {
    POOL.map(quickstart).into()
}

/// Steps too small to move any weight.
const STILL: &str = "learning_rate = 1e-30\nweight_decay = 0.0";
const MOVING: &str = "learning_rate = 5e-3";

fn load(path: &Path) -> Adapter {
    let file = AdapterFile::open(path).expect("an adapter");
    file.load().expect("a whole adapter")
}

/// The largest difference between the updates of two adapters, relative to the largest entry.
fn difference(found: &Adapter, expected: &Adapter) -> f32 {
    let paths = |adapter: &Adapter| adapter.modules.keys().cloned().collect::<Vec<_>>();
    assert_eq!(paths(found), paths(expected));
    let mut worst = 0.0_f32;
    for (path, module) in &expected.modules {
        let (found, expected) = (found.modules[path].update(), module.update());
        let largest = largest_difference(expected.values(), &vec![0.0; expected.values().len()]);
        worst = worst.max(largest_difference(found.values(), expected.values()) / largest);
    }
    worst
}

#[test]
fn untrained_weights_of_the_average_are_the_linear_merge() {
    let place = Workplace::new();
    for scope in ["adapter", "module"] {
        let more = format!("init = \"merge\"\ncomposition = \"{scope}\"");
        train(
            &file(&place, scope, &compose(&pool(), &more), STILL),
            false,
            usize::MAX,
        );
        let merged = place.path("merged");
        let mut command = vec!["merge".to_owned()];
        command.extend(pool());
        let words = "--out merged --space full --method sum --weights 0.5,0.5 --force";
        command.extend(words.split(' ').map(str::to_owned));
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let outcome = place.run(&command);
        assert_eq!(outcome.status, 0, "{outcome:?}");
        let found = load(&place.path(scope).join("adapter"));
        // Roundings of f32, on both ways.
        let difference = difference(&found, &load(&merged));
        assert!(difference < 1e-5, "{scope}: {difference}");
    }
}

#[test]
fn one_adapter_with_weight_one_is_that_adapter() {
    let place = Workplace::new();
    let one = quickstart(POOL[0]);
    let adapter = compose(std::slice::from_ref(&one), "init = \"merge\"");
    train(&file(&place, "run", &adapter, STILL), false, usize::MAX);
    let found = load(&place.path("run/adapter"));
    let difference = difference(&found, &load(Path::new(&one)));
    assert!(difference < 1e-6, "{difference}");
}

#[test]
fn a_module_that_an_adapter_lacks_counts_as_zero_there_and_has_no_weight_for_it() {
    let place = Workplace::new();
    let mut narrow = load(Path::new(&quickstart(POOL[1])));
    let lacking = narrow.modules.keys().next().cloned().expect("a module");
    narrow.modules.remove(&lacking);
    narrow
        .save(&place.path("narrow"), &SaveOptions::default())
        .expect("an adapter");
    let adapters = [
        quickstart(POOL[0]),
        place.path("narrow").display().to_string(),
    ];
    let adapter = compose(&adapters, "init = \"merge\"");
    let text = file(&place, "run", &adapter, STILL);
    fs::write(place.path("task.toml"), &text).expect("a file");
    let outcome = place.run_json(&["train", "task.toml"]);
    let first = load(Path::new(&adapters[0]));
    let all = 2 * first.modules.len();
    assert_eq!(outcome["adapter_parameters"], all - 1);
    let found = load(&place.path("run/adapter"));
    for (path, module) in &first.modules {
        let other = narrow.modules.get(path);
        let mut expected = module.update().scaled(0.5).into_values();
        if let Some(other) = other {
            let half = other.update().scaled(0.5);
            let pairs = expected.iter_mut().zip(half.values());
            pairs.for_each(|(sum, value)| *sum += value);
        }
        let found = found.modules[path].update();
        let difference = largest_difference(found.values(), &expected);
        assert!(difference < 1e-6, "{path}: {difference}");
    }
    // The weights are told by module and adapter.
    let made = read_json(&place.path("run/adapter/eigenmix.json"));
    let weights = &made["options"]["found_weights"];
    assert_eq!(weights[&lacking].as_object().map(|of| of.len()), Some(1));
    assert_eq!(weights[&lacking][&adapters[0]], 0.5);
}

#[test]
fn a_stopped_training_is_resumed_to_the_bit() {
    let place = Workplace::new();
    let names = pool();
    let mix = format!("method = \"eigenmix\"\nrank = 4\nadapters = {names:?}\ncomponents = 6\n");
    let lorax = mix.replace("method = \"eigenmix\"", "method = \"eigenlorax\"");
    for adapter in [
        compose(&names, "composition = \"module\""),
        compose(&names, "composition = \"adapter\"\ninit = \"merge\""),
        format!("{mix}init = \"compose\"\ncomposition = \"module\""),
        format!("{lorax}init = \"compose\""),
        format!("{mix}init = \"compose\"\ngradient = true"),
    ] {
        let text = |output: &str| file(&place, output, &adapter, MOVING);
        let whole = train(&text("whole"), false, usize::MAX);
        let begun = train(&text("stopped"), false, 3);
        let resumed = train(&text("stopped"), true, usize::MAX);
        assert_eq!([begun, resumed].concat(), whole, "{adapter}");
        let weights = |run: &str| {
            let path = place.path(run).join("adapter").join(support::WEIGHTS);
            fs::read(path).expect("weights")
        };
        assert!(weights("whole") == weights("stopped"), "{adapter}");
        for name in ["whole", "stopped"] {
            fs::remove_dir_all(place.path(name)).expect("a run to remove");
        }
    }
}

#[test]
fn the_saved_composition_predicts_as_the_trained_one() {
    let place = Workplace::new();
    for scope in ["adapter", "module"] {
        let more = format!("composition = \"{scope}\"");
        let rest = "learning_rate = 2e-2".to_owned();
        let text = file(&place, scope, &compose(&pool(), &more), &rest);
        train(
            &text.replace("epochs = 2", "epochs = 12"),
            false,
            usize::MAX,
        );
        let lines = metrics(&place.path(scope));
        let tested = lines.iter().rfind(|line| line["split"] == "test");
        let tested = tested.expect("an evaluation of the test split");
        let (base, data) = (quickstart("base"), quickstart("tasks/ferry_port"));
        let export = format!("{scope}-exported");
        assert_eq!(place.run(&["export", scope, "--out", &export]).status, 0);
        for adapter in [scope, &export] {
            let found = place.run_json(&[
                "evaluate",
                "--base",
                &base,
                "--adapter",
                adapter,
                "--data",
                &data,
            ]);
            assert_eq!(found["metrics"]["accuracy"], tested["accuracy"]);
        }
        // The weights have moved from zero, and the loss with them.
        let losses: Vec<f64> = lines
            .iter()
            .filter_map(|line| line["loss"].as_f64())
            .collect();
        assert!(losses[losses.len() - 3] < losses[0], "{losses:?}");
        let made = read_json(&place.path(scope).join("adapter/eigenmix.json"));
        let weights = made["options"]["found_weights"].as_object();
        let weights = weights.expect("weights");
        assert_eq!(weights.contains_key("*"), scope == "adapter");
        let moved = weights
            .values()
            .flat_map(|of| of.as_object().into_iter().flatten());
        assert!(moved.clone().count() >= 2);
        assert!(
            moved
                .into_iter()
                .all(|(_, weight)| weight.as_f64() != Some(0.0))
        );
    }
}

#[test]
fn a_training_starts_from_the_composition_that_its_run_keeps() {
    let place = Workplace::new();
    let names = pool();
    // All directions of the adapters: the projection loses nothing.
    let adapter = format!(
        "method = \"eigenmix\"\nrank = 4\nadapters = {names:?}\ninit = \"compose\"\ncomponents = \"all\""
    );
    // The weights are found at the learning rate of the training, which is over before a step is taken.
    let rest = "learning_rate = 5e-3\nweight_decay = 0.0\nmax_steps = 1\nwarmup_steps = 1";
    let text = file(&place, "run", &adapter, rest);
    fs::write(place.path("task.toml"), &text).expect("a file");
    place.run_json(&["train", "task.toml"]);
    let composed = load(&place.path("run/composition"));
    let made = read_json(&place.path("run/composition/eigenmix.json"));
    assert_eq!(made["method"], "composition");
    assert_eq!(made["sources"].as_array().map(Vec::len), Some(2));
    let weights = made["options"]["found_weights"].as_object();
    // One weight for each adapter unless the file says otherwise.
    let weights = weights.expect("weights");
    assert_eq!(weights.keys().collect::<Vec<_>>(), ["*"]);
    let weights = weights["*"].as_object().expect("weights of adapters");
    assert_eq!(weights.len(), 2);
    // They begin at 0.
    let has_moved =
        |weight: &serde_json::Value| weight.as_f64().is_some_and(|weight| weight.abs() > 1e-3);
    assert!(weights.values().all(has_moved), "{weights:?}");
    assert!(!composed.heads.is_empty());
    let difference = difference(&load(&place.path("run/adapter")), &composed);
    assert!(difference < 1e-4, "{difference}");

    // It is part of what the training began with.
    let path = place.path("run/composition").join(support::WEIGHTS);
    fs::remove_file(place.path("run/outcome.json")).expect("a file");
    let mut bytes = fs::read(&path).expect("a file");
    let place_of_bit = bytes.len() - 4;
    bytes[place_of_bit] ^= 1;
    fs::write(&path, &bytes).expect("a file");
    let refused = place.run_refused(&["train", "task.toml", "--resume"]);
    assert!(refused.contains("has changed since"), "{refused}");
}

#[test]
fn what_does_not_fit_a_composition_is_refused() {
    let place = Workplace::new();
    let mut foreign = random_adapter(1, 2);
    place.save("wide", &foreign);
    foreign.modules = foreign
        .modules
        .into_iter()
        .map(|(path, module)| (path.replace("encoder.layer", "blocks"), module))
        .collect();
    let options = SaveOptions::default();
    foreign
        .save(&place.path("foreign"), &options)
        .expect("saved");
    let here = |name: &str| place.path(name).display().to_string();
    let cases = [
        (
            "method = \"compose\"".to_owned(),
            "adapters to compose are required",
        ),
        (compose(&[here("wide")], ""), "[d_out, d_in]"),
        (
            compose(&pool(), "target_modules = [\"no_such_layer\"]"),
            "no module of the adapters matches `no_such_layer`",
        ),
        (compose(&pool(), "rank = 0"), "`adapter.rank`"),
        (
            compose(&pool(), "gradient = true"),
            "it weighs whole adapters",
        ),
        (
            "method = \"lora\"\nrank = 2\ninit = \"compose\"".to_owned(),
            "have coefficients to initialise",
        ),
        (
            "method = \"eigenmix\"\nrank = 2\ngradient = true\ninit = \"compose\"".to_owned(),
            "no recycled adapters to start from",
        ),
        (
            compose(&[here("foreign")], ""),
            "no module of the adapters is one of this base model",
        ),
    ];
    for (adapter, expected) in cases {
        let text = file(&place, "run", &adapter, MOVING);
        fs::write(place.path("task.toml"), text).expect("a file");
        let refused = place.run_refused(&["train", "task.toml"]);
        assert!(refused.contains(expected), "{adapter}: {refused}");
    }
}

#[test]
fn a_composition_of_a_smaller_rank_is_evaluated_as_it_is_saved_and_tells_its_error() {
    let place = Workplace::new();
    let trained = |name: &str, rank: &str| {
        let adapter = compose(&pool(), rank);
        let text = file(&place, name, &adapter, "learning_rate = 2e-2");
        let path = place.path("task.toml");
        fs::write(path, text.replace("epochs = 2", "epochs = 12")).expect("a file");
        place.run_json(&["train", "task.toml"])
    };
    let whole = trained("whole", "");
    let small = trained("small", "rank = 1");
    assert_eq!(small["adapter_parameters"], whole["adapter_parameters"]);
    let (whole_adapter, small_adapter) = (
        load(&place.path("whole/adapter")),
        load(&place.path("small/adapter")),
    );
    assert!(
        small_adapter
            .modules
            .values()
            .all(|module| module.rank() == 1)
    );
    // The best approximation is also what `export --rank` gives.
    let export = ["export", "whole", "--out", "exported", "--rank", "1"];
    assert_eq!(place.run(&export).status, 0);
    let difference = difference(&small_adapter, &load(&place.path("exported")));
    assert!(difference < 1e-4, "{difference}");
    let energy = |adapter: &Adapter| {
        let norms = adapter.modules.values();
        norms
            .map(|module| module.update().norm().powi(2))
            .sum::<f64>()
    };
    let made = read_json(&place.path("small/adapter/eigenmix.json"));
    let kept = made["options"]["kept_by_truncation"].as_f64();
    let expected = energy(&small_adapter) / energy(&whole_adapter);
    assert!((kept.expect("a share") - expected).abs() < 1e-4);
    assert!(expected < 0.9, "{expected}");
    let (base, data) = (quickstart("base"), quickstart("tasks/ferry_port"));
    let evaluate = [
        "evaluate",
        "--base",
        &base,
        "--adapter",
        "small",
        "--data",
        &data,
    ];
    let found = place.run_json(&evaluate);
    assert_eq!(found["metrics"]["accuracy"], small["test"]["accuracy"]);
    assert_eq!(found["metrics"]["loss"], small["test"]["loss"]);
}
