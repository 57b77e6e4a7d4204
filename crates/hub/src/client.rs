//! Requests to the Hub: the token is sent to it and to no other server, and temporary failures are
//! retried.

use std::io::Read;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::{HeaderMap, Response, StatusCode, Uri};
use ureq::typestate::WithBody;
use ureq::{Agent, Body, RequestBuilder, SendBody};

use crate::backoff::Backoff;
use crate::error::RequestError;

const USER_AGENT: &str = concat!("eigenmix/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may be silent.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
const MOST_REDIRECTS: usize = 10;
/// The longest description of the files of a repository that is read.
const JSON_LIMIT: u64 = 256 << 20;
/// How much of a server's message an error repeats.
const DETAIL_LIMIT: usize = 300;

/// A connection to one Hub.
///
/// It has no `Debug`, since it may hold a token.
pub(crate) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
    pause: Duration,
}

/// Which redirects are followed.
#[derive(Clone, Copy, PartialEq)]
enum Redirects {
    /// Those within the Hub; any other is returned as the answer.
    Within,
    /// All, without the token.
    Anywhere,
}

impl Client {
    /// - pause: the first of the growing pauses between attempts
    pub(crate) fn new(endpoint: &str, token: Option<String>, pause: Duration) -> Self {
        let agent = Agent::config_builder()
            .user_agent(USER_AGENT)
            // Bytes are counted, resumed and verified as they are stored.
            .accept_encoding("identity")
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(SILENCE_LIMIT))
            .timeout_per_read(Some(SILENCE_LIMIT))
            .timeout_per_write(Some(SILENCE_LIMIT))
            .build()
            .new_agent();
        Self {
            agent,
            endpoint: endpoint.to_owned(),
            token,
            pause,
        }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.pause)
    }

    /// The headers of a file: of the Hub's own answer, which may be a redirect to a storage server.
    ///
    /// - path: what follows the endpoint
    pub(crate) fn head(&self, path: &str) -> Result<HeaderMap, RequestError> {
        let url = self.url(path);
        let answer = self.retrying(|| {
            self.following(&url, Redirects::Within, |url| {
                self.signed(self.agent.head(url), url).call()
            })
        })?;
        Ok(answer.into_parts().0.headers)
    }

    /// The rest of a file from `start`; one attempt, since only the caller knows what it has
    /// received so far.
    pub(crate) fn get_from(&self, path: &str, start: u64) -> Result<Response<Body>, RequestError> {
        self.following(&self.url(path), Redirects::Anywhere, |url| {
            let request = self.signed(self.agent.get(url), url);
            match start {
                0 => request.call(),
                _ => request.header("Range", format!("bytes={start}-")).call(),
            }
        })
    }

    /// The first bytes of a file, at most `limit`; the connection is closed before the others come.
    pub(crate) fn beginning(&self, path: &str, limit: u64) -> Result<Vec<u8>, RequestError> {
        self.retrying(|| {
            let mut bytes = Vec::new();
            let body = self.get_from(path, 0)?.into_body().into_reader();
            let read = body.take(limit).read_to_end(&mut bytes);
            read.map_err(RequestError::Interrupted)?;
            Ok(bytes)
        })
    }

    pub(crate) fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, RequestError> {
        let url = self.url(path);
        self.retrying(|| {
            let answer = self.following(&url, Redirects::Anywhere, |url| {
                self.signed(self.agent.get(url), url).call()
            })?;
            read_json(answer)
        })
    }

    /// Posts `body` to the Hub.
    pub(crate) fn post_json<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        content_type: &str,
        body: &B,
    ) -> Result<T, RequestError> {
        let body = serde_json::to_vec(body).map_err(RequestError::Json)?;
        read_json(self.post(&self.url(path), content_type, &body)?)
    }

    /// Posts to `url`, with the token if it is the Hub's.
    pub(crate) fn post(
        &self,
        url: &str,
        content_type: &str,
        body: &[u8],
    ) -> Result<Response<Body>, RequestError> {
        self.retrying(|| self.post_once(url, content_type, body))
    }

    /// The same for requests that must not be sent twice.
    pub(crate) fn post_once(
        &self,
        url: &str,
        content_type: &str,
        body: &[u8],
    ) -> Result<Response<Body>, RequestError> {
        self.send(self.signed(self.agent.post(url), url), content_type, body)
    }

    /// Posts to an address that carries its own permission, so that the token is not needed.
    pub(crate) fn post_unsigned(
        &self,
        url: &str,
        content_type: &str,
        body: &[u8],
    ) -> Result<Response<Body>, RequestError> {
        self.retrying(|| self.send(self.agent.post(url), content_type, body))
    }

    fn send(
        &self,
        request: RequestBuilder<WithBody>,
        content_type: &str,
        body: &[u8],
    ) -> Result<Response<Body>, RequestError> {
        let request = request
            .header("Accept", content_type_of_answer(content_type))
            .header("Content-Type", content_type);
        self.checked(request.send(body).map_err(transport)?)
    }

    /// Sends `length` bytes to a storage server and returns the headers of its answer.
    ///
    /// - headers: the headers that the server needs
    /// - open: opens the bytes from their beginning, again for every attempt
    pub(crate) fn put<R: Read>(
        &self,
        url: &str,
        headers: &[(String, String)],
        length: u64,
        open: impl Fn() -> std::io::Result<R>,
    ) -> Result<HeaderMap, RequestError> {
        self.retrying(|| {
            let mut content = open().map_err(RequestError::Interrupted)?;
            let request = headers
                .iter()
                .fold(self.agent.put(url), |request, (name, value)| {
                    request.header(name, value)
                });
            let request = request.header("Content-Length", length.to_string());
            let answer = request.send(SendBody::from_reader(&mut content));
            Ok(self
                .checked(answer.map_err(transport)?)?
                .into_parts()
                .0
                .headers)
        })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.endpoint)
    }

    /// Retries requests that fail temporarily.
    fn retrying<T>(
        &self,
        attempt: impl Fn() -> Result<T, RequestError>,
    ) -> Result<T, RequestError> {
        let mut backoff = self.backoff();
        loop {
            match attempt() {
                Err(error) if error.is_transient() && backoff.wait(error.retry_after()) => {}
                done => return done,
            }
        }
    }

    fn following(
        &self,
        url: &str,
        redirects: Redirects,
        send: impl Fn(&str) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, RequestError> {
        let mut url = url.to_owned();
        for _ in 0..=MOST_REDIRECTS {
            let answer = self.checked(send(&url).map_err(transport)?)?;
            if !answer.status().is_redirection() {
                return Ok(answer);
            }
            let next = self.redirected(&url, answer.headers())?;
            if redirects == Redirects::Within && !self.is_own(&next) {
                return Ok(answer);
            }
            url = next;
        }
        Err(RequestError::Redirect("in circles"))
    }

    /// Where a redirect leads.
    fn redirected(&self, from: &str, headers: &HeaderMap) -> Result<String, RequestError> {
        let malformed = || RequestError::Redirect("to an invalid address");
        let location = headers
            .get("Location")
            .and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(malformed)?;
        let from: Uri = from.parse().map_err(|_| malformed())?;
        let (Some(scheme), Some(authority)) = (from.scheme_str(), from.authority()) else {
            return Err(malformed());
        };
        let next = match location.starts_with('/') && !location.starts_with("//") {
            true => format!("{scheme}://{authority}{location}"),
            false => location.to_owned(),
        };
        let parsed: Uri = next.parse().map_err(|_| malformed())?;
        match (scheme, parsed.scheme_str()) {
            ("https", Some("http")) => Err(RequestError::Redirect(
                "from https to http, which is not safe",
            )),
            (_, Some("https" | "http")) => Ok(next),
            _ => Err(malformed()),
        }
    }

    /// Adds the token to a request for the Hub itself.
    fn signed<B>(&self, request: RequestBuilder<B>, url: &str) -> RequestBuilder<B> {
        match &self.token {
            Some(token) if self.is_own(url) => {
                request.header("Authorization", format!("Bearer {token}"))
            }
            _ => request,
        }
    }

    /// Whether `url` has the scheme, host and port of the endpoint.
    fn is_own(&self, url: &str) -> bool {
        let origin = |url: &str| {
            let uri: Uri = url.parse().ok()?;
            let scheme = uri.scheme_str()?.to_owned();
            let default = if scheme == "https" { 443 } else { 80 };
            let host = uri.host()?.to_ascii_lowercase();
            Some((scheme, host, uri.port_u16().unwrap_or(default)))
        };
        let own = origin(&self.endpoint);
        own.is_some() && own == origin(url)
    }

    /// Refuses an answer that is an error, with the server's message.
    fn checked(&self, answer: Response<Body>) -> Result<Response<Body>, RequestError> {
        let status = answer.status();
        if !status.is_client_error() && !status.is_server_error() {
            return Ok(answer);
        }
        let headers = answer.headers();
        let seconds = header(headers, "Retry-After").and_then(|value| value.parse().ok());
        let said = header(headers, "X-Error-Message").map(str::to_owned);
        let said = said.or_else(|| error_in(answer)).unwrap_or_default();
        Err(RequestError::Status {
            status: status.as_u16(),
            detail: self.quoted(status, &said),
            retry_after: seconds.map(Duration::from_secs),
        })
    }

    /// The message of a server on one line, without the token if the server repeated it.
    fn quoted(&self, status: StatusCode, said: &str) -> String {
        let said = match &self.token {
            Some(token) => said.replace(token.as_str(), "(token)"),
            None => said.to_owned(),
        };
        let words: Vec<&str> = said
            .split(|letter: char| letter.is_whitespace() || letter.is_control())
            .filter(|word| !word.is_empty())
            .collect();
        let words: String = words.join(" ").chars().take(DETAIL_LIMIT).collect();
        match (words.is_empty(), status.canonical_reason()) {
            (false, _) => format!(": {words}"),
            (true, Some(reason)) => format!(": {reason}"),
            (true, None) => String::new(),
        }
    }
}

