//! A Hub of one repository on this machine, which answers what hf-hub asks.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The repository `org/name` at [`COMMIT`], served until the value is dropped.
pub struct FakeHub {
    pub endpoint: String,
    requests: Arc<Mutex<Vec<Request>>>,
    stopped: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
}

impl FakeHub {
    pub fn serve(files: Vec<(String, Vec<u8>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let server = std::thread::spawn({
            let (requests, stopped) = (Arc::clone(&requests), Arc::clone(&stopped));
            move || {
                for stream in listener.incoming() {
                    if stopped.load(Ordering::SeqCst) {
                        return;
                    }
                    // A client that hangs up is its own affair.
                    let _ = answer(stream.unwrap(), &files, &requests);
                }
            }
        });
        Self {
            endpoint: format!("http://{address}"),
            requests,
            stopped,
            server: Some(server),
        }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    fn stop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the server from waiting for a connection.
        let _ = TcpStream::connect(self.endpoint.trim_start_matches("http://"));
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

impl Drop for FakeHub {
    fn drop(&mut self) {
        self.stop();
    }
}

fn answer(
    mut stream: TcpStream,
    files: &[(String, Vec<u8>)],
    requests: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut request = Request {
        path: path.clone(),
        range: None,
        authorization: None,
    };
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ") {
            match name.to_lowercase().as_str() {
                "range" => request.range = Some(value.to_owned()),
                "authorization" => request.authorization = Some(value.to_owned()),
                _ => {}
            }
        }
    }
    let range = request.range.clone();
    requests.lock().unwrap().push(request);

    // A dataset of the same name has the same files.
    let path = path
        .replacen("/api/datasets/", "/api/models/", 1)
        .replacen("/datasets/", "/", 1);
    if path == "/api/models/org/name/revision/main"
        || path == format!("/api/models/org/name/revision/{COMMIT}")
    {
        let siblings: Vec<_> = files
            .iter()
            .map(|(name, _)| serde_json::json!({"rfilename": name}))
            .collect();
        let body = serde_json::json!({"sha": COMMIT, "siblings": siblings}).to_string();
        return write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
    }
    let name = path.strip_prefix(&format!("/org/name/resolve/{COMMIT}/"));
    let file = name.and_then(|name| files.iter().find(|(file, _)| file == name));
    let Some((name, content)) = file else {
        let status = if path.contains("gated") {
            "403 Forbidden"
        } else {
            "404 Not Found"
        };
        return write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    };
    let (from, to) = requested(range.as_deref(), content.len());
    write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\nETag: \"etag-{}\"\r\nX-Repo-Commit: {COMMIT}\r\nContent-Range: bytes {from}-{to}/{}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        name.replace('/', "-"),
        content.len(),
        to + 1 - from
    )?;
    stream.write_all(&content[from..=to])
}

/// The first and last position of `bytes=FROM-` or `bytes=FROM-TO`.
fn requested(range: Option<&str>, length: usize) -> (usize, usize) {
    let range = range
        .and_then(|range| range.strip_prefix("bytes="))
        .unwrap_or("0-");
    let (from, to) = range.split_once('-').unwrap();
    (from.parse().unwrap(), to.parse().unwrap_or(length - 1))
}
