//! Fetching from the Hub: what is asked, what lands in the cache, what is refused.

use eigenmix_adapter::{AdapterError, AdapterFile, Dialect};
use eigenmix_hub::{FileRequest, Hub, HubError, fetch_adapter};
use serde_json::json;

use crate::fake_hub::{Access, FakeHub, Files, Server, TOKEN, hub, hub_with, id};
use crate::fixture::{Fixture, QUERY};

/// An adapter and more as files.
fn adapter_files(fixture: &Fixture, extra: &[(&str, &str)]) -> Files {
    fixture.config(json!({})).tensors(&QUERY);
    let mut files: Files = ["adapter_config.json", "adapter_model.safetensors"]
        .map(|name| {
            let content = std::fs::read(fixture.path().join(name)).unwrap();
            (name.to_owned(), content)
        })
        .into();
    files.extend(
        extra
            .iter()
            .map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())),
    );
    files
}

/// A served adapter, and the directory that a test fetches it into.
fn serve(extra: &[(&str, &str)]) -> (FakeHub, Fixture) {
    let fixture = Fixture::new();
    let files = adapter_files(&fixture, extra);
    (FakeHub::with_model("org/name", files), fixture)
}

/// Access to nothing but the cache.
fn offline(fixture: &Fixture) -> Hub {
    Hub::new("http://127.0.0.1:9", &fixture.root().join("cache"), None).offline(true)
}

