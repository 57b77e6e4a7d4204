//! As much of HTTP/1.1 as the clients speak: a request, an answer, and the connection is closed.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;

use super::{Fault, Server, State, answers, lock};

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    pub server: Server,
    pub method: String,
    /// The path, its query included.
    pub path: String,
    /// By name in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// What it is answered.
#[derive(Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The lines of the body as JSON.
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        let text = std::str::from_utf8(&self.body).expect("UTF-8");
        let lines = text.lines().filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    fn read(stream: &TcpStream, server: Server) -> io::Result<Self> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split(' ').map(str::to_owned);
        let (method, path) = (words.next(), words.next());
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            match line.trim_end().split_once(": ") {
                Some((name, value)) => headers.insert(name.to_lowercase(), value.to_owned()),
                None => break,
            };
        }
        let length = headers
            .get("content-length")
            .map_or(0, |length: &String| length.parse().expect("a length"));
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        Ok(Self {
            server,
            method: method.unwrap_or_default(),
            path: path.unwrap_or_default(),
            headers,
            body,
        })
    }
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub fn json(value: &serde_json::Value) -> Self {
        Self {
            status: 200,
            headers: vec![("Content-Type", "application/json".to_owned())],
            body: value.to_string().into_bytes(),
        }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Answers the one request of a connection.
pub fn serve(mut stream: TcpStream, server: Server, state: &Mutex<State>) -> io::Result<()> {
    let request = Request::read(&stream, server)?;
    let fault = {
        let mut state = lock(state);
        state.requests.push(request.clone());
        state.take_fault(&request.line())
    };
    let answer = match fault {
        Some(Fault::Status(status)) => Answer::status(status),
        Some(Fault::StatusWait(status, seconds)) => {
            Answer::status(status).with("Retry-After", seconds.to_string())
        }
        fault => answers::answer(&request, fault, &mut lock(state)),
    };
    send(&mut stream, &request, answer, fault)
}

fn send(
    stream: &mut TcpStream,
    request: &Request,
    mut answer: Answer,
    fault: Option<Fault>,
) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Said\r\nConnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", answer.body.len()));
    stream.write_all(head.as_bytes())?;
    if request.method == "HEAD" {
        return Ok(());
    }
    match fault {
        Some(Fault::EndAfter(count)) => answer.body.truncate(count),
        Some(Fault::Damage) if !answer.body.is_empty() => answer.body[0] ^= 1,
        _ => {}
    }
    stream.write_all(&answer.body)
}

impl State {
    fn take_fault(&mut self, line: &str) -> Option<Fault> {
        let planned = self.faults.iter_mut();
        let mut matching = planned.filter(|fault| fault.times > 0 && line.contains(&fault.within));
        let planned = matching.next()?;
        planned.times -= 1;
        Some(planned.fault)
    }
}
