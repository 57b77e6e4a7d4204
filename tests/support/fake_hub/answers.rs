//! Descriptions of repositories and their files.

use serde_json::json;

use super::http::{Answer, Request};
use super::{
    Access, Fault, Repository, Server, State, TOKEN, git_blob_id, is_large, sha256, uploads,
};

/// The answer to a request that is not refused for its own sake.
pub fn answer(request: &Request, fault: Option<Fault>, state: &mut State) -> Answer {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let decoded = percent_decoded(path);
    let parts: Vec<&str> = decoded.trim_start_matches('/').split('/').collect();
    match (request.server, request.method.as_str(), &parts[..]) {
        (Server::Storage, "GET", ["object", oid]) => match state.objects.get(*oid) {
            Some(content) => ranged(request, content, fault),
            None => Answer::status(404),
        },
        (Server::Storage, "PUT", _) => uploads::store(request, &parts, state),
        (
            Server::Hub,
            "GET",
            [
                "api",
                kind @ ("models" | "datasets"),
                owner,
                name,
                "revision",
                revision @ ..,
            ],
        ) => {
            let key = format!("{kind}/{owner}/{name}");
            match readable(state, &key, request) {
                Ok(repository) => describe(&key, repository, &revision.join("/")),
                Err(refused) => refused,
            }
        }
        (Server::Hub, "GET" | "HEAD", ["datasets", owner, name, "resolve", rest @ ..]) => resolve(
            request,
            state,
            &format!("datasets/{owner}/{name}"),
            rest,
            fault,
        ),
        (Server::Hub, "GET" | "HEAD", [owner, name, "resolve", rest @ ..]) => resolve(
            request,
            state,
            &format!("models/{owner}/{name}"),
            rest,
            fault,
        ),
        (Server::Hub, "POST", _) => uploads::answer(request, &parts, query, state),
        _ => Answer::status(404),
    }
}

fn readable<'a>(state: &'a State, key: &str, request: &Request) -> Result<&'a Repository, Answer> {
    let hidden = || {
        Answer::status(401)
            .with("X-Error-Code", "RepoNotFound")
            .with("X-Error-Message", "Repository not found")
    };
    let repository = state.repositories.get(key).ok_or_else(hidden)?;
    match repository.access {
        Access::Private if !is_authorized(request) => Err(hidden()),
        Access::Gated => Err(Answer::status(403)
            .with("X-Error-Code", "GatedRepo")
            .with("X-Error-Message", "Access to this model is restricted")),
        _ => Ok(repository),
    }
}

pub fn is_authorized(request: &Request) -> bool {
    request.header("authorization") == Some(&format!("Bearer {TOKEN}"))
}

fn describe(key: &str, repository: &Repository, revision: &str) -> Answer {
    let Some(commit) = repository.resolve(revision) else {
        return Answer::status(404)
            .with("X-Error-Code", "RevisionNotFound")
            .with("X-Error-Message", format!("Invalid rev id: {revision}"));
    };
    let names = repository.commits[&commit].keys();
    let siblings: Vec<_> = names.map(|name| json!({"rfilename": name})).collect();
    let id = key.split_once('/').map_or(key, |(_, id)| id);
    Answer::json(&json!({
        "id": id,
        "modelId": id,
        "author": id.split('/').next(),
        "sha": commit,
        "private": repository.access == Access::Private,
        "disabled": false,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "siblings": siblings,
    }))
}

/// - rest: the revision and the path of the file
fn resolve(
    request: &Request,
    state: &State,
    key: &str,
    rest: &[&str],
    fault: Option<Fault>,
) -> Answer {
    let repository = match readable(state, key, request) {
        Ok(repository) => repository,
        Err(refused) => return refused,
    };
    let [revision, path @ ..] = rest else {
        return Answer::status(404);
    };
    let name = path.join("/");
    let found = repository.resolve(revision);
    let found = found.and_then(|commit| {
        let content = repository.commits[&commit].get(&name)?;
        Some((commit, content))
    });
    let Some((commit, content)) = found else {
        return Answer::status(404).with("X-Error-Code", "EntryNotFound");
    };
    if is_large(&name) {
        let oid = sha256(content);
        return Answer::status(302)
            .with("X-Repo-Commit", commit)
            .with("X-Linked-Size", content.len().to_string())
            .with("X-Linked-ETag", format!("\"{oid}\""))
            .with(
                "Location",
                format!("{}/object/{oid}?signature=abc", state.storage),
            );
    }
    ranged(request, content, fault)
        .with("X-Repo-Commit", commit)
        .with("ETag", format!("\"{}\"", git_blob_id(content)))
}

/// All of a content, or the part `bytes=FROM-` or `bytes=FROM-TO` of it.
fn ranged(request: &Request, content: &[u8], fault: Option<Fault>) -> Answer {
    let whole = |content: &[u8]| Answer {
        status: 200,
        body: content.to_vec(),
        ..Answer::default()
    };
    let range = request
        .header("range")
        .and_then(|range| range.strip_prefix("bytes="));
    let (Some((from, to)), false) = (
        range.and_then(|range| range.split_once('-')),
        fault == Some(Fault::IgnoreRange),
    ) else {
        return whole(content);
    };
    let last = content.len() - 1;
    let mut from: usize = from.parse().expect("a position");
    let to: usize = to.parse().unwrap_or(last).min(last);
    if fault == Some(Fault::WrongRange) {
        from -= 1;
    }
    if from > last {
        return Answer::status(416);
    }
    Answer {
        status: 206,
        body: content[from..=to].to_vec(),
        ..Answer::default()
    }
    .with(
        "Content-Range",
        format!("bytes {from}-{to}/{}", content.len()),
    )
}

fn percent_decoded(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        let digits = |rest: &mut std::str::Bytes<'_>| {
            let [high, low] =
                [rest.next()?, rest.next()?].map(|digit| (digit as char).to_digit(16));
            Some((high? * 16 + low?) as u8)
        };
        bytes.push(match byte {
            b'%' => digits(&mut rest).expect("two digits"),
            byte => byte,
        });
    }
    String::from_utf8(bytes).expect("UTF-8")
}
