//! Reports and pages: that they contain the metrics, open offline and overwrite nothing by default.

use std::fs;

use crate::support::{Workplace, quickstart, random_adapter, read_json};
use serde_json::Value;

/// An experiment of two arms and two seeds: few steps on few examples.
fn experiment() -> String {
    let adapters = ["bakery", "gym", "library"].map(|name| quickstart(&format!("adapters/{name}")));
    format!(
        r#"
        output = "x"
        seeds = [0, 1]
        [base]
        model = "{base}"
        [data]
        path = "{data}"
        max_length = 48
        examples_per_class = 4
        [adapter]
        method = "lora"
        rank = 4
        [training]
        epochs = 2
        batch_size = 8
        learning_rate = 5e-3
        log_every = 1
        [[arm]]
        name = "lora"
        [[arm]]
        name = "eigenmix"
        adapter = {{ method = "eigenmix", components = 6, adapters = {adapters:?} }}
        "#,
        base = quickstart("base"),
        data = quickstart("tasks/ferry_port"),
    )
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Reads a page and checks that nothing of it is to be loaded.
fn page(place: &Workplace, name: &str) -> String {
    let text = fs::read_to_string(place.path(name)).expect("a page");
    for outside in [
        "http:", "https:", "url(", "@import", "src=", "href=", "<script",
    ] {
        assert!(!text.contains(outside), "{name}: {outside}");
    }
    assert!(!text.contains("NaN"), "{name}");
    text
}

#[test]
fn a_report_holds_what_its_runs_measured() {
    let place = Workplace::new();
    fs::write(place.path("x.toml"), experiment()).expect("a file");
    place.run_json(&["run", "x.toml", "--quiet"]);
    let report = read_json(&place.path("x/report.json"));
    for (arm, name) in report["arms"]
        .as_array()
        .expect("arms")
        .iter()
        .zip(["lora", "eigenmix"])
    {
        let outcomes = [0, 1]
            .map(|seed| read_json(&place.path(&format!("x/{name}/seed-{seed}/outcome.json"))));
        let of = |figure: &str| mean(&outcomes.each_ref().map(|outcome| number(&outcome[figure])));
        for figure in ["seconds", "examples_per_second", "peak_memory"] {
            assert_eq!(number(&arm[figure]["mean"]), of(figure), "{figure}");
        }
        let accuracies = outcomes
            .each_ref()
            .map(|outcome| number(&outcome["test"]["accuracy"]));
        assert_eq!(
            number(&arm["metrics"]["accuracy"]["mean"]),
            mean(&accuracies)
        );
        // Two epochs of 40 examples in batches of 8.
        let losses = arm["curves"]["training_loss"].as_array().expect("a curve");
        assert_eq!(losses.len(), 10);
        let last = outcomes.each_ref().map(|outcome| number(&outcome["loss"]));
        assert_eq!(number(&losses[9]["mean"]), mean(&last));
        assert_eq!(losses[9]["step"], 10);
        assert_eq!(arm["curves"]["validation"]["accuracy"][1]["seeds"], 2);
        // The weights and activations of so small a model are a few megabytes.
        let peak = of("peak_memory");
        assert!(peak > 4e6 && peak < 4e9, "{peak}");
    }
    let spectrum = &report["arms"][1]["subspace"]["spectrum"]["left"];
    assert_eq!(spectrum["share"].as_array().map(Vec::len), Some(6));
    assert_eq!(report["arms"][0]["subspace"], Value::Null);
    let recycled = &report["recycled"]["sets"][0];
    assert_eq!(
        recycled["adapters"],
        serde_json::json!(["bakery", "gym", "library"])
    );
    assert!((number(&recycled["cosine"][2][2]) - 1.0).abs() < 1e-12);

    let html = page(&place, "x/report.html");
    for part in [
        "Training loss",
        "Validation: accuracy",
        "accuracy against trained parameters",
        "Cumulative explained variance",
        "Variance kept, left",
        "Cosine of the updates",
        "peak memory",
    ] {
        assert!(html.contains(part), "{part}");
    }
    let markdown = fs::read_to_string(place.path("x/report.md")).expect("a report");
    assert!(markdown.contains("| eigenmix |"), "{markdown}");

    // Nothing is trained again, and the report of the same runs is the same.
    place.run_json(&["run", "x.toml", "--quiet"]);
    assert_eq!(read_json(&place.path("x/report.json")), report);
    assert_eq!(page(&place, "x/report.html"), html);
}

#[test]
fn the_spectrum_of_a_run_is_that_of_the_subspace_it_used() {
    let place = Workplace::new();
    let adapters = ["bakery", "gym", "library"].map(|name| quickstart(&format!("adapters/{name}")));
    let mut extract = vec!["extract", "--out", "s"];
    extract.extend(adapters.iter().map(String::as_str));
    assert_eq!(place.run(&extract).status, 0);
    let config = experiment().replace("adapter = {", "seeds = [0]\nadapter = {");
    let config = config.replace(&format!("adapters = {adapters:?}"), "subspace = \"s\"");
    fs::write(place.path("x.toml"), config).expect("a file");
    place.run_json(&["run", "x.toml", "--quiet"]);
    let basis = read_json(&place.path("x/eigenmix/seed-0/basis.json"));
    let whole = eigenmix_eigenlorax::Subspace::load(&place.path("s")).expect("a subspace");
    let (path, module) = whole.modules.iter().next().expect("a module");
    let found = &basis["modules"][path]["right"];
    let variance: Vec<f32> = found["variance"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|value| number(value) as f32)
        .collect();
    assert_eq!(variance, module.right.variance()[..6]);
    assert_eq!(number(&found["total"]), module.right.total_variance());
}

#[test]
fn several_adapters_are_compared_in_text_and_charts() {
    let place = Workplace::new();
    for (name, seed) in [("a", 1), ("b", 2), ("c", 3)] {
        place.save(name, &random_adapter(seed, 3));
    }
    let found = place.run_json(&["inspect", "a", "b", "c", "--html", "page.html"]);
    assert_eq!(found["kind"], "adapters");
    let cosine = &found["comparison"]["cosine"];
    assert_eq!(cosine[0][2], cosine[2][0]);
    assert!((number(&cosine[1][1]) - 1.0).abs() < 1e-12);
    let norm = number(&found["adapters"][1]["norm"]);
    let alone = place.run_json(&["inspect", "b"]);
    assert_eq!(norm, number(&alone["norm"]));
    let text = page(&place, "page.html");
    assert!(text.contains("Overlap of the right subspaces"));
    let words = place.run(&["inspect", "a", "b", "c"]).stdout;
    assert!(
        words.contains(&format!("{:.3}", number(&cosine[0][1]))),
        "{words}"
    );
}

#[test]
fn adapters_subspaces_and_runs_have_pages() {
    let place = Workplace::new();
    place.save("a", &random_adapter(1, 3));
    place.save("b", &random_adapter(2, 2));
    let extract = ["extract", "a", "b", "--out", "s", "-k", "4"];
    assert_eq!(place.run(&extract).status, 0);
    place.run_json(&["inspect", "a", "--html", "a.html"]);
    assert!(page(&place, "a.html").contains("Size of the update by module"));
    place.run_json(&["inspect", "s", "--html", "s.html"]);
    let text = page(&place, "s.html");
    assert!(text.contains("Cumulative explained variance"));
    assert!(text.contains("Relative error of each source"));
    // Without its sources the subspace is shown all the same.
    fs::remove_dir_all(place.path("b")).expect("a directory");
    place.run_json(&["inspect", "s", "--html", "t.html"]);
    let text = page(&place, "t.html");
    assert!(text.contains("They are not compared") && text.contains("Variance kept"));

    fs::create_dir(place.path("run")).expect("a directory");
    fs::write(place.path("run/config.toml"), "").expect("a file");
    let metrics = "\
{\"step\": 1, \"epoch\": 0.5, \"loss\": 1.25, \"learning_rate\": 0.01}
{\"step\": 2, \"epoch\": 1.0, \"loss\": 0.75, \"learning_rate\": 0.01}
{\"step\": 2, \"epoch\": 1.0, \"split\": \"validation\", \"loss\": 0.5, \"accuracy\": 0.9375}
";
    fs::write(place.path("run/metrics.jsonl"), metrics).expect("a file");
    place.run_json(&["inspect", "run", "--html", "run.html"]);
    let text = page(&place, "run.html");
    assert!(text.contains("this run: 0.75 at 2") && text.contains("0.9375"));
}

#[test]
fn a_page_replaces_nothing_without_force() {
    let place = Workplace::new();
    place.save("a", &random_adapter(1, 3));
    fs::write(place.path("mine.html"), "mine").expect("a file");
    let error = place.run_refused(&["inspect", "a", "--html", "mine.html"]);
    assert!(error.contains("mine.html"), "{error}");
    let error = place.run_refused(&["inspect", "a", "--html", "a"]);
    assert!(error.contains("directory"), "{error}");
    let weights = format!("a/{}", crate::support::WEIGHTS);
    let error = place.run_refused(&["inspect", &weights, "--html", "new.html"]);
    assert!(error.contains("--html"), "{error}");
    place.run_json(&["inspect", "a", "--html", "mine.html", "--force"]);
    assert!(page(&place, "mine.html").contains("Adapter a"));
}

#[test]
fn an_adapter_that_is_missing_or_given_twice_is_refused_by_name() {
    let place = Workplace::new();
    place.save("a", &random_adapter(1, 3));
    let error = place.run_refused(&["inspect", "a", &quickstart("adapters/gym"), "nowhere"]);
    assert!(error.contains("nowhere"), "{error}");
    let error = place.run_refused(&["inspect", "a", "a"]);
    assert!(error.contains("given twice"), "{error}");
}
