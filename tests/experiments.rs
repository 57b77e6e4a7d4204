//! `eigenmix run` and `eigenmix report`: stages, arms, jobs, shards, failures, mistakes.

mod support;

use std::fs;

use eigenmix_adapter::{AdapterFile, SaveOptions};
use eigenmix_tensors::Matrix;
use serde_json::Value;
use support::{Outcome, Workplace, metrics, quickstart, read_json};

/// The cells of [`experiment`].
const CELLS: [&str; 4] = [
    "plain/seed-0",
    "plain/seed-1",
    "mixed/seed-0",
    "mixed/seed-1",
];

/// Small trainings of two arms; `more` comes before the arms.
fn experiment(place: &Workplace, more: &str) -> String {
    let text = format!(
        r#"
        output = "out"
        seeds = [0, 1]
        [base]
        model = "{base}"
        [data]
        path = "{data}"
        max_length = 48
        examples_per_class = 2
        [adapter]
        method = "lora"
        rank = 2
        [training]
        epochs = 2
        batch_size = 8
        learning_rate = 5e-3
        log_every = 1
        {more}
        [[arm]]
        name = "plain"
        [[arm]]
        name = "mixed"
        adapter.method = "moslora"
        "#,
        base = quickstart("base"),
        data = quickstart("tasks/ferry_port"),
    );
    fs::write(place.path("x.toml"), text).expect("a file");
    "x.toml".to_owned()
}

/// Stages that train an adapter for `gym` and one for `library`.
fn sources() -> String {
    let stage = |task: &str| {
        let data = quickstart(&format!("tasks/{task}"));
        format!("[[train]]\nname = \"{task}\"\ndata.path = \"{data}\"\n")
    };
    ["gym", "library"].map(stage).concat()
}

/// Asserts that a run succeeded and left so many cells and trained stages as they were.
fn assert_finished_before(outcome: &Outcome, count: usize) {
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let found = outcome.stderr.matches("already finished").count();
    assert_eq!(found, count, "{outcome:?}");
}

fn arm<'r>(report: &'r Value, name: &str) -> &'r Value {
    let arms = report["arms"].as_array().expect("arms");
    let found = arms.iter().find(|arm| arm["name"] == name);
    found.unwrap_or_else(|| panic!("no arm {name}: {report}"))
}

fn accuracy(report: &Value, name: &str) -> f64 {
    let mean = &arm(report, name)["metrics"]["accuracy"]["mean"];
    mean.as_f64().expect("an accuracy")
}

#[test]
fn cells_in_processes_of_their_own_are_those_of_one_process() {
    let place = Workplace::new();
    let file = experiment(&place, "");
    place.run_json(&["run", &file, "--out", "one"]);
    let report = place.run_json(&["run", &file, "--out", "many", "--jobs", "3"]);
    for cell in CELLS {
        let (one, many) = (place.path("one").join(cell), place.path("many").join(cell));
        assert_eq!(metrics(&one), metrics(&many), "{cell}");
    }
    assert_eq!(report["arms"].as_array().map(Vec::len), Some(2));
    let again = place.run(&["run", &file, "--out", "many", "--jobs", "2"]);
    assert_finished_before(&again, 4);
}

#[test]
fn a_cell_that_fails_is_reported_and_the_others_are_finished() {
    let place = Workplace::new();
    let broken = "[[arm]]\nname = \"broken\"\ndata.text = \"prose\"";
    for jobs in ["1", "2"] {
        let file = experiment(&place, broken);
        let out = format!("out-{jobs}");
        let arguments = ["run", &file, "--out", &out, "--jobs", jobs, "--json"];
        let outcome = place.run(&arguments);
        assert_eq!(outcome.status, 1, "{outcome:?}");
        assert!(
            outcome.stderr.contains("2 of 6 cells failed"),
            "{outcome:?}"
        );
        let report: Value = serde_json::from_str(&outcome.stdout).expect("a report");
        let failures = arm(&report, "broken")["failures"]
            .as_array()
            .expect("failures");
        let problem = failures[0]["problem"].as_str().expect("a problem");
        assert_eq!(failures.len(), 2);
        assert!(problem.contains("prose"), "{problem}");
        assert!(accuracy(&report, "plain") > 0.0 && accuracy(&report, "mixed") > 0.0);
        // Mended, only what failed is run.
        experiment(&place, &broken.replace("prose", "text"));
        let mended = place.run(&arguments);
        assert_finished_before(&mended, 4);
        let report: Value = serde_json::from_str(&mended.stdout).expect("a report");
        assert_eq!(arm(&report, "broken")["failures"], Value::Null);
    }
}

