//! A new toy from adapters of six others of the same maker (configs/toys.toml): what recycling is for, on
//! pictures small enough for a test.

use std::path::Path;

use crate::support::Workplace;
use serde_json::Value;

fn arm<'r>(report: &'r Value, name: &str) -> &'r Value {
    let arms = report["arms"].as_array().expect("arms");
    let found = arms.iter().find(|arm| arm["name"] == name);
    found.unwrap_or_else(|| panic!("no arm {name}: {report}"))
}

/// The mean validation loss of an arm, at fixed noise and times.
fn loss(report: &Value, name: &str) -> f64 {
    let mean = &arm(report, name)["metrics"]["denoising-loss"]["mean"];
    mean.as_f64().unwrap_or_else(|| panic!("{name}: {report}"))
}

fn parameters(report: &Value, name: &str) -> f64 {
    let count = &arm(report, name)["adapter_parameters"];
    count.as_f64().expect("a number")
}

#[test]
fn a_toy_that_no_adapter_has_seen_is_recycled_from_those_of_its_maker() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let place = Workplace::new();
    let text = std::fs::read_to_string(repository.join("configs/toys.toml")).expect("a file");
    let datasets = format!("\"{}/datasets/", repository.to_str().expect("UTF-8"));
    let text = text.replace("\"datasets/", &datasets);
    std::fs::write(place.path("toys.toml"), text).expect("a file");
    let report = place.run_json(&["run", "toys.toml", "--set", "seeds=[0]"]);
    let names = [
        "lora",
        "moslora",
        "eigenlorax",
        "eigenmix",
        "eigenmix-random",
    ];
    for name in names {
        println!(
            "{name}: {} parameters, {}",
            parameters(&report, name),
            loss(&report, name)
        );
    }
    // A tenth of LoRA's parameters and no more loss; the directions matter, not their number alone.
    assert!(parameters(&report, "eigenmix") <= 0.1 * parameters(&report, "lora"));
    assert!(loss(&report, "eigenmix") <= loss(&report, "lora"));
    assert!(loss(&report, "eigenmix") < 0.97 * loss(&report, "eigenmix-random"));
    let page = std::fs::read_to_string(place.path("runs/toys/report.html")).expect("a report");
    assert!(page.contains("a nax on a white background"));
}
