//! A commit to a repository: checked locally and by the Hub before its first byte is sent.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Hub;
use crate::HubId;
use crate::client::{Client, read_json};
use crate::content::{UploadContent, UploadFile};
use crate::error::{HubError, RequestError};
use crate::file_name::check_file_name;
use crate::hub::DEFAULT_REVISION;
use crate::repository::escaped;

/// How many bytes of each file the Hub needs to decide how to store it.
const SAMPLE: u64 = 512;
const CARD: &str = "README.md";
const JSON: &str = "application/json";

/// Files for a model repository, which is created if it does not exist.
#[derive(Clone, Debug)]
pub struct Commit<'a> {
    /// Without a revision.
    pub id: &'a HubId,
    /// Whether a new repository is private; one that exists stays as it is.
    pub private: bool,
    /// The branch, created from `main` if it does not exist. Default: `main`.
    pub branch: Option<&'a str>,
    /// The first line of the message.
    pub message: &'a str,
    /// Open a pull request instead of committing.
    pub create_pr: bool,
    pub files: &'a [UploadFile],
}

/// A commit that was made.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Committed {
    #[serde(rename = "commitOid")]
    pub commit: String,
    #[serde(rename = "commitUrl")]
    pub url: String,
    #[serde(rename = "pullRequestUrl", default)]
    pub pull_request: Option<String>,
}

/// A commit on its way.
pub(crate) struct Upload<'a> {
    pub(crate) client: &'a Client,
    pub(crate) id: &'a HubId,
    pub(crate) branch: &'a str,
}

/// A file and what identifies its content.
pub(crate) struct FileDigest<'a> {
    pub(crate) file: &'a UploadFile,
    pub(crate) size: u64,
    /// In hexadecimal.
    pub(crate) sha256: String,
}

impl FileDigest<'_> {
    pub(crate) fn name(&self) -> &str {
        &self.file.name
    }
}

#[derive(Deserialize)]
struct Preupload {
    files: Vec<PreuploadFile>,
}

#[derive(Deserialize)]
struct PreuploadFile {
    path: String,
    #[serde(rename = "uploadMode")]
    mode: UploadMode,
    #[serde(rename = "shouldIgnore", default)]
    ignored: bool,
}

/// How the Hub keeps a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum UploadMode {
    /// In the Git repository.
    Regular,
    /// In large storage.
    Lfs,
}

impl Hub {
    /// Commits files to a model repository.
    ///
    /// # Errors
    /// Without a token, if a file cannot be read or has a name that no repository can have, or the
    /// Hub refuses something. Nothing becomes visible unless all files are uploaded.
    pub fn commit(&self, commit: &Commit<'_>) -> Result<Committed, HubError> {
        if self.offline {
            return Err(HubError::UploadOffline);
        }
        if !self.client.has_token() {
            return Err(HubError::NoToken);
        }
        let upload = Upload {
            client: &self.client,
            id: commit.id,
            branch: commit.branch.unwrap_or(DEFAULT_REVISION),
        };
        let files = upload.measure(commit.files)?;
        upload.validate_card(commit.files)?;
        upload.create_repository(commit.private)?;
        if commit
            .branch
            .is_some_and(|branch| branch != DEFAULT_REVISION)
        {
            upload.create_branch()?;
        }
        let modes = upload.modes(&files, commit.create_pr)?;
        let large: Vec<&FileDigest<'_>> = files
            .iter()
            .filter(|file| modes.get(file.name()) == Some(&UploadMode::Lfs))
            .collect();
        if !large.is_empty() {
            upload.send_large(&large)?;
        }
        upload.commit(commit, &files, &modes)
    }
}

