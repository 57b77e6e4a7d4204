//! A new toy from adapters of six others of the same maker (configs/toys.toml): what recycling is for, on
//! pictures small enough for a test.

use std::fs;
use std::path::Path;

use crate::support::Workplace;
use serde_json::Value;

fn arm<'r>(report: &'r Value, name: &str) -> &'r Value {
    let arms = report["arms"].as_array().expect("arms");
    let found = arms.iter().find(|arm| arm["name"] == name);
    found.unwrap_or_else(|| panic!("no arm {name}: {report}"))
}

/// The mean validation loss of an arm, at the same noise and times for all.
fn loss(report: &Value, name: &str) -> f64 {
    let mean = &arm(report, name)["metrics"]["denoising-loss"]["mean"];
    mean.as_f64().unwrap_or_else(|| panic!("{name}: {report}"))
}

fn parameters(report: &Value, name: &str) -> f64 {
    let count = &arm(report, name)["adapter_parameters"];
    count.as_f64().expect("a number")
}

#[test]
fn a_new_toy_takes_a_tenth_of_the_parameters_on_what_adapters_of_others_have_in_common() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let place = Workplace::new();
    let text = fs::read_to_string(repository.join("configs/toys.toml")).expect("a file");
    let datasets = format!("\"{}/datasets/", repository.to_str().expect("UTF-8"));
    let text = text.replace("\"datasets/", &datasets);
    fs::write(place.path("toys.toml"), text).expect("a file");
    let report = place.run_json(&["run", "toys.toml", "--set", "seeds=[0]"]);
    let names = [
        "lora",
        "moslora",
        "eigenlorax",
        "eigenmix",
        "eigenmix-random",
    ];
    let losses = names.map(|name| {
        format!(
            "{name}: {} parameters, loss {:.4}",
            parameters(&report, name),
            loss(&report, name)
        )
    });
    println!("{}", losses.join("\n"));
    let mix = "eigenmix";
    assert!(parameters(&report, mix) <= 0.1 * parameters(&report, "lora"));
    assert!(loss(&report, mix) <= loss(&report, "lora"));
    // It is the directions that help, not that there are few of them.
    assert!(loss(&report, mix) < 0.9 * loss(&report, "eigenmix-random"));
    // What each of them makes of the prompts is in the report, side by side.
    let page = fs::read_to_string(place.path("runs/toys/report.html")).expect("a report");
    for name in names {
        let images = page.matches(&format!("<img alt=\"{name}, step ")).count();
        // Three prompts, before the training and after it.
        assert_eq!(images, 6, "{name}");
    }
}