#[test]
fn an_adapter_is_fetched_once_and_then_found_offline() {
    let (server, fixture) = serve(&[("labels.json", r#"{"0": "yes"}"#), ("big.bin", "unwanted")]);
    let hub = hub(&server, fixture.root());
    let commit = hub.open(&id("org/name")).unwrap().commit().to_owned();
    let directory = fetch_adapter(&hub, &id("org/name")).unwrap();
    let snapshots = fixture.root().join("cache/models--org--name/snapshots");
    assert_eq!(directory, snapshots.join(&commit));

    let fetched = AdapterFile::open(&directory).unwrap();
    let original = AdapterFile::open(&fixture.path()).unwrap();
    assert_eq!(
        fetched.load().unwrap().modules,
        original.load().unwrap().modules
    );
    assert_eq!(fetched.source().sha256, original.source().sha256);
    assert_eq!(fetched.labels().unwrap().name(0), Some("yes"));
    let lines = server.request_lines();
    assert!(
        lines.iter().all(|line| !line.contains("big.bin")),
        "{lines:?}"
    );

    server.forget_requests();
    assert_eq!(fetch_adapter(&hub, &id("org/name")).unwrap(), directory);
    assert_eq!(
        server.request_lines(),
        ["GET /api/models/org/name/revision/main"]
    );

    drop(server);
    let without_connection = fetch_adapter(&hub, &id("org/name")).unwrap();
    assert_eq!(without_connection, directory);
    for name in ["org/name".to_owned(), format!("org/name@{commit}")] {
        let found = fetch_adapter(&offline(&fixture), &id(&name)).unwrap();
        assert_eq!(found, directory, "{name}");
    }
}

#[test]
fn a_commit_and_a_branch_are_pins() {
    let (server, fixture) = serve(&[("labels.json", r#"{"0": "old"}"#)]);
    let hub = hub(&server, fixture.root());
    let old = hub.open(&id("org/name")).unwrap().commit().to_owned();
    let files = adapter_files(&fixture, &[("labels.json", r#"{"0": "new"}"#)]);
    let new = server.add("models", "org/name", files, Access::Public);
    let label = |name: &str| {
        let directory = fetch_adapter(&hub, &id(name)).unwrap();
        let file = AdapterFile::open(&directory).unwrap();
        file.labels().unwrap().0.concat()
    };
    assert_eq!(label(&format!("org/name@{old}")), "old");
    assert_eq!(label("org/name"), "new");
    assert_eq!(label(&format!("org/name@{new}")), "new");
    let error = fetch_adapter(&hub, &id("org/name@v3"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("org/name@v3") && error.contains("revision"),
        "{error}"
    );
}

#[test]
fn offline_without_a_copy_says_where_it_looked() {
    let fixture = Fixture::new();
    let error = fetch_adapter(&offline(&fixture), &id("org/name")).unwrap_err();
    assert!(matches!(error, HubError::Offline { .. }));
    assert!(error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
}

#[test]
fn files_in_folders_arrive_under_their_names() {
    let (server, fixture) = serve(&[("nested/part.json", "[1, 2]")]);
    let hub = hub(&server, fixture.root());
    let requests = [
        FileRequest::required("nested/part.json"),
        FileRequest::optional("absent.json"),
    ];
    let directory = hub.fetch(&id("org/name@main"), &requests).unwrap();
    assert_eq!(
        std::fs::read_to_string(directory.join("nested/part.json")).unwrap(),
        "[1, 2]"
    );
    assert!(!directory.join("absent.json").exists());
    assert_eq!(hub.open(&id("org/name")).unwrap().files().len(), 3);
}

#[test]
fn a_dataset_is_kept_apart_from_a_model_of_the_same_name() {
    let (server, fixture) = serve(&[]);
    let files = Files::from([("train.csv".to_owned(), b"text,label".to_vec())]);
    let commit = server.add("datasets", "org/name", files, Access::Public);
    let hub = hub(&server, fixture.root()).datasets(true);
    let requests = [FileRequest::required("train.csv")];
    let directory = hub.fetch(&id("org/name"), &requests).unwrap();
    let snapshots = fixture.root().join("cache/datasets--org--name/snapshots");
    assert_eq!(directory, snapshots.join(commit));
    assert_eq!(
        std::fs::read_to_string(directory.join("train.csv")).unwrap(),
        "text,label"
    );
}

#[test]
fn a_required_file_that_is_not_there_is_named() {
    let (server, fixture) = serve(&[]);
    let hub = hub(&server, fixture.root());
    let error = hub
        .fetch(&id("org/name"), &[FileRequest::required("config.json")])
        .unwrap_err();
    assert!(
        matches!(&error, HubError::FileMissing { name, .. } if name == "config.json"),
        "{error}"
    );
}

#[test]
fn a_repository_of_pickled_weights_is_refused_as_such() {
    let fixture = Fixture::new();
    let files = ["adapter_config.json", "adapter_model.bin"];
    let files = files.map(|name| (name.to_owned(), b"x".to_vec()));
    let server = FakeHub::with_model("org/name", files.into());
    let hub = hub(&server, fixture.root());
    let error = fetch_adapter(&hub, &id("org/name")).unwrap_err();
    assert!(
        matches!(error, HubError::Adapter(AdapterError::PickledWeights(_))),
        "{error}"
    );
}

#[test]
fn names_that_leave_the_repository_are_refused_before_anything_is_asked() {
    let (server, fixture) = serve(&[]);
    let hub = hub(&server, fixture.root());
    for name in [
        "../../../etc/passwd",
        "/etc/passwd",
        "a/../../b",
        "",
        "..\\b",
        ".",
    ] {
        let error = hub
            .fetch(&id("org/name"), &[FileRequest::optional(name)])
            .unwrap_err();
        assert!(
            matches!(error, HubError::UnsafeFileName { .. }),
            "{name}: {error}"
        );
    }
    assert!(server.requests().is_empty());
}

#[test]
fn a_repository_that_lists_a_name_outside_of_it_is_refused() {
    let (server, fixture) = serve(&[("../../../escaped.txt", "x")]);
    let hub = hub(&server, fixture.root());
    let repository = hub.open(&id("org/name")).unwrap();
    let requests: Vec<FileRequest> = repository
        .files()
        .iter()
        .map(FileRequest::required)
        .collect();
    let error = repository.fetch(&requests).unwrap_err();
    assert!(matches!(error, HubError::UnsafeFileName { .. }), "{error}");
    assert!(!fixture.root().join("escaped.txt").exists());
    assert!(
        server
            .request_lines()
            .iter()
            .all(|line| !line.contains("resolve"))
    );
}

#[test]
fn an_unknown_or_gated_repository_says_what_to_check() {
    let (server, fixture) = serve(&[]);
    server.add("models", "org/gated", Files::new(), Access::Gated);
    let hub = hub(&server, fixture.root());
    let missing = fetch_adapter(&hub, &id("org/other"))
        .unwrap_err()
        .to_string();
    assert!(
        missing.contains("org/other") && missing.contains("spelling"),
        "{missing}"
    );
    let gated = fetch_adapter(&hub, &id("org/gated"))
        .unwrap_err()
        .to_string();
    assert!(gated.contains("HF_TOKEN"), "{gated}");
}

#[test]
fn a_private_repository_is_opened_by_the_token_alone() {
    let fixture = Fixture::new();
    let server = FakeHub::start();
    let files = adapter_files(&fixture, &[]);
    server.add("models", "org/private", files, Access::Private);
    for token in [None, Some("hf_wrong")] {
        let error = fetch_adapter(
            &hub_with(&server, fixture.root(), token),
            &id("org/private"),
        );
        let error = error.unwrap_err().to_string();
        assert!(error.contains("private"), "{error}");
    }
    fetch_adapter(
        &hub_with(&server, fixture.root(), Some(TOKEN)),
        &id("org/private"),
    )
    .unwrap();
}

#[test]
fn the_token_goes_to_the_hub_and_not_to_its_storage_and_is_never_printed() {
    let (server, fixture) = serve(&[]);
    server.add("models", "org/gated", Files::new(), Access::Gated);
    let hub = hub_with(&server, fixture.root(), Some(TOKEN));
    fetch_adapter(&hub, &id("org/name")).unwrap();
    let bearer = format!("Bearer {TOKEN}");
    let mut stored = 0;
    for request in server.requests() {
        let expected = match request.server {
            Server::Hub => Some(bearer.as_str()),
            Server::Storage => {
                stored += 1;
                None
            }
        };
        assert_eq!(
            request.header("authorization"),
            expected,
            "{}",
            request.line()
        );
    }
    assert_eq!(stored, 1, "the weights come from the storage");
    let error = fetch_adapter(&hub, &id("org/gated")).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(TOKEN));
}

#[test]
fn adapters_of_other_programs_are_found_by_their_only_file() {
    let fixture = Fixture::new();
    let golden = |name: &str| {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        std::fs::read(folder.join("../adapter/tests/golden/dialects").join(name)).unwrap()
    };
    let files = |names: &[(&str, &str)]| -> Files {
        let each = names.iter();
        each.map(|(name, source)| ((*name).to_owned(), golden(source)))
            .collect()
    };
    let diffusers = ("pytorch_lora_weights.safetensors", "diffusers.safetensors");
    let server = FakeHub::with_model("org/diffusers", files(&[diffusers]));
    let mlx = [
        ("adapter_config.json", "mlx/adapter_config.json"),
        ("adapters.safetensors", "mlx/adapters.safetensors"),
    ];
    server.add("models", "org/mlx", files(&mlx), Access::Public);
    let two = [
        ("a.safetensors", "kohya.safetensors"),
        ("b.safetensors", "kohya.safetensors"),
    ];
    server.add("models", "org/two", files(&two), Access::Public);
    let hub = hub(&server, fixture.root());
    for (name, dialect) in [
        ("org/diffusers", Dialect::Diffusers),
        ("org/mlx", Dialect::Mlx),
    ] {
        let path = fetch_adapter(&hub, &id(name)).unwrap();
        let file = AdapterFile::open(&path).unwrap();
        file.require_clean().unwrap();
        assert_eq!(file.style().dialect(), dialect, "{name}");
        assert_eq!(fetch_adapter(&offline(&fixture), &id(name)).unwrap(), path);
    }
    let error = fetch_adapter(&hub, &id("org/two")).unwrap_err().to_string();
    assert!(error.contains("a.safetensors, b.safetensors"), "{error}");
}
