//! The gradient of a task as an adapter: it is the slope of the loss, and counts in a subspace as its
//! weight says.

mod support;

use std::fs;

use serde_json::{Value, json};
use support::stopped_training::train;
use support::{Workplace, metrics, quickstart, read_json};

fn training_file(place: &Workplace, more: &str) {
    let file = format!(
        "seed = 3\noutput = \"run\"\n[base]\nmodel = \"{}\"\n[data]\npath = \"{}\"\nmax_length = 24\n\
         examples_per_class = 6\n[adapter]\nmethod = \"lora\"\nrank = 2\n{more}\n\
         [training]\nepochs = 1\nbatch_size = 16\nlearning_rate = 1e-3\n",
        quickstart("base"),
        quickstart("tasks/ferry_port")
    );
    fs::write(place.path("task.toml"), file).expect("a file");
}

/// The rows that the gradient is taken over, as a test split of their own.
fn drawn_rows(place: &Workplace) {
    let text = fs::read_to_string(quickstart("tasks/ferry_port/train.jsonl")).expect("rows");
    let path = place.path("rows");
    fs::create_dir_all(&path).expect("a directory");
    fs::write(path.join("test.jsonl"), text).expect("a file");
}

#[test]
fn a_step_along_it_lowers_the_loss_as_its_norm_says() {
    let place = Workplace::new();
    training_file(&place, "");
    drawn_rows(&place);
    // All rows, so that evaluate sees those of the gradient; all directions of layers of 64.
    let all = ["--set", "data.examples_per_class=\"all\"", "--rank", "64"];
    let command = ["gradient", "task.toml", "--out", "slope"];
    let found = place.run_json(&[&command[..], &all].concat());
    let modules = found["modules"].as_object().expect("modules");
    let mut energy = 0.0;
    for (path, module) in modules {
        assert!(
            module["kept"].as_f64().expect("a share") > 0.7,
            "{path}: {module}"
        );
        let values = module["values"].as_array().expect("values");
        energy += values
            .iter()
            .map(|value| value.as_f64().expect("a number").powi(2))
            .sum::<f64>();
    }
    assert!(
        found["agreement"].as_f64().expect("a number") > 0.3,
        "{found}"
    );

    let rank = place.config("slope")["r"].as_f64().expect("a rank");
    let loss = |step: f64| {
        let mut config = place.config("slope");
        config["lora_alpha"] = json!(rank * step);
        place.write_config("slope", &config);
        let base = quickstart("base");
        let evaluate = [
            "evaluate",
            "--base",
            &base,
            "--adapter",
            "slope",
            "--data",
            "rows",
        ];
        let measured = place.run_json(&evaluate);
        measured["loss"].as_f64().expect("a loss")
    };
    let start = loss(1e-9);
    assert!((start - found["loss"].as_f64().expect("a loss")).abs() < 1e-4);
    let step = 1e-3 / energy;
    let slope = (start - loss(step)) / (step * energy);
    // The second derivative bends it by what a step of 1e-3 of the loss is.
    assert!((slope - 1.0).abs() < 0.05, "{slope}");
}

#[test]
fn it_is_the_same_again_and_smaller_where_fewer_directions_are_asked_for() {
    let place = Workplace::new();
    training_file(&place, "target_modules = \"all-linear\"");
    for (name, rank) in [("one", "4"), ("two", "4"), ("three", "2")] {
        let command = ["gradient", "task.toml", "--out", name, "--rank", rank];
        let found = place.run_json(&command);
        assert_eq!(found["examples"], 60, "{found}");
    }
    let weights = |name: &str| fs::read(place.path(name).join(support::WEIGHTS)).expect("weights");
    assert_eq!(weights("one"), weights("two"));
    assert!(weights("three").len() < weights("one").len());
    let made = read_json(&place.path("one").join("eigenmix.json"));
    assert_eq!(made["method"], "gradient");
    assert_eq!(made["input"]["task"], "sequence-classification");
    let refused = place.run_refused(&["gradient", "task.toml", "--out", "one"]);
    assert!(refused.contains("exists"), "{refused}");
}

