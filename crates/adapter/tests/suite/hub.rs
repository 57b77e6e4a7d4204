//! Fetching from the Hub: what is asked, what lands in the cache, what is refused.

use adapter::{AdapterError, AdapterFile, FileWish, Hub, HubId};
use serde_json::json;

use crate::fake_hub::{COMMIT, FakeHub};
use crate::fixture::{Fixture, QUERY};

/// A served adapter, and the cache that a test fetches it into.
fn serve(extra: &[(&str, &str)]) -> (FakeHub, Fixture) {
    let fixture = Fixture::new();
    fixture.config(json!({})).tensors(&QUERY);
    let mut files: Vec<(String, Vec<u8>)> = ["adapter_config.json", "adapter_model.safetensors"]
        .map(|name| {
            (
                name.to_owned(),
                std::fs::read(fixture.path().join(name)).unwrap(),
            )
        })
        .into();
    files.extend(
        extra
            .iter()
            .map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())),
    );
    (FakeHub::serve(files), fixture)
}

fn id(text: &str) -> HubId {
    HubId::parse(text).unwrap()
}

#[test]
fn an_adapter_is_fetched_once_and_then_found_offline() {
    let (server, fixture) = serve(&[("labels.json", r#"{"0": "yes"}"#), ("big.bin", "unwanted")]);
    let cache = fixture.root().join("cache");
    let hub = Hub::new(&server.endpoint, cache.clone());
    let directory = hub.fetch_adapter(&id("org/name")).unwrap();
    assert_eq!(
        directory,
        cache.join("models--org--name/snapshots").join(COMMIT)
    );

    let fetched = AdapterFile::open(&directory).unwrap();
    let original = AdapterFile::open(&fixture.path()).unwrap();
    assert_eq!(
        fetched.load().unwrap().modules,
        original.load().unwrap().modules
    );
    assert_eq!(fetched.source().sha256, original.source().sha256);
    assert_eq!(fetched.labels().unwrap().name(0), Some("yes"));
    assert!(
        server
            .requests()
            .iter()
            .all(|request| !request.path.contains("big.bin"))
    );

    let before = server.requests().len();
    assert_eq!(hub.fetch_adapter(&id("org/name")).unwrap(), directory);
    assert_eq!(
        server.requests().len(),
        before + 1,
        "only the list of files is asked for again"
    );

    drop(server);
    assert_eq!(
        hub.fetch_adapter(&id("org/name")).unwrap(),
        directory,
        "without a connection"
    );
    let offline = Hub::new("http://127.0.0.1:9", cache).offline(true);
    assert_eq!(offline.fetch_adapter(&id("org/name")).unwrap(), directory);
    assert_eq!(
        offline
            .fetch_adapter(&id(&format!("org/name@{COMMIT}")))
            .unwrap(),
        directory
    );
}

#[test]
fn offline_without_a_copy_says_where_it_looked() {
    let fixture = Fixture::new();
    let hub = Hub::new("http://127.0.0.1:9", fixture.root().join("cache")).offline(true);
    let error = hub.fetch_adapter(&id("org/name")).unwrap_err();
    assert!(matches!(error, AdapterError::Offline { .. }));
    assert!(error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
}

#[test]
fn files_in_folders_arrive_under_their_names() {
    let (server, fixture) = serve(&[("nested/part.json", "[1, 2]")]);
    let hub = Hub::new(&server.endpoint, fixture.root().join("cache"));
    let wishes = [
        FileWish::required("nested/part.json"),
        FileWish::optional("absent.json"),
    ];
    let directory = hub.fetch(&id("org/name@main"), &wishes).unwrap();
    assert_eq!(
        std::fs::read_to_string(directory.join("nested/part.json")).unwrap(),
        "[1, 2]"
    );
    assert!(!directory.join("absent.json").exists());
    assert_eq!(hub.files(&id("org/name")).unwrap().len(), 3);
}

#[test]
fn a_dataset_is_kept_apart_from_a_model_of_the_same_name() {
    let (server, fixture) = serve(&[("train.csv", "text,label")]);
    let cache = fixture.root().join("cache");
    let hub = Hub::new(&server.endpoint, cache.clone()).datasets(true);
    let directory = hub
        .fetch(&id("org/name"), &[FileWish::required("train.csv")])
        .unwrap();
    assert_eq!(
        directory,
        cache.join("datasets--org--name/snapshots").join(COMMIT)
    );
    assert_eq!(
        std::fs::read_to_string(directory.join("train.csv")).unwrap(),
        "text,label"
    );
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.path.contains("/datasets/org/name/"))
    );
}

#[test]
fn a_required_file_that_is_not_there_is_named() {
    let (server, fixture) = serve(&[]);
    let hub = Hub::new(&server.endpoint, fixture.root().join("cache"));
    let error = hub
        .fetch(&id("org/name"), &[FileWish::required("config.json")])
        .unwrap_err();
    assert!(
        matches!(&error, AdapterError::HubFileMissing { name, .. } if name == "config.json"),
        "{error}"
    );
}

#[test]
fn a_repository_of_pickled_weights_is_refused_as_such() {
    let fixture = Fixture::new();
    let files = ["adapter_config.json", "adapter_model.bin"];
    let server = FakeHub::serve(files.map(|name| (name.to_owned(), b"x".to_vec())).into());
    let hub = Hub::new(&server.endpoint, fixture.root().join("cache"));
    let error = hub.fetch_adapter(&id("org/name")).unwrap_err();
    assert!(matches!(error, AdapterError::PickledWeights(_)), "{error}");
}

#[test]
fn names_that_leave_the_repository_are_refused_before_anything_is_asked() {
    let (server, fixture) = serve(&[]);
    let hub = Hub::new(&server.endpoint, fixture.root().join("cache"));
    for name in [
        "../../../etc/passwd",
        "/etc/passwd",
        "a/../../b",
        "",
        "..\\b",
        ".",
    ] {
        let error = hub
            .fetch(&id("org/name"), &[FileWish::optional(name)])
            .unwrap_err();
        assert!(
            matches!(error, AdapterError::UnsafeFileName { .. }),
            "{name}: {error}"
        );
    }
    assert!(server.requests().is_empty());
}

#[test]
fn an_unknown_or_gated_repository_says_what_to_check() {
    let (server, fixture) = serve(&[]);
    let hub = Hub::new(&server.endpoint, fixture.root().join("cache"));
    let missing = hub.fetch_adapter(&id("org/other")).unwrap_err().to_string();
    assert!(
        missing.contains("org/other") && missing.contains("spelling"),
        "{missing}"
    );
    let gated = hub.fetch_adapter(&id("org/gated")).unwrap_err().to_string();
    assert!(gated.contains("HF_TOKEN"), "{gated}");
}

#[test]
fn the_token_is_sent_and_never_printed() {
    let (server, fixture) = serve(&[]);
    let token = "hf_secret_of_this_test";
    let hub =
        Hub::new(&server.endpoint, fixture.root().join("cache")).with_token(Some(token.to_owned()));
    hub.fetch_adapter(&id("org/name")).unwrap();
    let expected = format!("Bearer {token}");
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.authorization.as_ref() == Some(&expected)),
        "every request carries the token"
    );
    let error = hub.fetch_adapter(&id("org/gated")).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(token));
}
