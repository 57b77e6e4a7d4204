//! Adapters, base models and datasets from a Hub on this machine, through the binary.

mod base_models;
mod datasets;
#[path = "../support/fake_hub/mod.rs"]
mod fake_hub;
mod gguf_adapters;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::process::Command;

use serde_json::Value;

use fake_hub::{Access, FakeHub, Fault, Files, Server, TOKEN, files_in};
use support::{Outcome, Workplace, quickstart, read_json};

fn run(place: &Workplace, hub: &FakeHub, arguments: &[&str]) -> Outcome {
    place.run_with(arguments, &[("HF_ENDPOINT", &hub.endpoint)])
}

fn run_json(place: &Workplace, hub: &FakeHub, arguments: &[&str]) -> Value {
    let outcome = run(place, hub, &[arguments, &["--json"]].concat());
    assert_eq!(outcome.status, 0, "{outcome:?}");
    serde_json::from_str(&outcome.stdout).expect("JSON")
}

/// A Hub with the quick start's base model, an adapter and the texts of its task.
fn quickstart_hub() -> FakeHub {
    let hub = FakeHub::with_model("org/base", files_in(quickstart("base")));
    hub.add(
        "models",
        "org/gym",
        files_in(quickstart("adapters/gym")),
        Access::Public,
    );
    let rows = |split: &str| {
        let path = quickstart(&format!("tasks/gym/{split}.jsonl"));
        fs::read(path).expect("a file")
    };
    let data = Files::from([
        ("README.md".to_owned(), b"# Words\n".to_vec()),
        ("data/train-00000-of-00001.jsonl".to_owned(), rows("train")),
        (
            "data/validation-00000-of-00001.jsonl".to_owned(),
            rows("validation"),
        ),
        ("data/test-00000-of-00001.jsonl".to_owned(), rows("test")),
        ("unwanted.bin".to_owned(), vec![0; 1000]),
    ]);
    hub.add("datasets", "org/texts", data, Access::Public);
    hub
}