#[test]
fn a_subspace_counts_adapters_by_their_weights() {
    let place = Workplace::new();
    let [gym, library] = ["adapters/gym", "adapters/library"].map(quickstart);
    let copy = place.run(&["export", &library, "--out", "loud"]);
    assert_eq!(copy.status, 0, "{copy:?}");
    let mut config = place.config("loud");
    config["lora_alpha"] = json!(100.0 * config["lora_alpha"].as_f64().expect("a number"));
    place.write_config("loud", &config);
    let extract = |library: &str, out: &str, weights: &str| -> Value {
        let command = ["extract", &gym, library, "--out", out, "--components", "4"];
        let weights: &[&str] = if weights.is_empty() {
            &[]
        } else {
            &["--weights", weights]
        };
        place.run_json(&[&command[..], weights].concat());
        place.run_json(&["project", "--subspace", out, &gym])
    };
    let error = |found: &Value| {
        let error = found["adapters"][0]["relative_error"].as_f64();
        error.expect("an error")
    };
    // Scaling an adapter changes nothing where its norm is not what counts: not with weights, nor without any.
    let quiet = error(&extract(&library, "quiet", "1,1"));
    let mut loud = quiet;
    for (out, weights) in [("given", "1,1"), ("equal", "equal"), ("unsaid", "")] {
        loud = error(&extract("loud", out, weights));
        assert!((quiet - loud).abs() < 1e-5, "{out}: {quiet} {loud}");
    }
    let drowned = error(&extract("loud", "drowned", "norms"));
    assert!(drowned > loud + 0.05, "{drowned} {loud}");
    let own = error(&extract(&library, "own", "5,1"));
    assert!(own < quiet, "{own} {quiet}");
    for (weights, problem) in [
        ("1", "there are 1"),
        ("0,0", "all are 0"),
        ("1,-1", "-1 is no weight"),
    ] {
        let weights = format!("--weights={weights}");
        let refused = place.run_refused(&["extract", &gym, &library, "--out", "no", &weights]);
        assert!(refused.contains(problem), "{refused}");
    }
    let command = [
        "extract",
        &gym,
        &library,
        "--out",
        "no",
        "--weights",
        "even",
    ];
    let refused = place.run(&command);
    assert_eq!(refused.status, 2, "{refused:?}");
    let problem = "`even` is neither `equal`, `norms` nor numbers";
    assert!(refused.stderr.contains(problem), "{refused:?}");
}

#[test]
fn it_is_an_adapter_as_a_training_writes_it_and_a_method_without_modules_has_none() {
    let place = Workplace::new();
    training_file(&place, "");
    place.run_json(&["gradient", "task.toml", "--out", "slope", "--rank", "2"]);
    place.run_json(&["train", "task.toml"]);
    let [slope, run] = ["slope", "run/adapter"].map(|name| place.config(name));
    for key in [
        "target_modules",
        "modules_to_save",
        "task_type",
        "base_model_name_or_path",
    ] {
        assert_eq!(slope[key], run[key], "{key}");
    }
    let labels = |name: &str| read_json(&place.path(name).join("labels.json"));
    assert_eq!(labels("slope"), labels("run/adapter"));
    let full = ["--set", "adapter={method=\"full\"}", "--quiet"];
    let command = ["gradient", "task.toml", "--out", "none"];
    let refused = place.run_refused(&[&command[..], &full].concat());
    assert!(refused.contains("adapts no module"), "{refused}");
}

/// A training whose basis is made of what `keys` say.
fn basis_file(place: &Workplace, output: &str, keys: &str) -> String {
    format!(
        "seed = 3\noutput = {:?}\n[base]\nmodel = {:?}\n[data]\npath = {:?}\nmax_length = 24\n\
         examples_per_class = 6\n[adapter]\nmethod = \"eigenmix\"\nrank = 4\n{keys}\n\
         [training]\nepochs = 2\nbatch_size = 16\nlearning_rate = 5e-3\nlog_every = 1\n\
         save_every = 1\n",
        place.path(output).display().to_string(),
        quickstart("base"),
        quickstart("tasks/ferry_port"),
    )
}

fn pool() -> String {
    let adapters = ["adapters/gym", "adapters/library"].map(quickstart);
    format!("adapters = {adapters:?}\n")
}

#[test]
fn a_training_that_joins_it_is_resumed_on_the_same_basis() {
    let place = Workplace::new();
    for keys in [
        format!("{}components = 6\ngradient = {{ head = true }}", pool()),
        "components = 6\ngradient = true".to_owned(),
    ] {
        let file = |output: &str| basis_file(&place, output, &keys);
        let whole = train(&file("whole"), false, usize::MAX);
        let begun = train(&file("stopped"), false, 3);
        // What is taken anew is not what the checkpoint was trained on.
        let kept = place.path("stopped/gradient");
        assert!(kept.join(support::WEIGHTS).is_file());
        let resumed = train(&file("stopped"), true, usize::MAX);
        assert_eq!([begun, resumed].concat(), whole, "{keys}");
        // Killed before its first checkpoint, it has a gradient and no head yet.
        for name in ["checkpoints", "adapter"] {
            let path = place.path("stopped").join(name);
            fs::remove_dir_all(path).expect("a part of a run");
        }
        fs::remove_file(place.path("stopped/outcome.json")).expect("a file");
        assert_eq!(train(&file("stopped"), true, usize::MAX), whole, "{keys}");
        for name in ["whole", "stopped"] {
            fs::remove_dir_all(place.path(name)).expect("a run to remove");
        }
    }
}

