//! Downloads that go wrong on the way: continued, verified, tried again, or refused.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use eigenmix_hub::{FileRequest, HubError};
use tempfile::TempDir;

use crate::fake_hub::{FakeHub, Fault, Files, git_blob_id, hub, id, sha256};

const LARGE: &str = "weights.safetensors";
const SMALL: &str = "folder/notes & more.txt";

/// Two files of numbers: no byte equals that one step further.
fn content(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 251) as u8).collect()
}

struct Scene {
    server: FakeHub,
    place: TempDir,
}

impl Scene {
    fn new() -> Self {
        let files = [(LARGE, 100_000), (SMALL, 3_000)]
            .map(|(name, length)| (name.to_owned(), content(length)));
        Self {
            server: FakeHub::with_model("org/name", Files::from(files)),
            place: tempfile::tempdir().unwrap(),
        }
    }

    fn fetch(&self, name: &str) -> Result<Vec<u8>, HubError> {
        let requests = [FileRequest::required(name)];
        let directory = hub(&self.server, self.place.path()).fetch(&id("org/name"), &requests)?;
        Ok(fs::read(directory.join(name)).unwrap())
    }

    fn blobs(&self) -> PathBuf {
        self.place.path().join("cache/models--org--name/blobs")
    }

    /// What is left of a download in the cache.
    fn leave(&self, etag: &str, bytes: &[u8]) {
        fs::create_dir_all(self.blobs()).unwrap();
        fs::write(self.blobs().join(format!("{etag}.incomplete")), bytes).unwrap();
    }

    /// The ranges of all requests for contents.
    fn ranges(&self) -> Vec<Option<String>> {
        let requests = self.server.requests().into_iter();
        requests
            .filter(|request| request.method == "GET" && !request.path.starts_with("/api"))
            .filter(|request| !request.path.contains(LARGE))
            .map(|request| request.header("range").map(str::to_owned))
            .collect()
    }
}

#[test]
fn contents_are_kept_under_their_checksums() {
    let scene = Scene::new();
    let (large, small) = (content(100_000), content(3_000));
    assert_eq!(scene.fetch(LARGE).unwrap(), large);
    assert_eq!(scene.fetch(SMALL).unwrap(), small);
    for (etag, content) in [(sha256(&large), large), (git_blob_id(&small), small)] {
        assert_eq!(fs::read(scene.blobs().join(etag)).unwrap(), content);
    }
    let left = fs::read_dir(scene.blobs()).unwrap().count();
    assert_eq!(left, 2, "nothing but the two contents");
}

#[test]
fn a_download_is_continued_where_it_was_broken_off() {
    let scene = Scene::new();
    let large = content(100_000);
    scene.leave(&sha256(&large), &large[..40_000]);
    assert_eq!(scene.fetch(LARGE).unwrap(), large);
    assert_eq!(scene.ranges(), [Some("bytes=40000-".to_owned())]);
}

#[test]
fn a_connection_that_breaks_is_made_again_for_the_rest() {
    let scene = Scene::new();
    scene
        .server
        .spoil("GET /object", Fault::EndAfter(30_000), 2);
    assert_eq!(scene.fetch(LARGE).unwrap(), content(100_000));
    let expected = [None, Some("bytes=30000-"), Some("bytes=60000-")];
    assert_eq!(
        scene.ranges(),
        expected.map(|range| range.map(str::to_owned))
    );
}

#[test]
fn a_connection_that_keeps_breaking_is_an_error_and_its_bytes_are_kept() {
    let scene = Scene::new();
    scene
        .server
        .spoil("GET /object", Fault::EndAfter(10_000), 1);
    scene.server.spoil("GET /object", Fault::EndAfter(0), 9);
    let error = scene.fetch(LARGE).unwrap_err();
    assert!(matches!(error, HubError::Request { .. }), "{error}");
    let partial = format!("{}.incomplete", sha256(&content(100_000)));
    let kept = fs::read(scene.blobs().join(partial)).unwrap();
    assert_eq!(kept, content(10_000));
}

