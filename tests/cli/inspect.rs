//! `inspect`: what it recognises, and that its values are right.

use std::fs;

use crate::support::{DOWN, QUERY, WEIGHTS, Workplace, classifier_adapter, random_adapter};
use serde_json::json;

#[test]
fn an_adapter_is_described_with_scaling_and_norms() {
    let place = Workplace::new();
    let adapter = classifier_adapter(1, 3);
    place.save("a", &adapter);
    let found = place.run_json(&["inspect", "a"]);
    assert_eq!(found["kind"], "adapter");
    assert_eq!(found["base_model"], "org/base");
    assert_eq!(found["ranks"], json!([3, 4]));
    assert_eq!(found["parameters"], adapter.parameter_count());
    assert_eq!(found["labels"], json!(["no", "yes", "maybe"]));
    assert_eq!(found["heads"]["classifier.weight"], json!([3, 41]));
    assert_eq!(found["zero_effect"], json!([]));
    let module = &found["modules"][DOWN];
    assert_eq!([&module["d_out"], &module["d_in"]], [29, 41]);
    // `save` folds the scaling into B and doubles alpha.
    assert_eq!(module["scaling"], 2.0);
    let expected = 2.0 * adapter.modules[DOWN].update().norm();
    let norm = module["norm"].as_f64().expect("a number");
    assert!(
        (norm - expected).abs() < 1e-5 * expected,
        "{norm}, {expected}"
    );
}

#[test]
fn a_module_without_effect_is_named() {
    let place = Workplace::new();
    let mut adapter = random_adapter(1, 3);
    let module = adapter.modules.get_mut(QUERY).expect("a module");
    module.b = eigenmix_tensors::Matrix::zeros(37, 3);
    place.save("a", &adapter);
    assert_eq!(
        place.run_json(&["inspect", "a"])["zero_effect"],
        json!([QUERY])
    );
    assert!(
        place
            .run(&["inspect", "a"])
            .stdout
            .contains("change nothing")
    );
}

#[test]
fn a_subspace_is_described_with_its_sources() {
    let place = Workplace::new();
    place.save("a", &random_adapter(1, 3));
    place.save("b", &random_adapter(2, 2));
    let extract = [
        "extract",
        "a",
        "b",
        "--out",
        "s",
        "-k",
        "4",
        "--center",
        "--augment",
        "1",
    ];
    assert_eq!(place.run(&extract).status, 0);
    let found = place.run_json(&["inspect", "s"]);
    assert_eq!(found["kind"], "subspace");
    assert_eq!(found["sources"][1]["location"], "b");
    let left = &found["modules"][QUERY]["left"];
    assert_eq!(left["columns"], 6);
    assert_eq!(left["has_mean"], true);
    let words = place.run(&["inspect", "s"]).stdout;
    assert!(words.contains("4 + mean + 1 random"), "{words}");
}

#[test]
fn a_run_is_described_with_its_last_and_its_best_evaluation() {
    let place = Workplace::new();
    fs::create_dir(place.path("run")).expect("a directory");
    fs::write(
        place.path("run/config.toml"),
        "[adapter]\nmethod = \"lora\"\n",
    )
    .expect("a file");
    let metrics = "\
{\"step\": 10, \"epoch\": 0.5, \"loss\": 1.25, \"learning_rate\": 0.01}
{\"step\": 20, \"epoch\": 1.0, \"split\": \"validation\", \"loss\": 0.5, \"accuracy\": 0.9375}
{\"step\": 40, \"epoch\": 2.0, \"split\": \"validation\", \"loss\": 0.75, \"accuracy\": 0.875}
";
    fs::write(place.path("run/metrics.jsonl"), metrics).expect("a file");
    let found = place.run_json(&["inspect", "run"]);
    assert_eq!(found["kind"], "run");
    assert_eq!(found["config"]["adapter"]["method"], "lora");
    let validation = &found["evaluations"]["validation"];
    assert_eq!(validation["last"]["accuracy"], 0.875);
    assert_eq!(validation["best"]["accuracy"]["step"], 20);
    let words = place.run(&["inspect", "run"]).stdout;
    assert!(words.contains("0.9375"), "{words}");
}

#[test]
fn a_safetensors_file_is_listed() {
    let place = Workplace::new();
    place.save("a", &random_adapter(1, 3));
    let file = format!("a/{WEIGHTS}");
    let found = place.run_json(&["inspect", &file]);
    assert_eq!(found["kind"], "tensors");
    assert_eq!(
        found["tensors"].as_object().map(|tensors| tensors.len()),
        Some(4)
    );
    assert_eq!(found["numbers"], random_adapter(1, 3).parameter_count());
}
