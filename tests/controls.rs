//! `controls = true`: every arm that recycles beside itself on a random basis.

mod support;

use std::fs;

use support::{Workplace, quickstart, read_json};

fn file(more: &str, arm: &str) -> String {
    format!(
        "output = \"runs\"\nseeds = [0, 1]\n{more}\n[base]\nmodel = {:?}\n[data]\npath = {:?}\n\
         max_length = 24\nexamples_per_class = 3\n[adapter]\nmethod = \"lora\"\nrank = 2\n\
         [training]\nepochs = 1\nbatch_size = 16\nlearning_rate = 5e-3\nevaluate_every = 0\n\
         [[arm]]\nname = \"lora\"\n{arm}",
        quickstart("base"),
        quickstart("tasks/ferry_port"),
    )
}

fn recycling(name: &str) -> String {
    let adapters = ["adapters/gym", "adapters/library"].map(quickstart);
    format!(
        "[[arm]]\nname = \"{name}\"\nadapter.method = \"eigenmix\"\nadapter.components = 4\n\
         adapter.gradient = true\nadapter.adapters = {adapters:?}\n"
    )
}

#[test]
fn an_arm_that_recycles_gets_a_control_and_the_report_says_what_came_of_it() {
    let place = Workplace::new();
    fs::write(
        place.path("e.toml"),
        file("controls = [\"mix\"]", &recycling("mix")),
    )
    .expect("a file");
    let report = place.run_json(&["run", "e.toml"]);
    let arms = report["arms"].as_array().expect("arms");
    let names: Vec<&str> = arms.iter().filter_map(|arm| arm["name"].as_str()).collect();
    assert_eq!(names, ["lora", "mix", "mix-random"]);
    assert_eq!(arms[1]["adapter_parameters"], arms[2]["adapter_parameters"]);
    let accuracy = |arm: usize, seed: &str| {
        let found = &arms[arm]["by_seed"][seed]["accuracy"];
        found.as_f64().expect("an accuracy")
    };
    let expected = (0..2).map(|seed: u64| {
        let seed = seed.to_string();
        accuracy(1, &seed) - accuracy(2, &seed)
    });
    let expected = expected.sum::<f64>() / 2.0;
    let whole = read_json(&place.path("runs/report.json"));
    let effects = whole["recycling"].as_array().expect("effects");
    let effect = effects.iter().find(|effect| effect["metric"] == "accuracy");
    let found = effect.expect("an effect")["difference"]["mean"].as_f64();
    assert!((found.expect("a number") - expected).abs() < 1e-9);
    for name in ["report.md", "report.html"] {
        let text = fs::read_to_string(place.path("runs").join(name)).expect("a report");
        assert!(text.contains("Whether recycling helped"), "{name}");
    }
    // A run keeps to how much each adapter counts, whatever the default will be.
    let kept = fs::read_to_string(place.path("runs/mix/seed-0/config.toml")).expect("a file");
    for part in ["weights = \"equal\"", "join = \"auto\""] {
        assert!(kept.contains(part), "{part}\n{kept}");
    }
    // A control has the adapters' modules and sizes, not their directions.
    let control = place.path("runs/mix-random/seed-0");
    assert!(!control.join("basis.json").exists() && !control.join("gradient").exists());
    let made = read_json(&control.join("adapter/eigenmix.json"));
    assert_eq!(made["sources"].as_array().map(Vec::len), Some(0), "{made}");
}

#[test]
fn controls_of_nothing_or_of_a_name_that_is_taken_are_refused() {
    let place = Workplace::new();
    let refused = |text: &str| {
        fs::write(place.path("e.toml"), text).expect("a file");
        place.run_refused(&["run", "e.toml"])
    };
    let message = refused(&file("controls = true", ""));
    assert!(
        message.contains("no arm trains on recycled adapters"),
        "{message}"
    );
    let message = refused(&file("controls = [\"lora\"]", &recycling("mix")));
    assert!(message.contains("names `lora`"), "{message}");
    let both = recycling("mix") + &recycling("mix-random");
    let message = refused(&file("controls = true", &both));
    assert!(message.contains("rename it"), "{message}");
    assert!(!place.path("runs").exists());
}