/// A header's text.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The message in the body of an error answer: `{"error": "…"}` on the Hub.
fn error_in(answer: Response<Body>) -> Option<String> {
    const LONGEST: u64 = 1 << 16;
    let mut body = answer.into_body();
    let text = body.with_config().limit(LONGEST).read_to_vec().ok()?;
    let answer: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let said = answer.get("error").or_else(|| answer.get("message"))?;
    said.as_str().map(str::to_owned)
}

pub(crate) fn read_json<T: DeserializeOwned>(answer: Response<Body>) -> Result<T, RequestError> {
    let mut body = answer.into_body();
    let text = body.with_config().limit(JSON_LIMIT).read_to_vec();
    serde_json::from_slice(&text.map_err(transport)?).map_err(RequestError::Json)
}

/// Git LFS asks for its own type in both directions.
fn content_type_of_answer(content_type: &str) -> &str {
    match content_type {
        "application/vnd.git-lfs+json" => content_type,
        _ => "application/json",
    }
}

fn transport(error: ureq::Error) -> RequestError {
    RequestError::Transport(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(endpoint: &str) -> Client {
        Client::new(endpoint, Some("hf_secret".to_owned()), Duration::ZERO)
    }

    #[test]
    fn only_the_same_scheme_host_and_port_are_the_hub() {
        let client = client("https://hub.example/prefix");
        assert!(client.is_own("https://hub.example/api"));
        assert!(client.is_own("https://HUB.example:443/api"));
        for other in [
            "http://hub.example/api",
            "https://hub.example:8443/api",
            "https://hub.example.evil/api",
            "https://cdn.example/api",
            "hub.example",
        ] {
            assert!(!client.is_own(other), "{other}");
        }
    }

    #[test]
    fn a_redirect_is_resolved_and_never_leaves_https() {
        let client = client("https://hub.example");
        let to = |location: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("Location", location.parse().unwrap());
            client.redirected("https://hub.example/a/b", &headers)
        };
        assert_eq!(to("/c?d").unwrap(), "https://hub.example/c?d");
        assert_eq!(
            to("https://cdn.example/e").unwrap(),
            "https://cdn.example/e"
        );
        for refused in [
            "http://hub.example/c",
            "ftp://hub.example/c",
            "c",
            "//cdn/e",
        ] {
            assert!(to(refused).is_err(), "{refused}");
        }
        assert!(
            client
                .redirected("https://hub.example", &HeaderMap::new())
                .is_err()
        );
    }

    #[test]
    fn a_token_that_a_server_repeats_is_not_repeated_here() {
        let said = "no\n\u{7} hf_secret  here";
        let quoted = client("https://hub.example").quoted(StatusCode::FORBIDDEN, said);
        assert_eq!(quoted, ": no (token) here");
    }
}