#[test]
fn shards_run_every_cell_once_and_a_report_collects_them() {
    let place = Workplace::new();
    let file = experiment(&place, "");
    let whole = place.run_json(&["run", &file, "--out", "whole"]);
    for shard in ["1/3", "2/3", "3/3"] {
        let out = format!("node-{}", &shard[..1]);
        place.run_json(&["run", &file, "--out", &out, "--shard", shard]);
    }
    let nodes = ["node-1", "node-2", "node-3"];
    let has = |node: &str, cell: &str| place.path(node).join(cell).exists();
    for cell in CELLS {
        assert_eq!(
            nodes.iter().filter(|node| has(node, cell)).count(),
            1,
            "{cell}"
        );
    }
    let mut arguments = vec!["report"];
    arguments.extend(nodes);
    let collected = place.run_json(&[&arguments[..], &["--out", "all"]].concat());
    for name in ["plain", "mixed"] {
        assert_eq!(
            arm(&collected, name)["metrics"],
            arm(&whole, name)["metrics"],
            "{name}"
        );
    }
    assert!(place.path("all/report.md").is_file());
    let partial = place.run(&["report", "node-2"]);
    assert!(
        partial.stderr.contains("1 of 4 cells are finished"),
        "{partial:?}"
    );
    let other = place.run_refused(&["report", "out"]);
    assert!(
        other.contains("is not the directory of an experiment"),
        "{other}"
    );
}

#[test]
fn a_pipeline_from_sources_to_an_evaluated_merge_is_one_file() {
    let place = Workplace::new();
    let gym = quickstart("tasks/gym");
    let stages = format!(
        r#"
        {sources}
        [[extract]]
        name = "shared"
        adapters = ["train:gym", "train:library"]
        components = 3
        [[merge]]
        name = "both"
        adapters = ["train:gym", "train:library"]
        space = "core"
        method = "tsv"
        [[arm]]
        name = "recycled"
        adapter = {{ method = "eigenmix", subspace = "extract:shared", init = "project:merge:both" }}
        [[arm]]
        evaluate = "merge:both"
        head = "train:gym"
        data.path = "{gym}"
        "#,
        sources = sources(),
    );
    let file = experiment(&place, &stages);
    let report = place.run_json(&["run", &file]);
    let direct = place.run_json(&[
        "evaluate",
        "--base",
        &quickstart("base"),
        "--adapter",
        "out/merge/both",
        "--head",
        "out/train/gym",
        "--data",
        &gym,
    ]);
    let expected = direct["metrics"]["accuracy"].as_f64().expect("an accuracy");
    assert_eq!(accuracy(&report, "merge_both"), expected);
    // No metric was requested, so both report the default ones.
    let (own, direct) = (&arm(&report, "merge_both")["metrics"], &direct["metrics"]);
    let names = |metrics: &Value| -> Vec<String> {
        metrics
            .as_object()
            .expect("metrics")
            .keys()
            .cloned()
            .collect()
    };
    assert_eq!(names(own), names(direct));
    assert_eq!(arm(&report, "merge_both")["adapter_parameters"], 0);
    assert_eq!(arm(&report, "recycled")["seeds"], serde_json::json!([0, 1]));
    let subspace = read_json(&place.path("out/extract/shared/subspace.json"));
    let sources = subspace["sources"].as_array().expect("sources");
    assert_eq!(sources.len(), 2);
    let again = place.run(&["run", &file]);
    assert_eq!(again.stderr.matches("already made").count(), 2, "{again:?}");
    assert_finished_before(&again, 9);
    // After another extraction it is unknown which arms were trained on it.
    experiment(&place, &stages.replace("components = 3", "components = 4"));
    let changed = place.run(&["run", &file]);
    assert_eq!(changed.status, 2, "{changed:?}");
    assert!(changed.stderr.contains("out/extract/shared"), "{changed:?}");
}

#[test]
fn a_searched_merge_finds_the_data_of_its_stages_by_their_names() {
    let place = Workplace::new();
    let [gym, library] = ["gym", "library"].map(|task| quickstart(&format!("tasks/{task}")));
    let stages = format!(
        r#"
        {sources}
        [[merge]]
        name = "both"
        adapters = ["train:gym", "train:library"]
        space = "core"
        method = "sum"
        [merge.search]
        base = "{base}"
        data = ["library={library}", "gym={gym}"]
        scales = [0.5]
        search_rows = 20
        "#,
        base = quickstart("base"),
        sources = sources(),
    );
    let file = experiment(&place, &stages);
    place.run_json(&["run", &file, "--set", "seeds=[0]"]);
    let merged = read_json(&place.path("out/merge/both/eigenmix.json"));
    let tasks = merged["options"]["search"]["tasks"]
        .as_array()
        .expect("tasks");
    let found: Vec<_> = tasks
        .iter()
        .map(|task| (&task["name"], &task["data"]))
        .collect();
    let expected = [("gym", &gym), ("library", &library)];
    for ((name, data), (expected_name, expected_data)) in found.into_iter().zip(expected) {
        assert_eq!(name, expected_name);
        assert_eq!(data, expected_data);
    }
    assert_eq!(tasks.len(), 2);
}

