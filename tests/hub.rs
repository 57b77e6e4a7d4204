//! Adapters, base models and datasets from a Hub on this machine, through the binary.

#[path = "support/fake_hub/mod.rs"]
mod fake_hub;
mod support;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use eigenmix_tensors::{TensorFile, TensorOutput, write_tensor_file};
use fake_hub::{Access, FakeHub, Fault, Files, Server, TOKEN, files_in};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};
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
fn a_base_model_in_shards_is_fetched_without_its_duplicates() {
    let place = Workplace::new();
    let mut files = files_in(quickstart("base"));
    files.remove("model.safetensors");
    let index = shards(&place.path("shards"), &quickstart("base"));
    files.extend(files_in(place.path("shards")));
    files.insert(
        "model.safetensors.index.json".to_owned(),
        index.to_string().into_bytes(),
    );
    files.insert("consolidated.safetensors".to_owned(), vec![1; 5_000]);
    files.insert("pytorch_model.bin".to_owned(), vec![2; 5_000]);
    let hub = FakeHub::with_model("org/sharded", files);

    let data = quickstart("tasks/gym");
    let gym = quickstart("adapters/gym");
    let common = ["--adapter", &gym, "--data", &data];
    let evaluate = ["evaluate", "--base", "org/sharded"];
    let there = run_json(&place, &hub, &[&evaluate[..], &common].concat());
    let base = quickstart("base");
    let here = place.run_json(&[&["evaluate", "--base", &base][..], &common].concat());
    assert_eq!(there["metrics"], here["metrics"]);
    assert!(there["metrics"]["accuracy"].as_f64().expect("a number") > 0.5);
    let lines = hub.request_lines();
    for unwanted in ["consolidated", "pytorch_model"] {
        assert!(
            !lines.iter().any(|line| line.contains(unwanted)),
            "{lines:?}"
        );
    }
}

/// Writes the tensors of a model to two files in `target` and returns their index.
fn shards(target: &Path, model: &str) -> Value {
    fs::create_dir_all(target).expect("a directory");
    let file = TensorFile::open(&Path::new(model).join("model.safetensors")).expect("a file");
    let mut map = BTreeMap::new();
    let mut outputs = [Vec::new(), Vec::new()];
    for (place, name) in file.names().enumerate() {
        let shard = place % 2;
        let shape = file.shape(name).expect("a shape").to_vec();
        let values = file.read_f32(name).expect("numbers");
        map.insert(name.to_owned(), shard_name(shard));
        outputs[shard].push((name.to_owned(), shape, values));
    }
    for (shard, tensors) in outputs.iter().enumerate() {
        let tensors =
            tensors
                .iter()
                .map(|(name, shape, values): &(String, Vec<usize>, Vec<f32>)| {
                    TensorOutput::f32(name.clone(), shape.clone(), values)
                });
        write_tensor_file(&target.join(shard_name(shard)), tensors.collect()).expect("a file");
    }
    json!({"metadata": {"total_size": 1}, "weight_map": map})
}

fn shard_name(shard: usize) -> String {
    format!("model-0000{}-of-00002.safetensors", shard + 1)
}

#[test]
fn an_index_that_names_a_file_elsewhere_is_refused() {
    let mut files = files_in(quickstart("base"));
    files.remove("model.safetensors");
    let index = json!({"weight_map": {"a": "../../../../escaped.safetensors"}});
    files.insert(
        "model.safetensors.index.json".to_owned(),
        index.to_string().into_bytes(),
    );
    files.insert("../../../../escaped.safetensors".to_owned(), vec![1; 100]);
    let hub = FakeHub::with_model("org/evil", files);
    let place = Workplace::new();
    let data = quickstart("tasks/gym");
    let outcome = run(
        &place,
        &hub,
        &["evaluate", "--base", "org/evil", "--data", &data],
    );
    assert_eq!(outcome.status, 2, "{outcome:?}");
    assert!(
        outcome.stderr.contains("not a plain file name"),
        "{outcome:?}"
    );
    let escaped = place
        .entries()
        .into_iter()
        .any(|path| path.ends_with("escaped.safetensors"));
    assert!(!escaped);
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

/// Rows of two texts as parquet.
fn parquet(rows: &[[&str; 2]]) -> Vec<u8> {
    const SCHEMA: &str = "message schema {
        required binary text (STRING);
        required binary label (STRING);
    }";
    let schema = Arc::new(parse_message_type(SCHEMA).expect("a schema"));
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).expect("a file");
    let mut group = writer.next_row_group().expect("a group");
    for column in 0..2 {
        let values: Vec<ByteArray> = rows.iter().map(|row| row[column].into()).collect();
        let mut writer = group.next_column().expect("a column").expect("a column");
        let typed = writer.typed::<ByteArrayType>();
        typed.write_batch(&values, None, None).expect("values");
        writer.close().expect("a column");
    }
    group.close().expect("a group");
    writer.into_inner().expect("a file")
}

