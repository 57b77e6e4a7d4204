//! Repositories made, contents stored, commits.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::answers::is_authorized;
use super::http::{Answer, Request};
use super::{Access, Files, State, is_large, sha256};

/// The answer to a POST.
pub fn answer(request: &Request, parts: &[&str], query: &str, state: &mut State) -> Answer {
    if parts == ["api", "validate-yaml"] {
        return validate_card(&request.json());
    }
    if !is_authorized(request) && parts.first() != Some(&"complete") {
        return Answer::status(401).with("X-Error-Message", "Invalid credentials");
    }
    match parts {
        ["api", "repos", "create"] => create(&request.json(), state),
        ["api", "models", owner, name, "preupload", ..] => {
            match state
                .repositories
                .contains_key(&format!("models/{owner}/{name}"))
            {
                true => preupload(&request.json()),
                false => Answer::status(404),
            }
        }
        ["api", "models", owner, name, "branch", branch @ ..] => {
            let repository = state
                .repositories
                .get_mut(&format!("models/{owner}/{name}"));
            let Some(repository) = repository else {
                return Answer::status(404);
            };
            let branch = branch.join("/");
            if repository.branches.contains_key(&branch) {
                return Answer::status(409);
            }
            let main = repository.branches["main"].clone();
            repository.branches.insert(branch, main);
            Answer::json(&json!({}))
        }
        ["api", "models", owner, name, "commit", branch @ ..] => commit(
            request,
            &format!("{owner}/{name}"),
            &branch.join("/"),
            query,
            state,
        ),
        [_, _, "info", "lfs", "objects", "batch"] => batch(&request.json(), state),
        ["complete", oid] => complete(oid, &request.json(), state),
        ["verify"] => verify(&request.json(), state),
        _ => Answer::status(404),
    }
}

/// The Hub refuses cards whose base model is no id.
fn validate_card(asked: &Value) -> Answer {
    let content = asked["content"].as_str().unwrap_or_default();
    let mut errors = Vec::new();
    if content.contains("base_model: \"/") {
        errors.push(json!({"message": "\"base_model\" with value \"/…\" is not valid"}));
    }
    Answer::json(&json!({"errors": errors, "warnings": []}))
}

fn create(asked: &Value, state: &mut State) -> Answer {
    let name = asked["name"].as_str().expect("a name");
    let id = match asked["organization"].as_str() {
        Some(owner) => format!("{owner}/{name}"),
        None => format!("owner/{name}"),
    };
    let key = format!("models/{id}");
    let url = format!("{}/{id}", state.hub);
    if state.repositories.contains_key(&key) {
        let mut answer =
            Answer::json(&json!({"error": "You already created this model repo", "url": url}));
        answer.status = 409;
        return answer;
    }
    if id.starts_with("strangers/") {
        return Answer::status(403).with("X-Error-Message", "You don't have the rights");
    }
    let repository = state.repositories.entry(key).or_default();
    if asked["private"] == true {
        repository.access = Access::Private;
    }
    let attributes = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n".to_vec();
    repository.commit(
        "main",
        Files::from([(".gitattributes".to_owned(), attributes)]),
    );
    Answer::json(&json!({"url": url, "name": id, "id": "0123"}))
}

fn preupload(asked: &Value) -> Answer {
    let files = asked["files"]
        .as_array()
        .expect("files")
        .iter()
        .map(|file| {
            let path = file["path"].as_str().expect("a path");
            BASE64_STANDARD
                .decode(file["sample"].as_str().expect("a sample"))
                .expect("base 64");
            let mode = if is_large(path) { "lfs" } else { "regular" };
            json!({"path": path, "uploadMode": mode, "shouldIgnore": false, "oid": null})
        });
    Answer::json(&json!({"files": files.collect::<Vec<_>>(), "commitOid": "0123"}))
}