#[test]
fn a_basis_that_has_changed_is_refused_when_a_training_is_resumed() {
    let place = Workplace::new();
    for name in ["gym", "library"] {
        let copy = [
            "export",
            &quickstart(&format!("adapters/{name}")),
            "--out",
            name,
        ];
        assert_eq!(place.run(&copy).status, 0);
    }
    let extract = ["extract", "gym", "library", "--out", "shared"];
    assert_eq!(place.run(&extract).status, 0);
    let here = |name: &str| place.path(name).display().to_string();
    let adapters = format!("adapters = {:?}", [here("gym"), here("library")]);
    let subspace = format!("subspace = {:?}", here("shared"));
    let gradient = format!("{adapters}\ngradient = true");
    for (keys, file) in [
        (gradient, "run/gradient/adapter_model.safetensors"),
        (adapters, "gym/adapter_model.safetensors"),
        (subspace, "shared/subspace.safetensors"),
    ] {
        let text = basis_file(&place, "run", &keys);
        fs::write(place.path("task.toml"), &text).expect("a file");
        train(&text, false, 3);
        let path = place.path(file);
        let mut bytes = fs::read(&path).expect("a file");
        // The lowest bit of a number: still an adapter, nearly the same one.
        let place_of_bit = bytes.len() - 4;
        bytes[place_of_bit] ^= 1;
        fs::write(&path, &bytes).expect("a file");
        let refused = place.run_refused(&["train", "task.toml", "--resume"]);
        assert!(
            refused.contains("has changed since the training began"),
            "{refused}"
        );
        bytes[place_of_bit] ^= 1;
        fs::write(&path, bytes).expect("a file");
        place.run_json(&["train", "task.toml", "--resume"]);
        fs::remove_dir_all(place.path("run")).expect("a run to remove");
    }
}

#[test]
fn the_run_keeps_what_the_command_gives_and_starts_from_its_head() {
    let place = Workplace::new();
    let keys = "components = 6\ngradient = { head = true, rank = 6 }";
    fs::write(place.path("task.toml"), basis_file(&place, "run", keys)).expect("a file");
    let found = place.run_json(&["gradient", "task.toml", "--out", "slope", "--rank", "6"]);
    place.run_json(&["train", "task.toml"]);
    let weights = |name: &str| fs::read(place.path(name).join(support::WEIGHTS)).expect("weights");
    assert_eq!(weights("slope"), weights("run/gradient"));
    let first = &metrics(&place.path("run"))[0];
    let (first, fitted) = (first["loss"].as_f64(), found["loss"].as_f64());
    let (first, fitted) = (first.expect("a loss"), fitted.expect("a loss"));
    // The head starts with two thirds of the loss of guessing among ten, or with its own if that is more.
    // The first batch is a quarter of the examples that this is the mean over.
    let expected = fitted.max(2.0 / 3.0 * 10.0_f64.ln());
    assert!(
        (first - expected).abs() < 0.2 && first < 2.1,
        "{first} {fitted}"
    );
    let refused = place.run_refused(&["train", "task.toml"]);
    assert!(refused.contains("exists"), "{refused}");
}

#[test]
fn a_control_trains_as_many_parameters_on_another_basis() {
    let place = Workplace::new();
    let trained = |name: &str, keys: &str| {
        let file = basis_file(&place, name, &format!("{}components = 6\n{keys}", pool()));
        fs::write(place.path("task.toml"), file).expect("a file");
        let outcome = place.run_json(&["train", "task.toml"]);
        let adapter = fs::read(place.path(name).join("adapter").join(support::WEIGHTS));
        (
            outcome["adapter_parameters"].clone(),
            adapter.expect("weights"),
        )
    };
    let recycled = trained("recycled", "");
    for kind in ["random", "weights", "gradient"] {
        let control = trained(kind, &format!("basis = \"{kind}\""));
        assert_eq!(control.0, recycled.0, "{kind}");
        assert_ne!(control.1, recycled.1, "{kind}");
    }
}
