//! `eigenmix push` to a Hub on this machine: what arrives, what the card says, what never leaves.

#[path = "support/fake_hub/mod.rs"]
mod fake_hub;
mod support;
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use eigenmix_adapter::{AdapterFile, SaveOptions};
use fake_hub::{FakeHub, Files, Request, TOKEN};
use serde_json::Value;
use support::{Outcome, WEIGHTS, Workplace, classifier_adapter, quickstart};

fn push(place: &Workplace, hub: &FakeHub, arguments: &[&str]) -> Outcome {
    let variables = [("HF_ENDPOINT", hub.endpoint.as_str()), ("HF_TOKEN", TOKEN)];
    place.run_with(&[&["push"], arguments].concat(), &variables)
}

fn pushed(place: &Workplace, hub: &FakeHub, arguments: &[&str]) -> Value {
    let outcome = push(place, hub, &[arguments, &["--json"]].concat());
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(!outcome.stderr.contains(TOKEN), "{outcome:?}");
    serde_json::from_str(&outcome.stdout).expect("JSON")
}

/// The files of a branch without those that every new repository has.
fn arrived(hub: &FakeHub, id: &str, branch: &str) -> Files {
    let mut files = hub.files(id, branch).expect("a branch");
    files.remove(".gitattributes");
    files
}

fn text(files: &Files, name: &str) -> String {
    String::from_utf8(files[name].clone()).expect("UTF-8")
}