fn batch(asked: &Value, state: &State) -> Answer {
    assert_eq!(asked["operation"], "upload");
    assert_eq!(asked["hash_algo"], "sha256");
    let objects = asked["objects"]
        .as_array()
        .expect("objects")
        .iter()
        .map(|object| {
            let oid = object["oid"].as_str().expect("an oid");
            let size = object["size"].as_u64().expect("a size") as usize;
            if state.objects.contains_key(oid) {
                return json!({"oid": oid, "size": size});
            }
            let verify = json!({"href": format!("{}/verify", state.hub)});
            let upload = match state.part_size {
                Some(part) if size > part => {
                    let mut header = json!({"chunk_size": part.to_string()});
                    for number in 1..=size.div_ceil(part) {
                        // As S3 does: an address for every part.
                        header[format!("{number:05}")] =
                            format!("{}/part/{oid}/{number}?signature=abc", state.storage).into();
                    }
                    json!({"href": format!("{}/complete/{oid}", state.hub), "header": header})
                }
                _ => json!({"href": format!("{}/object/{oid}?signature=abc", state.storage)}),
            };
            json!({"oid": oid, "size": size, "actions": {"upload": upload, "verify": verify}})
        });
    let transfer = if state.part_size.is_some() {
        "multipart"
    } else {
        "basic"
    };
    let mut answer = Answer::json(&json!({
        "transfer": transfer,
        "objects": objects.collect::<Vec<_>>(),
    }));
    answer.headers = vec![("Content-Type", "application/vnd.git-lfs+json".to_owned())];
    answer
}

/// The answer to a PUT at the storage server.
pub fn store(request: &Request, parts: &[&str], state: &mut State) -> Answer {
    if request.header("authorization").is_some() {
        // As S3: two kinds of credentials are one too many. And the token is not for it.
        return Answer::status(400);
    }
    match parts {
        ["object", oid] if *oid == sha256(&request.body) => {
            state
                .objects
                .insert((*oid).to_owned(), request.body.clone());
            Answer::status(200)
        }
        ["part", oid, number] => {
            let number: usize = number.parse().expect("a number");
            let tag = format!("\"etag-{number}\"");
            state
                .parts
                .insert(((*oid).to_owned(), number), request.body.clone());
            Answer::status(200).with("ETag", tag)
        }
        _ => Answer::status(400),
    }
}

fn complete(oid: &str, asked: &Value, state: &mut State) -> Answer {
    let mut content = Vec::new();
    for part in asked["parts"].as_array().expect("parts") {
        let number = part["partNumber"].as_u64().expect("a number") as usize;
        assert_eq!(part["etag"], format!("\"etag-{number}\""));
        content.extend(&state.parts[&(oid.to_owned(), number)]);
    }
    if sha256(&content) != oid {
        return Answer::status(400);
    }
    state.objects.insert(oid.to_owned(), content);
    Answer::json(&json!({"success": true}))
}

fn verify(asked: &Value, state: &State) -> Answer {
    let oid = asked["oid"].as_str().expect("an oid");
    match state.objects.get(oid) {
        Some(content) if asked["size"] == content.len() => Answer::json(&json!({})),
        _ => Answer::status(404),
    }
}

fn commit(request: &Request, id: &str, branch: &str, query: &str, state: &mut State) -> Answer {
    assert_eq!(request.header("content-type"), Some("application/x-ndjson"));
    let key = format!("models/{id}");
    let Some(repository) = state.repositories.get(&key) else {
        return Answer::status(404);
    };
    let Some(parent) = repository.resolve(branch) else {
        return Answer::status(404).with("X-Error-Code", "RevisionNotFound");
    };
    let mut files = repository.commits[&parent].clone();
    let lines = request.json_lines();
    assert_eq!(lines[0]["key"], "header");
    assert!(lines[0]["value"]["summary"].is_string());
    for line in &lines[1..] {
        let value = &line["value"];
        let path = value["path"].as_str().expect("a path").to_owned();
        let content = match line["key"].as_str() {
            Some("file") => {
                assert_eq!(value["encoding"], "base64");
                let content = value["content"].as_str().expect("a content");
                BASE64_STANDARD.decode(content).expect("base 64")
            }
            Some("lfsFile") => {
                assert_eq!(value["algo"], "sha256");
                match state.objects.get(value["oid"].as_str().expect("an oid")) {
                    Some(content) => content.clone(),
                    None => return Answer::status(400),
                }
            }
            other => panic!("unknown line {other:?}"),
        };
        files.insert(path, content);
    }
    let is_proposal = query.split('&').any(|part| part == "create_pr=1");
    let branch = if is_proposal { "refs/pr/1" } else { branch };
    let url = format!("{}/{id}", state.hub);
    let repository = state.repositories.entry(key).or_default();
    let oid = repository.commit(branch, files);
    Answer::json(&json!({
        "success": true,
        "commitOid": oid,
        "commitUrl": format!("{url}/commit/{oid}"),
        "pullRequestUrl": is_proposal.then(|| format!("{url}/discussions/1")),
        "hookOutput": "",
    }))
}