#[test]
fn each_download_is_one_line_with_size_and_rate_and_quiet_has_none() {
    let hub = quickstart_hub();
    let place = Workplace::new();
    let outcome = run(&place, &hub, &["inspect", "org/gym"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    // Configuration, weights, labels, and what is known of how it was made.
    assert_eq!(lines.len(), 4, "{lines:?}");
    let weights = lines
        .iter()
        .find(|line| line.starts_with("downloaded org/gym/adapter_model.safetensors: "))
        .expect("a line");
    assert!(
        weights.contains("kB, ") && weights.ends_with("/s"),
        "{weights}"
    );
    let again = run(&place, &hub, &["inspect", "org/gym"]);
    assert_eq!((again.status, again.stderr.as_str()), (0, ""));
    assert_eq!(again.stdout, outcome.stdout);
    let quiet = run(&Workplace::new(), &hub, &["inspect", "org/gym", "--quiet"]);
    assert_eq!((quiet.status, quiet.stderr.as_str()), (0, ""));
}

#[test]
fn a_private_adapter_needs_the_token_which_nobody_ever_sees() {
    let hub = FakeHub::start();
    hub.add(
        "models",
        "org/secret",
        files_in(quickstart("adapters/gym")),
        Access::Private,
    );
    let endpoint = ("HF_ENDPOINT", hub.endpoint.as_str());
    let arguments = ["inspect", "org/secret", "--verbose"];
    let place = Workplace::new();
    let refused = place.run_with(&arguments, &[endpoint]);
    assert_eq!(refused.status, 2, "{refused:?}");
    assert!(refused.stderr.contains("HF_TOKEN"), "{refused:?}");
    // From a file, as `hf auth login` writes it.
    let path = place.path("token");
    fs::write(&path, format!("{TOKEN}\n")).expect("a file");
    let path = path.to_str().expect("UTF-8");
    let opened = place.run_with(&arguments, &[endpoint, ("HF_TOKEN_PATH", path)]);
    assert_eq!(opened.status, 0, "{opened:?}");
    let wrong = [endpoint, ("HF_TOKEN", "hf_wrong_one")];
    let wrong = Workplace::new().run_with(&arguments, &wrong);
    assert_eq!(wrong.status, 2, "{wrong:?}");
    for outcome in [&opened, &wrong] {
        let all = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(
            !all.contains(TOKEN) && !all.contains("hf_wrong_one"),
            "{all}"
        );
    }
    let stored = hub
        .requests()
        .into_iter()
        .filter(|request| request.server == Server::Storage);
    for request in stored {
        assert_eq!(request.header("authorization"), None);
    }
}

#[test]
fn a_cut_download_is_continued_by_the_next_run() {
    let hub = quickstart_hub();
    let place = Workplace::new();
    hub.spoil("GET /object", Fault::EndAfter(1_000), 1);
    hub.spoil("GET /object", Fault::Status(403), 1);
    let cut = run(&place, &hub, &["inspect", "org/gym"]);
    assert_eq!(cut.status, 2, "{cut:?}");
    hub.forget_requests();
    let continued = run(&place, &hub, &["inspect", "org/gym"]);
    assert_eq!(continued.status, 0, "{continued:?}");
    assert!(
        continued.stderr.contains("1.0 kB of them before"),
        "{continued:?}"
    );
    let requests = hub.requests();
    let mut stored = requests
        .iter()
        .filter(|request| request.server == Server::Storage);
    assert_eq!(
        stored.next().and_then(|request| request.header("range")),
        Some("bytes=1000-")
    );
}

#[test]
fn a_training_takes_base_adapters_and_data_from_the_hub() {
    let hub = quickstart_hub();
    let place = Workplace::new();
    let commit = hub.add(
        "models",
        "org/base",
        files_in(quickstart("base")),
        Access::Public,
    );
    let config = format!(
        r#"
        output = "run"
        [base]
        model = "org/base@{commit}"
        [data]
        path = "org/texts"
        max_length = 48
        examples_per_class = 4
        [adapter]
        method = "eigenmix"
        adapters = ["org/gym"]
        allow_base_mismatch = true
        rank = 4
        init = "merge"
        [training]
        epochs = 2
        batch_size = 8
        learning_rate = 5e-3
        "#
    );
    fs::write(place.path("config.toml"), config).expect("a file");
    let trained = run_json(&place, &hub, &["train", "config.toml"]);
    assert!(
        trained["test"]["accuracy"].as_f64().expect("a number") > 0.5,
        "{trained}"
    );
    let lines = hub.request_lines();
    assert!(
        !lines.iter().any(|line| line.contains("unwanted")),
        "{lines:?}"
    );

    // PEFT finds the base model by its id and, apart from it, its revision.
    let written = read_json(&place.path("run/adapter/adapter_config.json"));
    assert_eq!(written["base_model_name_or_path"], "org/base");
    assert_eq!(written["revision"], commit.as_str());

    drop(hub);
    let base = format!("org/base@{commit}");
    let arguments = [
        "evaluate",
        "--base",
        &base,
        "--adapter",
        "run",
        "--data",
        "org/texts",
    ];
    let offline = place.run_json(&arguments);
    assert_eq!(offline["metrics"]["accuracy"], trained["test"]["accuracy"]);
    let dry = place.run_json(&["train", "config.toml", "--dry-run"]);
    let labels = trained["head_parameters"].as_u64().expect("a count");
    assert!(
        labels > 0 && dry["labels"].as_u64().expect("a count") > 2,
        "{dry}"
    );
}

/// With `EIGENMIX_PYTHON` naming a Python that has huggingface_hub: it reads the cache that was filled
/// here, and the other way round.
#[test]
fn the_cache_is_shared_with_pythons_library() {
    let Ok(python) = std::env::var("EIGENMIX_PYTHON") else {
        println!("skipped: EIGENMIX_PYTHON names no Python with huggingface_hub");
        return;
    };
    let hub = quickstart_hub();
    let python = |place: &Workplace, code: &str, offline: &str| {
        let output = Command::new(&python)
            .args(["-c", code])
            .env("HF_HOME", place.path("huggingface"))
            .env("HF_ENDPOINT", &hub.endpoint)
            .env("HF_HUB_OFFLINE", offline)
            .output()
            .expect("Python runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout)
            .expect("UTF-8")
            .trim()
            .to_owned()
    };
    const SNAPSHOT: &str = "import huggingface_hub as hub; print(hub.snapshot_download('org/gym', allow_patterns=['adapter_*', 'labels.json']))";

    // Theirs first.
    let place = Workplace::new();
    let theirs = python(&place, SNAPSHOT, "0");
    let found = place.run(&["inspect", "org/gym"]);
    assert_eq!(found.status, 0, "{found:?}");
    hub.forget_requests();
    let online = run(&place, &hub, &["inspect", "org/gym"]);
    assert_eq!((online.status, online.stderr.as_str()), (0, ""));
    assert_eq!(
        hub.request_lines(),
        ["GET /api/models/org/gym/revision/main"]
    );

    // Ours first.
    let place = Workplace::new();
    let fetched = run(&place, &hub, &["inspect", "org/gym"]);
    assert_eq!(fetched.status, 0, "{fetched:?}");
    let ours = python(&place, SNAPSHOT, "1");
    let commit = |path: &str| path.rsplit('/').next().expect("a name").to_owned();
    assert_eq!(commit(&ours), commit(&theirs));
    hub.forget_requests();
    python(&place, SNAPSHOT, "0");
    let lines = hub.request_lines();
    assert!(
        !lines.iter().any(|line| line.starts_with("GET /o")),
        "{lines:?}"
    );

    // Half of ours, completed by theirs.
    let place = Workplace::new();
    hub.spoil("GET /object", Fault::EndAfter(1_000), 1);
    hub.spoil("GET /object", Fault::Status(403), 1);
    assert_eq!(run(&place, &hub, &["inspect", "org/gym"]).status, 2);
    hub.forget_requests();
    python(&place, SNAPSHOT, "0");
    let requests = hub.requests();
    let mut stored = requests
        .iter()
        .filter(|request| request.server == Server::Storage);
    assert_eq!(
        stored.next().and_then(|request| request.header("range")),
        Some("bytes=1000-")
    );
}
