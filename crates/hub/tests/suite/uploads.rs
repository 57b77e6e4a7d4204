//! Commits to the Hub: what arrives there, what is never sent.

use std::fs;

use eigenmix_hub::{Commit, HubError, UploadContent, UploadFile};
use tempfile::{TempDir, tempdir};

use crate::fake_hub::{Access, FakeHub, Fault, Files, Server, TOKEN, hub, hub_with, id};

const WEIGHTS: &str = "adapter_model.safetensors";

/// A card, an empty file, and weights in a file.
fn files(place: &TempDir) -> Vec<UploadFile> {
    let weights: Vec<u8> = (0..5_000).map(|index| (index % 253) as u8).collect();
    fs::write(place.path().join(WEIGHTS), weights).unwrap();
    [
        (
            "README.md",
            UploadContent::Bytes(b"---\ntags: []\n---\n".to_vec()),
        ),
        ("folder/empty.safetensors", UploadContent::Bytes(Vec::new())),
        (WEIGHTS, UploadContent::Path(place.path().join(WEIGHTS))),
    ]
    .map(|(name, content)| UploadFile {
        name: name.to_owned(),
        content,
    })
    .into()
}

/// A commit of `files` to the main branch of `org/new`.
fn commit_of<'a>(id: &'a eigenmix_hub::HubId, files: &'a [UploadFile]) -> Commit<'a> {
    Commit {
        id,
        private: false,
        branch: None,
        message: "A test",
        create_pr: false,
        files,
    }
}

fn expected(place: &TempDir) -> Files {
    let mut expected = Files::new();
    for file in files(place) {
        let content = match file.content {
            UploadContent::Bytes(bytes) => bytes,
            UploadContent::Path(path) => fs::read(path).unwrap(),
        };
        expected.insert(file.name, content);
    }
    expected
}

/// The files of a branch without those that every new repository has.
fn uploaded(server: &FakeHub, branch: &str) -> Files {
    let mut files = server.files("org/new", branch).unwrap();
    files.remove(".gitattributes");
    files
}

#[test]
fn a_commit_makes_the_repository_and_brings_every_file() {
    let (server, place) = (FakeHub::start(), tempdir().unwrap());
    let hub = hub_with(&server, place.path(), Some(TOKEN));
    let (id, files) = (id("org/new"), files(&place));
    let commit = Commit {
        private: true,
        ..commit_of(&id, &files)
    };
    let made = hub.commit(&commit).unwrap();
    assert_eq!(uploaded(&server, "main"), expected(&place));
    assert_eq!(server.is_private("org/new"), Some(true));
    let url = format!("{}/org/new/commit/{}", server.endpoint, made.commit);
    assert_eq!(made.url, url);
    assert_eq!(made.pull_request, None);
    for request in server.requests() {
        let is_signed = request.header("authorization").is_some();
        assert_eq!(
            is_signed,
            request.server == Server::Hub,
            "{}",
            request.line()
        );
    }
}

#[test]
fn a_second_commit_does_not_send_contents_again() {
    let (server, place) = (FakeHub::start(), tempdir().unwrap());
    let hub = hub_with(&server, place.path(), Some(TOKEN));
    let (id, files) = (id("org/new"), files(&place));
    hub.commit(&commit_of(&id, &files)).unwrap();
    server.forget_requests();
    hub.commit(&commit_of(&id, &files)).unwrap();
    let lines = server.request_lines();
    assert!(
        !lines.iter().any(|line| line.starts_with("PUT")),
        "{lines:?}"
    );
    assert_eq!(uploaded(&server, "main"), expected(&place));
}

#[test]
fn a_large_file_goes_in_parts_if_the_hub_wants_it_so() {
    let (server, place) = (FakeHub::start(), tempdir().unwrap());
    server.upload_in_parts(1_500);
    let hub = hub_with(&server, place.path(), Some(TOKEN));
    let (id, files) = (id("org/new"), files(&place));
    server.spoil("PUT /part", Fault::Status(500), 2);
    hub.commit(&commit_of(&id, &files)).unwrap();
    assert_eq!(uploaded(&server, "main"), expected(&place));
    let requests = server.requests();
    let parts = requests.iter().filter(|request| request.method == "PUT");
    let lengths: Vec<usize> = parts.map(|part| part.body.len()).collect();
    assert_eq!(lengths, [1_500, 1_500, 1_500, 1_500, 1_500, 500]);
}