#[test]
fn a_cell_of_another_configuration_stands_in_the_way_before_anything_runs() {
    let place = Workplace::new();
    let file = experiment(&place, "");
    place.run_json(&["run", &file, "--set", "seeds=[1]"]);
    let outcome = place.run(&["run", &file, "--set", "training.epochs=1"]);
    assert_eq!(outcome.status, 2, "{outcome:?}");
    assert!(outcome.stderr.contains("out/plain/seed-1"), "{outcome:?}");
    assert!(!place.path("out/plain/seed-0").exists());
    place.run_json(&["run", &file, "--set", "training.epochs=1", "--force"]);
}

#[test]
fn an_experiment_without_seeds_is_refused() {
    let place = Workplace::new();
    let file = experiment(&place, "");
    let text = fs::read_to_string(place.path(&file)).expect("a file");
    fs::write(
        place.path(&file),
        text.replace("seeds = [0, 1]", "seeds = []"),
    )
    .expect("a file");
    let message = place.run_refused(&["run", &file]);
    assert_eq!(
        message,
        "error: x.toml:3: `seeds` must have at least 1 value, found 0\n"
    );
    let message = place.run_refused(&["run", &file, "--set", "seeds=[]"]);
    assert!(message.contains("--set seeds=[]"), "{message}");
}

/// Replaces the accuracy on the test split of a finished cell by `value`.
fn write_accuracy(place: &Workplace, cell: &str, value: Value) {
    let path = place.path("out").join(cell).join("outcome.json");
    let mut outcome = read_json(&path);
    outcome["test"]["accuracy"] = value;
    fs::write(path, outcome.to_string()).expect("a file");
}

#[test]
fn a_metric_that_is_not_a_number_is_reported_as_that_and_its_run_is_finished() {
    let place = Workplace::new();
    let file = experiment(&place, "");
    place.run_json(&["run", &file]);
    write_accuracy(&place, "plain/seed-0", "NaN".into());
    // As earlier releases wrote it.
    write_accuracy(&place, "mixed/seed-1", Value::Null);
    let again = place.run(&["run", &file]);
    assert_finished_before(&again, 4);
    for arguments in [&["run", &file][..], &["report", "out"]] {
        let report = place.run_json(arguments);
        for name in ["plain", "mixed"] {
            let arm = arm(&report, name);
            assert_eq!(arm["metrics"]["accuracy"]["mean"], "NaN", "{arm}");
            let notes = arm["notes"].to_string();
            assert!(notes.contains("accuracy is NaN"), "{notes}");
        }
        let told = place.run(arguments).stdout;
        assert!(told.contains("NaN ± NaN"), "{told}");
    }
    let page = fs::read_to_string(place.path("out/report.html")).expect("a page");
    assert!(page.contains("plain, seed 0: accuracy is NaN"));
}

#[test]
fn a_damaged_outcome_is_an_error_that_names_the_file() {
    let place = Workplace::new();
    let file = experiment(&place, "");
    place.run_json(&["run", &file]);
    fs::write(place.path("out/mixed/seed-1/outcome.json"), "{\"output\"").expect("a file");
    for arguments in [&["run", &file][..], &["report", "out"]] {
        let outcome = place.run(arguments);
        assert_eq!(outcome.status, 2, "{outcome:?}");
        let words = "`out/mixed/seed-1/outcome.json` is damaged";
        assert!(outcome.stderr.contains(words), "{outcome:?}");
    }
}

#[test]
fn nan_outputs_are_reported_by_evaluate_and_by_an_arm_alike() {
    let place = Workplace::new();
    let own = quickstart("tasks/ferry_port");
    let stage = format!("[[train]]\nname = \"own\"\ndata.path = \"{own}\"");
    let file = experiment(&place, &stage);
    place.run_json(&["run", &file]);
    // Finite factors whose product is not: 10³⁰ · 10³⁰.
    let source = AdapterFile::open(&place.path("out/train/own/adapter")).expect("an adapter");
    let mut adapter = source.load().expect("an adapter");
    for module in adapter.modules.values_mut() {
        module.b = Matrix::from_fn(module.d_out(), module.rank(), |_, _| 1e30);
        module.a = Matrix::from_fn(module.rank(), module.d_in(), |_, _| 1e30);
    }
    let huge = place.path("huge");
    adapter
        .save(&huge, &SaveOptions::default())
        .expect("an adapter that can be saved");
    let base = quickstart("base");
    let words = "the model's outputs are NaN";
    let told = place.run_refused(&[
        "evaluate",
        "--quiet",
        "--base",
        &base,
        "--adapter",
        "huge",
        "--data",
        &own,
    ]);
    assert!(told.contains(words), "{told}");
    let arm_of_it = format!("{stage}\n[[arm]]\nname = \"huge\"\nevaluate = \"huge\"");
    experiment(&place, &arm_of_it);
    for jobs in ["1", "2"] {
        let outcome = place.run(&["run", &file, "--jobs", jobs, "--json"]);
        assert_eq!(outcome.status, 1, "{outcome:?}");
        let report: Value = serde_json::from_str(&outcome.stdout).expect("a report");
        let problem = arm(&report, "huge")["failures"][0]["problem"].to_string();
        assert!(problem.contains(words), "{problem}");
    }
}