/// A short training with a basis; its base model is a directory.
fn train(place: &Workplace) {
    let adapters = ["bakery", "gym"].map(|name| quickstart(&format!("adapters/{name}")));
    let config = format!(
        r#"
        output = "run"
        [base]
        model = "{base}"
        [data]
        path = "{data}"
        max_length = 48
        examples_per_class = 2
        [adapter]
        method = "eigenmix"
        adapters = {adapters:?}
        components = 4
        rank = 4
        [training]
        epochs = 1
        batch_size = 8
        learning_rate = 5e-3
        "#,
        base = quickstart("base"),
        data = quickstart("tasks/ferry_port"),
    );
    fs::write(place.path("config.toml"), config).expect("a file");
    let outcome = place.run(&["train", "config.toml", "--quiet"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
}

#[test]
fn a_run_arrives_as_a_plain_adapter_with_its_figures_and_without_paths() {
    let (hub, place) = (FakeHub::start(), Workplace::new());
    train(&place);
    let base = ["--base-model", "org/base@v1", "--license", "mit"];
    let arguments = [
        &["run", "me/ferry"][..],
        &base,
        &["--private", "--coefficients"],
    ]
    .concat();
    let result = pushed(&place, &hub, &arguments);
    let files = arrived(&hub, "me/ferry", "main");
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    let expected = [
        "README.md",
        "adapter_config.json",
        WEIGHTS,
        "coefficients.safetensors",
        "eigenmix.json",
        "labels.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ];
    assert_eq!(names, expected);
    assert_eq!(hub.is_private("me/ferry"), Some(true));
    let commit = result["commit"].as_str().expect("a commit");
    assert_eq!(
        result["url"],
        format!("{}/me/ferry/commit/{commit}", hub.endpoint)
    );

    let root = env!("CARGO_MANIFEST_DIR")
        .rsplit_once("/crates")
        .expect("a root")
        .0;
    for name in [
        "README.md",
        "adapter_config.json",
        "eigenmix.json",
        "labels.json",
    ] {
        let text = text(&files, name);
        let home = place.path("");
        assert!(
            !text.contains(root) && !text.contains(home.to_str().expect("UTF-8")),
            "{text}"
        );
        assert!(!text.contains(TOKEN), "{text}");
    }
    let config: Value = serde_json::from_str(&text(&files, "adapter_config.json")).expect("JSON");
    assert_eq!(config["base_model_name_or_path"], "org/base");
    assert_eq!(config["revision"], "v1");
    let provenance: Value = serde_json::from_str(&text(&files, "eigenmix.json")).expect("JSON");
    assert_eq!(
        provenance["options"]["adapters"],
        serde_json::json!(["bakery", "gym"])
    );

    let card = text(&files, "README.md");
    let run = place.run_json(&["inspect", "run"]);
    let accuracy = &run["evaluations"]["test"]["last"]["accuracy"];
    for part in [
        "base_model: \"org/base\"",
        "license: \"mit\"",
        "pipeline_tag: \"text-classification\"",
        "- eigenmix\n- lora\n",
        "name: \"ferry_port\"",
        "| ferry_port | test | accuracy |",
        "AutoPeftModelForSequenceClassification.from_pretrained(\"me/ferry\", num_labels=",
        &format!("    - type: \"accuracy\"\n      name: \"accuracy\"\n      value: {accuracy}\n"),
    ] {
        assert!(card.contains(part), "{part}\n{card}");
    }

    // What arrived is what was trained.
    let directory = place.path("arrived");
    fs::create_dir(&directory).expect("a directory");
    for (name, content) in &files {
        fs::write(directory.join(name), content).expect("a file");
    }
    let there = AdapterFile::open(&directory)
        .expect("an adapter")
        .load()
        .expect("factors");
    let here = AdapterFile::open(&place.path("run/adapter")).expect("an adapter");
    let here = here.load().expect("factors");
    assert_eq!((there.modules, there.heads), (here.modules, here.heads));
}

#[test]
fn a_base_model_that_is_a_directory_is_asked_about_before_anything_is_sent() {
    let (hub, place) = (FakeHub::start(), Workplace::new());
    let mut adapter = classifier_adapter(1, 3);
    let base = place.path("base");
    fs::create_dir(&base).expect("a directory");
    let name = base.to_str().expect("UTF-8").into();
    adapter.config = adapter
        .config
        .with("base_model_name_or_path", name)
        .expect("a name");
    adapter
        .save(&place.path("a"), &SaveOptions::default())
        .expect("an adapter");
    let outcome = push(&place, &hub, &["a", "me/a"]);
    assert_eq!(outcome.status, 2, "{outcome:?}");
    assert!(outcome.stderr.contains("--base-model"), "{outcome:?}");
    let outcome = push(&place, &hub, &["a", "me/a", "--base-model", "not an id"]);
    assert_eq!(outcome.status, 2, "{outcome:?}");
    assert!(hub.requests().is_empty());
}

#[test]
fn a_dry_run_shows_files_and_card_and_sends_nothing() {
    let (hub, place) = (FakeHub::start(), Workplace::new());
    place.save("a", &classifier_adapter(1, 3));
    let variables = [("HF_ENDPOINT", hub.endpoint.as_str())];
    let outcome = place.run_with(&["push", "a", "me/a", "--dry-run"], &variables);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    for part in [
        "nothing was sent",
        WEIGHTS,
        "labels.json",
        "base_model: \"org/base\"",
    ] {
        assert!(outcome.stdout.contains(part), "{outcome:?}");
    }
    let refused = place.run_with(&["push", "a", "me/a"], &variables);
    assert_eq!(refused.status, 2, "{refused:?}");
    assert!(refused.stderr.contains("HF_TOKEN"), "{refused:?}");
    assert!(hub.requests().is_empty());
}

#[test]
fn a_branch_a_pull_request_and_a_message_are_as_asked() {
    let (hub, place) = (FakeHub::start(), Workplace::new());
    place.save("a", &classifier_adapter(1, 3));
    pushed(&place, &hub, &["a", "me/a", "--message", "First"]);
    let main = arrived(&hub, "me/a", "main");
    place.save("b", &classifier_adapter(2, 3));
    pushed(&place, &hub, &["b", "me/a", "--revision", "v2"]);
    let proposed = pushed(&place, &hub, &["b", "me/a", "--create-pr"]);
    let discussion = format!("{}/me/a/discussions/1", hub.endpoint);
    assert_eq!(proposed["pull_request"], discussion);
    assert_eq!(arrived(&hub, "me/a", "main"), main);
    for branch in ["v2", "refs/pr/1"] {
        assert_ne!(
            arrived(&hub, "me/a", branch)[WEIGHTS],
            main[WEIGHTS],
            "{branch}"
        );
    }
    let summaries = commits(&hub)
        .into_iter()
        .map(|lines| lines[0]["value"]["summary"].clone());
    let summaries: Vec<Value> = summaries.collect();
    let usual = "Upload adapter with Eigenmix";
    assert_eq!(summaries, ["First", usual, usual]);
    for (arguments, word) in [
        (["a", "me/a@v1"], "--revision"),
        (["a", "a"], "owner"),
        (["nowhere/at/all", "me/a"], "nowhere"),
    ] {
        let outcome = push(&place, &hub, &arguments);
        assert_eq!(outcome.status, 2, "{outcome:?}");
        assert!(outcome.stderr.contains(word), "{outcome:?}");
    }
}

/// The lines of every commit.
fn commits(hub: &FakeHub) -> Vec<Vec<Value>> {
    let requests = hub.requests().into_iter();
    requests
        .filter(|request| request.path.contains("/commit/"))
        .map(|request| request.json_lines())
        .collect()
}

/// With `EIGENMIX_PYTHON` naming a Python that has huggingface_hub: its library and `push` send the
/// same requests for the same files.
#[test]
fn the_requests_are_those_of_pythons_library() {
    let Ok(python) = std::env::var("EIGENMIX_PYTHON") else {
        println!("skipped: EIGENMIX_PYTHON names no Python with huggingface_hub");
        return;
    };
    for part_size in [None, Some(700)] {
        let place = Workplace::new();
        place.save("a", &classifier_adapter(1, 3));
        let start = || {
            let hub = FakeHub::start();
            if let Some(size) = part_size {
                hub.upload_in_parts(size);
            }
            hub
        };
        let ours = start();
        pushed(&place, &ours, &["a", "me/a", "--message", "Same"]);
        let folder = place.path("files");
        fs::create_dir(&folder).expect("a directory");
        for (name, content) in arrived(&ours, "me/a", "main") {
            fs::write(folder.join(name), content).expect("a file");
        }
        let theirs = start();
        let code = format!(
            "import huggingface_hub as hub\n\
             api = hub.HfApi()\n\
             api.create_repo('me/a', repo_type='model', private=False, exist_ok=True)\n\
             api.upload_folder(repo_id='me/a', folder_path={folder:?}, commit_message='Same')"
        );
        let output = Command::new(&python)
            .args(["-c", &code])
            .env("HF_HOME", place.path("theirs"))
            .env("HF_ENDPOINT", &theirs.endpoint)
            .env("HF_TOKEN", TOKEN)
            .env("HF_HUB_DISABLE_XET", "1")
            .output()
            .expect("Python runs");
        assert!(output.status.success(), "{output:?}");
        assert_eq!(
            arrived(&ours, "me/a", "main"),
            arrived(&theirs, "me/a", "main")
        );
        let (ours, theirs) = (sent(&ours), sent(&theirs));
        let lines = |sent: &BTreeMap<String, _>| sent.keys().cloned().collect::<Vec<_>>();
        assert_eq!(lines(&ours), lines(&theirs), "{part_size:?}");
        for (line, request) in &ours {
            assert_eq!(request, &theirs[line], "{line}");
        }
    }
}

/// With `EIGENMIX_PYTHON` naming a Python that has PEFT: the code of a published card loads base model
/// and adapter from the Hub, and both say the same label as `predict`.
#[test]
fn the_code_of_a_card_loads_the_adapter_in_peft() {
    let Ok(python) = std::env::var("EIGENMIX_PYTHON") else {
        println!("skipped: EIGENMIX_PYTHON names no Python with PEFT");
        return;
    };
    let (hub, place) = (FakeHub::start(), Workplace::new());
    let base = fs::read_dir(quickstart("base"))
        .expect("a directory")
        .map(|entry| {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("UTF-8");
            (name, fs::read(entry.path()).expect("a file"))
        });
    hub.add(
        "models",
        "org/base",
        base.collect(),
        fake_hub::Access::Public,
    );
    let gym = quickstart("adapters/gym");
    pushed(&place, &hub, &[&gym, "me/gym", "--base-model", "org/base"]);
    let files = arrived(&hub, "me/gym", "main");
    let card = text(&files, "README.md");
    let code = card
        .split("```python")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let query = "i'd like to end my membership please";
    let code = format!(
        "{}\nmodel.eval()\nprint(model(**tokenizer({query:?}, return_tensors='pt')).logits[0].argmax().item())",
        code.expect("a block of code")
    );
    let output = Command::new(&python)
        .args(["-c", &code])
        .env("HF_HOME", place.path("theirs"))
        .env("HF_ENDPOINT", &hub.endpoint)
        .env("HF_HUB_DISABLE_XET", "1")
        .output()
        .expect("Python runs");
    assert!(output.status.success(), "{code}\n{output:?}");
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    let labels: Value = serde_json::from_str(&text(&files, "labels.json")).expect("JSON");
    let theirs = &labels[printed.trim()];

    fs::write(place.path("query.txt"), query).expect("a file");
    let base = quickstart("base");
    let arguments = [
        "predict",
        "--base",
        &base,
        "--adapter",
        &gym,
        "--input",
        "query.txt",
    ];
    let ours = place.run(&arguments);
    assert_eq!(ours.status, 0, "{ours:?}");
    let theirs = theirs.as_str().expect("a label");
    assert!(ours.stdout.contains(theirs), "{theirs}: {ours:?}");
}

/// What matters of the requests that write, by method and path.
fn sent(hub: &FakeHub) -> BTreeMap<String, (Option<String>, bool, Value)> {
    let writes = hub
        .requests()
        .into_iter()
        .filter(|request| request.method != "GET");
    writes
        // Cards are validated by both, but theirs tells more of the repository.
        .filter(|request| !request.path.contains("validate-yaml"))
        .map(|request| {
            let is_signed = request.header("authorization").is_some();
            let kind = request.header("content-type").map(str::to_owned);
            let kind = kind.filter(|_| request.method == "POST");
            (request.line(), (kind, is_signed, body(&request)))
        })
        .collect()
}

/// A body without what depends on order or on the client.
fn body(request: &Request) -> Value {
    if request.method == "PUT" {
        return fake_hub::sha256(&request.body).into();
    }
    if !request.path.contains("/commit/") {
        let mut body = request.json();
        for list in ["files", "objects"] {
            if let Some(items) = body.get_mut(list).and_then(Value::as_array_mut) {
                items.sort_by_key(Value::to_string);
            }
        }
        return body;
    }
    let mut lines = request.json_lines();
    lines.sort_by_key(Value::to_string);
    lines.into()
}