#[test]
fn a_branch_and_a_pull_request_leave_main_alone() {
    let (server, place) = (FakeHub::start(), tempdir().unwrap());
    let hub = hub_with(&server, place.path(), Some(TOKEN));
    let (id, files) = (id("org/new"), files(&place));
    let commit = commit_of(&id, &files);
    let branch = Commit {
        branch: Some("v1/rc"),
        ..commit.clone()
    };
    hub.commit(&branch).unwrap();
    assert_eq!(uploaded(&server, "v1/rc"), expected(&place));
    let proposal = Commit {
        create_pr: true,
        ..commit
    };
    let made = hub.commit(&proposal).unwrap();
    let url = format!("{}/org/new/discussions/1", server.endpoint);
    assert_eq!(made.pull_request, Some(url));
    assert_eq!(uploaded(&server, "refs/pr/1"), expected(&place));
    assert_eq!(uploaded(&server, "main"), Files::new());
}

#[test]
fn a_card_that_the_hub_refuses_stops_everything() {
    let (server, place) = (FakeHub::start(), tempdir().unwrap());
    let hub = hub_with(&server, place.path(), Some(TOKEN));
    let id = id("org/new");
    let card = b"---\nbase_model: \"/disk/of/somebody/model\"\n---\n".to_vec();
    let files = [UploadFile {
        name: "README.md".to_owned(),
        content: UploadContent::Bytes(card),
    }];
    let error = hub.commit(&commit_of(&id, &files)).unwrap_err();
    assert!(matches!(error, HubError::Refused { .. }), "{error}");
    assert_eq!(server.files("org/new", "main"), None);
    assert_eq!(server.request_lines(), ["POST /api/validate-yaml"]);
}

#[test]
fn nothing_is_sent_without_a_token_or_under_a_bad_name() {
    let (server, place) = (FakeHub::start(), tempdir().unwrap());
    let (id, mut files) = (id("org/new"), files(&place));
    let error = hub(&server, place.path()).commit(&commit_of(&id, &files));
    assert!(matches!(error, Err(HubError::NoToken)));
    let writer = hub_with(&server, place.path(), Some(TOKEN));
    let error = hub_with(&server, place.path(), Some(TOKEN)).offline(true);
    let error = error.commit(&commit_of(&id, &files));
    assert!(matches!(error, Err(HubError::UploadOffline)));
    files[0].name = "../README.md".to_owned();
    let error = writer.commit(&commit_of(&id, &files));
    assert!(matches!(error, Err(HubError::UnsafeFileName { .. })));
    files[0].name = WEIGHTS.to_owned();
    let error = writer.commit(&commit_of(&id, &files)).unwrap_err();
    assert!(error.to_string().contains("twice"), "{error}");
    assert!(server.requests().is_empty());
}

#[test]
fn a_refused_writer_gets_an_error_without_the_token() {
    let (server, place) = (FakeHub::start(), tempdir().unwrap());
    server.add("models", "strangers/open", Files::new(), Access::Public);
    let files = files(&place);
    let wrong = hub_with(&server, place.path(), Some("hf_wrong_token"));
    let error = wrong
        .commit(&commit_of(&id("org/new"), &files))
        .unwrap_err();
    assert!(error.to_string().contains("token is not valid"), "{error}");
    assert!(!format!("{error:?}").contains("hf_wrong_token"));
    let hub = hub_with(&server, place.path(), Some(TOKEN));
    let error = hub
        .commit(&commit_of(&id("strangers/theirs"), &files))
        .unwrap_err();
    assert!(error.to_string().contains("no write access"), "{error}");
    assert_eq!(server.files("strangers/theirs", "main"), None);
}