#[test]
fn missing_inputs_are_reported_before_anything_runs() {
    let place = Workplace::new();
    let more = "[[extract]]\nname = \"s\"\nadapters = [\"an/adapter/gone\", \"org/on-the-hub\"]\n\
        [[arm]]\nname = \"far\"\ndata.path = \"nowhere/at/all\"";
    let file = experiment(&place, more);
    let outcome = place.run(&["run", &file]);
    assert_eq!(outcome.status, 2, "{outcome:?}");
    for (key, name) in [
        ("extract[0].adapters[0]", "an/adapter/gone"),
        ("data.path", "nowhere/at/all"),
    ] {
        let told = outcome.stderr.lines().find(|line| line.contains(name));
        assert!(
            told.is_some_and(|line| line.starts_with("x.toml:")),
            "{key}: {outcome:?}"
        );
    }
    assert!(!outcome.stderr.contains("on-the-hub"), "{outcome:?}");
    assert!(!place.path("out").exists());
    assert_eq!(place.run(&["run", &file, "--dry-run"]).status, 0);
}

/// The lines of an error after the first, without the file's name.
fn mistakes(stderr: &str) -> Vec<&str> {
    stderr
        .lines()
        .filter_map(|line| line.strip_prefix("bad.toml:"))
        .collect()
}

#[test]
fn five_mistakes_are_reported_at_once_with_line_and_the_nearest_right_key() {
    let place = Workplace::new();
    let text = "output = \"out\"\nseeds = [0, 1]\n\n[base]\nmodle = \"m\"\n\n[data]\n\
        path = \"d\"\nmax_length = \"64\"\n\n[adapter]\nmethod = \"eigenlora\"\nrank = 8\n\n\
        [training]\nepochs = 8\nbatch_size = 0\nlearning_rate = 4e-3\nwarmup_ratoi = 0.06\n";
    fs::write(place.path("bad.toml"), text).expect("a file");
    let outcome = place.run(&["run", "bad.toml"]);
    assert_eq!(outcome.status, 2);
    assert_eq!(
        mistakes(&outcome.stderr),
        [
            "5: `base.modle` is unknown; did you mean `model`?",
            "9: `data.max_length` must be a whole number, found \"64\"",
            "12: `adapter.method` cannot be \"eigenlora\"; did you mean `eigenlorax`?",
            "17: `training.batch_size` must be at least 1, found 0",
            "19: `training.warmup_ratoi` is unknown; did you mean `warmup_ratio`?",
        ]
    );
    assert!(
        outcome
            .stderr
            .starts_with("error: 5 mistakes in `bad.toml`\n"),
        "{outcome:?}"
    );
    let one = text.replace("seeds = [0, 1]", "seed = 0");
    fs::write(place.path("bad.toml"), one).expect("a file");
    let outcome = place.run(&["train", "bad.toml", "--set", "training.epocs=3"]);
    assert_eq!(mistakes(&outcome.stderr).len(), 6, "{outcome:?}");
    let last = outcome.stderr.lines().last();
    assert_eq!(
        last,
        Some(
            "bad.toml: --set training.epocs=3: `training.epocs` is unknown; did you mean `epochs`?"
        )
    );
}

#[test]
fn a_stage_that_goes_on_from_another_waits_for_it_and_arms_go_on_from_both() {
    let place = Workplace::new();
    let data = quickstart("tasks/gym");
    let stages = format!(
        "[[train]]\nname = \"first\"\ndata.path = \"{data}\"\n\
         [[train]]\nname = \"second\"\nadapter.init = \"train:first\"\n\
         [[arm]]\nname = \"third\"\nadapter.init = \"train:second\"\n"
    );
    let file = experiment(&place, &stages);
    let outcome = place.run(&["run", &file, "--jobs", "2"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    for (run, source) in [
        ("train/second", "train/first"),
        ("third/seed-1", "train/second"),
    ] {
        let made = read_json(&place.path(&format!("out/{run}/adapter/eigenmix.json")));
        let expected = format!("out/{source}/adapter");
        assert_eq!(made["sources"][0]["location"], expected, "{run}");
    }
}