#[test]
fn a_dataset_in_parquet_shards_gives_what_its_rows_give_as_lines() {
    let lines = fs::read_to_string(quickstart("tasks/gym/test.jsonl")).expect("rows");
    let rows: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let text = |row: &Value, key: &str| row[key].as_str().expect("a text").to_owned();
    let rows: Vec<[String; 2]> = rows
        .iter()
        .map(|row| [text(row, "text"), text(row, "label")])
        .collect();
    let rows: Vec<[&str; 2]> = rows
        .iter()
        .map(|[text, label]| [text.as_str(), label])
        .collect();
    let (first, second) = rows.split_at(rows.len() / 3);
    let card = b"---\nconfigs:\n- config_name: plain\n  data_files:\n  - split: test\n    path: plain/held-*\n---\n";
    let files = [
        ("README.md", card.to_vec()),
        ("plain/held-00000-of-00002.parquet", parquet(first)),
        ("plain/held-00001-of-00002.parquet", parquet(second)),
        ("other/test-00000-of-00001.parquet", parquet(second)),
    ];
    let hub = FakeHub::start();
    let files = files.map(|(name, content)| (name.to_owned(), content));
    hub.add("datasets", "org/shards", files.into(), Access::Public);
    let place = Workplace::new();
    let (base, gym, data) = (
        quickstart("base"),
        quickstart("adapters/gym"),
        quickstart("tasks/gym"),
    );
    let common = ["evaluate", "--base", &base, "--adapter", &gym, "--data"];
    let there = run_json(&place, &hub, &[&common[..], &["org/shards"]].concat());
    let here = place.run_json(&[&common[..], &[&data]].concat());
    assert_eq!(there["metrics"], here["metrics"]);
    assert_eq!(there["examples"], rows.len());
    let lines = hub.request_lines();
    assert!(
        !lines.iter().any(|line| line.contains("other/")),
        "{lines:?}"
    );
}

#[test]
fn a_dataset_says_what_it_has_where_it_is_not_what_was_asked_for() {
    let hub = FakeHub::start();
    let row = b"{\"text\": \"a\", \"label\": \"x\"}\n".to_vec();
    let names = [
        "en/train.jsonl",
        "en/test.jsonl",
        "de/train.jsonl",
        "de/test.jsonl",
    ];
    let files = names.map(|name| (name.to_owned(), row.clone()));
    hub.add("datasets", "org/two", files.into(), Access::Public);
    let place = Workplace::new();
    let (base, gym) = (quickstart("base"), quickstart("adapters/gym"));
    let evaluate = |data: &str, extra: &[&str]| {
        let arguments = [
            "evaluate",
            "--base",
            &base,
            "--adapter",
            &gym,
            "--data",
            data,
        ];
        let outcome = run(&place, &hub, &[&arguments[..], extra].concat());
        assert_eq!(outcome.status, 2, "{outcome:?}");
        outcome.stderr
    };
    let several = evaluate("org/two", &[]);
    assert!(
        several.contains("`de`, `en`") && several.contains("data.config"),
        "{several}"
    );
    // The one configuration is read: its label is none of the adapter's.
    let chosen = evaluate("org/two", &["--set", "config=en"]);
    assert!(chosen.contains("unknown label `x`"), "{chosen}");
    let pattern = evaluate("org/two", &["--set", "files.test=nowhere/*.csv"]);
    assert!(
        pattern.contains("nowhere/*.csv") && pattern.contains("en/test.jsonl"),
        "{pattern}"
    );
    let missing = evaluate("org/three", &[]);
    assert!(
        missing.contains("org/three") && missing.contains("spelling"),
        "{missing}"
    );
    let misspelt = evaluate("no-such-directory", &[]);
    assert!(misspelt.contains("not a directory"), "{misspelt}");
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

#[test]
fn a_gguf_file_on_the_hub_is_a_base_model_and_nothing_else_is_fetched() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/gguf");
    let content = fs::read(golden.join("llama-Q4_1.gguf")).expect("a file");
    let files = Files::from([
        ("README.md".to_owned(), b"# Files\n".to_vec()),
        ("Q4/a.gguf".to_owned(), content),
        ("b-Q8.gguf".to_owned(), vec![1; 5_000]),
        ("c-00001-of-00002.gguf".to_owned(), vec![2; 5_000]),
        ("c-00002-of-00002.gguf".to_owned(), vec![3; 5_000]),
    ]);
    let hub = FakeHub::with_model("org/files", files);
    let place = Workplace::new();
    let found = run_json(&place, &hub, &["inspect", "org/files:Q4/a.gguf@main"]);
    let here = place.run_json(&[
        "inspect",
        golden.join("llama-Q4_1.gguf").to_str().expect("UTF-8"),
    ]);
    assert_eq!(found["parts"], here["parts"]);
    assert_eq!(found["location"], "org/files:Q4/a.gguf@main");
    let fetched = |name: &str| hub.request_lines().iter().any(|line| line.contains(name));
    assert!(fetched("a.gguf"));
    for other in ["README.md", "b-Q8", "c-0000"] {
        assert!(!fetched(other), "{other}: {:?}", hub.request_lines());
    }

    // All parts of a split file; these are no GGUF files.
    let parts = run(
        &place,
        &hub,
        &["inspect", "org/files:c-00002-of-00002.gguf"],
    );
    assert_eq!(parts.status, 2, "{parts:?}");
    assert!(fetched("c-00001-of-00002.gguf") && fetched("c-00002-of-00002.gguf"));

    let data = quickstart("tasks/gym");
    for arguments in [
        &["inspect", "org/files"][..],
        &["evaluate", "--base", "org/files", "--data", &data],
    ] {
        let refused = run(&place, &hub, arguments);
        assert_eq!(refused.status, 2, "{refused:?}");
        assert!(
            refused
                .stderr
                .contains("Q4/a.gguf, b-Q8.gguf, c-00001-of-00002.gguf;")
                && refused.stderr.contains("org/files:Q4/a.gguf"),
            "{refused:?}"
        );
    }
    let missing = run(&place, &hub, &["inspect", "org/files:d.gguf"]);
    assert_eq!(missing.status, 2, "{missing:?}");
    assert!(missing.stderr.contains("b-Q8.gguf"), "{missing:?}");
}