#[test]
fn bytes_that_belong_to_something_else_are_fetched_again() {
    let scene = Scene::new();
    let large = content(100_000);
    scene.leave(&sha256(&large), &[7; 40_000]);
    assert_eq!(scene.fetch(LARGE).unwrap(), large);
    assert_eq!(scene.ranges(), [Some("bytes=40000-".to_owned()), None]);
}

#[test]
fn more_bytes_than_the_file_has_are_thrown_away() {
    let scene = Scene::new();
    let large = content(100_000);
    scene.leave(&sha256(&large), &content(100_001));
    assert_eq!(scene.fetch(LARGE).unwrap(), large);
}

#[test]
fn a_server_without_ranges_sends_all_of_it_again() {
    let scene = Scene::new();
    let large = content(100_000);
    scene.leave(&sha256(&large), &large[..40_000]);
    scene.server.spoil("GET /object", Fault::IgnoreRange, 1);
    assert_eq!(scene.fetch(LARGE).unwrap(), large);
}

#[test]
fn another_part_than_the_one_asked_for_is_refused() {
    let scene = Scene::new();
    let large = content(100_000);
    scene.leave(&sha256(&large), &large[..40_000]);
    scene.server.spoil("GET /object", Fault::WrongRange, 1);
    let error = scene.fetch(LARGE).unwrap_err();
    assert!(matches!(error, HubError::Answer { .. }), "{error}");
}

#[test]
fn a_damaged_content_never_gets_a_name() {
    for name in [LARGE, SMALL] {
        let scene = Scene::new();
        let within = if name == LARGE {
            "GET /object"
        } else {
            "GET /org/name/resolve"
        };
        scene.server.spoil(within, Fault::Damage, 1);
        let error = scene.fetch(name).unwrap_err();
        assert!(matches!(&error, HubError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(fs::read_dir(scene.blobs()).unwrap().count(), 0);
        assert!(scene.fetch(name).is_ok(), "the next attempt is a fresh one");
    }
}

#[test]
fn a_server_that_is_busy_is_asked_again() {
    for status in [429, 500, 502, 503, 504] {
        let scene = Scene::new();
        scene.server.spoil("GET /api", Fault::Status(status), 2);
        scene.server.spoil("HEAD ", Fault::Status(status), 2);
        scene.server.spoil("GET /object", Fault::Status(status), 2);
        assert_eq!(scene.fetch(LARGE).unwrap(), content(100_000), "{status}");
    }
}

#[test]
fn a_server_that_stays_busy_is_an_error_after_five_attempts() {
    let scene = Scene::new();
    scene.server.spoil("HEAD ", Fault::Status(503), 99);
    let error = scene.fetch(SMALL).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("503"), "{source}");
    let heads = scene.server.request_lines();
    let heads = heads.iter().filter(|line| line.starts_with("HEAD")).count();
    assert_eq!(heads, 5);
}

#[test]
fn what_will_not_change_is_not_asked_twice() {
    for status in [400, 401, 403, 404] {
        let scene = Scene::new();
        scene.server.spoil("GET /api", Fault::Status(status), 99);
        scene.fetch(SMALL).unwrap_err();
        assert_eq!(scene.server.requests().len(), 1, "{status}");
    }
}

#[test]
fn a_server_says_how_long_to_wait() {
    let scene = Scene::new();
    scene.server.spoil("GET /api", Fault::StatusWait(429, 1), 1);
    let started = Instant::now();
    scene.fetch(SMALL).unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[test]
fn two_at_once_fetch_a_file_once() {
    let scene = Scene::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(scene.fetch(LARGE).unwrap(), content(100_000)));
        }
    });
    let lines = scene.server.request_lines();
    let fetched = lines.iter().filter(|line| line.starts_with("GET /object"));
    assert_eq!(fetched.count(), 1, "{lines:?}");
}