impl Upload<'_> {
    fn measure<'a>(&self, files: &'a [UploadFile]) -> Result<Vec<FileDigest<'a>>, HubError> {
        let mut names = BTreeSet::new();
        let mut measured = Vec::with_capacity(files.len());
        for file in files {
            check_file_name(self.id, &file.name)?;
            if !names.insert(&file.name) {
                let problem = format!("`{}` is listed twice", file.name);
                return Err(self.malformed_answer(problem));
            }
            measured.push(FileDigest {
                file,
                size: file.content.size().map_err(unreadable(file))?,
                sha256: file.content.sha256().map_err(unreadable(file))?,
            });
        }
        Ok(measured)
    }

    /// Lets the Hub check the metadata of the model card, since it would refuse a commit with an
    /// invalid one.
    fn validate_card(&self, files: &[UploadFile]) -> Result<(), HubError> {
        #[derive(Deserialize)]
        struct Validation {
            #[serde(default)]
            errors: Vec<Problem>,
        }
        #[derive(Deserialize)]
        struct Problem {
            message: String,
        }
        let Some(card) = files.iter().find(|file| file.name == CARD) else {
            return Ok(());
        };
        let content = card.content.read(u64::MAX).map_err(unreadable(card))?;
        let request = json!({
            "content": String::from_utf8_lossy(&content),
            "repoType": "model",
        });
        let validation: Validation = self.post("api/validate-yaml", &request)?;
        match validation.errors.first() {
            None => Ok(()),
            Some(problem) => Err(HubError::Refused {
                endpoint: self.client.endpoint().to_owned(),
                name: CARD.to_owned(),
                problem: problem.message.clone(),
            }),
        }
    }

    fn create_repository(&self, private: bool) -> Result<(), HubError> {
        let (owner, name) = match self.id.repository().split_once('/') {
            Some((owner, name)) => (Some(owner), name),
            None => (None, self.id.repository()),
        };
        let request = json!({
            "name": name,
            "organization": owner,
            "private": private,
            "type": "model",
        });
        let created = self
            .client
            .post_json::<_, Value>("api/repos/create", JSON, &request);
        match created {
            Ok(_) => Ok(()),
            // It exists already.
            Err(error) if error.status() == Some(409) => Ok(()),
            // A user who cannot create repositories in an organization may still write to existing
            // ones.
            Err(error) if error.status() == Some(403) && self.exists() => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn exists(&self) -> bool {
        let path = format!(
            "api/models/{}/revision/{DEFAULT_REVISION}",
            self.id.repository()
        );
        self.client.get_json::<Value>(&path).is_ok()
    }

    fn create_branch(&self) -> Result<(), HubError> {
        let path = format!(
            "api/models/{}/branch/{}",
            self.id.repository(),
            escaped(self.branch)
        );
        match self.client.post(&self.client.url(&path), JSON, b"{}") {
            Err(error) if error.status() != Some(409) => Err(self.failed(error)),
            _ => Ok(()),
        }
    }

    fn modes<'a>(
        &self,
        files: &'a [FileDigest<'_>],
        create_pr: bool,
    ) -> Result<BTreeMap<&'a str, UploadMode>, HubError> {
        let described: Result<Vec<Value>, HubError> = files
            .iter()
            .map(|file| {
                let sample = file.file.content.read(SAMPLE);
                let sample = sample.map_err(unreadable(file.file))?;
                Ok(json!({
                    "path": file.name(),
                    "sample": BASE64_STANDARD.encode(sample),
                    "size": file.size,
                }))
            })
            .collect();
        let request = json!({"files": described?});
        let answer: Preupload = self.post(&self.address("preupload", create_pr), &request)?;
        files
            .iter()
            .map(|file| {
                let mut answers = answer.files.iter();
                let Some(found) = answers.find(|answer| answer.path == file.name()) else {
                    return Err(self.malformed_answer(format!("`{}` is missing", file.name())));
                };
                if found.ignored {
                    return Err(HubError::Refused {
                        endpoint: self.client.endpoint().to_owned(),
                        name: file.name().to_owned(),
                        problem: "the repository's .gitignore leaves it out".to_owned(),
                    });
                }
                // Large storage does not accept empty files.
                let mode = match file.size {
                    0 => UploadMode::Regular,
                    _ => found.mode,
                };
                Ok((file.name(), mode))
            })
            .collect()
    }

    fn commit(
        &self,
        commit: &Commit<'_>,
        files: &[FileDigest<'_>],
        modes: &BTreeMap<&str, UploadMode>,
    ) -> Result<Committed, HubError> {
        let header = json!({
            "key": "header",
            "value": {"summary": commit.message, "description": ""},
        });
        let mut lines = format!("{header}\n");
        for file in files {
            let line = match modes.get(file.name()) {
                Some(UploadMode::Lfs) => json!({
                    "key": "lfsFile",
                    "value": {
                        "path": file.name(),
                        "algo": "sha256",
                        "oid": file.sha256,
                        "size": file.size,
                    },
                }),
                _ => {
                    let content = file.file.content.read(u64::MAX);
                    let content = content.map_err(unreadable(file.file))?;
                    json!({
                        "key": "file",
                        "value": {
                            "content": BASE64_STANDARD.encode(content),
                            "path": file.name(),
                            "encoding": "base64",
                        },
                    })
                }
            };
            lines.push_str(&format!("{line}\n"));
        }
        let url = self.client.url(&self.address("commit", commit.create_pr));
        self.client
            .post_once(&url, "application/x-ndjson", lines.as_bytes())
            .and_then(read_json)
            .map_err(|error| self.failed(error))
    }

    fn address(&self, action: &str, create_pr: bool) -> String {
        format!(
            "api/models/{}/{action}/{}{}",
            self.id.repository(),
            escaped(self.branch),
            if create_pr { "?create_pr=1" } else { "" }
        )
    }

    fn post<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        request: &Value,
    ) -> Result<T, HubError> {
        let answer: Result<T, RequestError> = self.client.post_json(path, JSON, request);
        answer.map_err(|error| self.failed(error))
    }
}

fn unreadable(file: &UploadFile) -> impl FnOnce(std::io::Error) -> HubError {
    let path = match &file.content {
        UploadContent::Path(path) => path.clone(),
        UploadContent::Bytes(_) => file.name.clone().into(),
    };
    move |source| HubError::Io {
        action: "read",
        path,
        source,
    }
}
