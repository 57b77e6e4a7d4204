//! Large files: announced to the Hub in Git LFS's batch request, sent to the storage server that it
//! names, whole or in parts.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Read};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::client::{header, read_json};
use crate::content::UploadFile;
use crate::error::{HubError, RequestError};
use crate::observer::{self, Transfer, TransferDirection, TransferProgress};
use crate::upload::{FileDigest, Upload};

const LFS_TYPE: &str = "application/vnd.git-lfs+json";

#[derive(Deserialize)]
struct Batch {
    objects: Vec<Object>,
}

/// The actions for one content.
#[derive(Deserialize)]
struct Object {
    oid: String,
    /// `None` if the content exists already.
    actions: Option<Actions>,
    error: Option<ObjectError>,
}

#[derive(Deserialize)]
struct Actions {
    upload: Option<Action>,
    verify: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: Map<String, Value>,
}

#[derive(Deserialize)]
struct ObjectError {
    message: String,
}

impl Upload<'_> {
    /// Sends the contents that the Hub's storage does not have yet.
    pub(crate) fn send_large(&self, files: &[&FileDigest<'_>]) -> Result<(), HubError> {
        let objects: Vec<Value> = files
            .iter()
            .map(|file| json!({"oid": file.sha256, "size": file.size}))
            .collect();
        let request = json!({
            "operation": "upload",
            "transfers": ["basic", "multipart"],
            "objects": objects,
            "hash_algo": "sha256",
            "ref": {"name": self.branch},
        });
        let path = format!("{}.git/info/lfs/objects/batch", self.id.repository());
        let batch: Batch = self
            .client
            .post_json(&path, LFS_TYPE, &request)
            .map_err(|error| self.failed(error))?;
        let objects: BTreeMap<&str, &Object> = batch
            .objects
            .iter()
            .map(|object| (object.oid.as_str(), object))
            .collect();
        for file in files {
            let Some(object) = objects.get(file.sha256.as_str()) else {
                return Err(self.malformed_answer(format!("`{}` is missing", file.name())));
            };
            if let Some(error) = &object.error {
                return Err(self.refused(file.name(), error.message.clone()));
            }
            if let Some(actions) = &object.actions {
                self.send_object(file, actions)?;
            }
        }
        Ok(())
    }

    fn send_object(&self, file: &FileDigest<'_>, actions: &Actions) -> Result<(), HubError> {
        let shown = format!("{}/{}", self.id, file.name());
        let progress = RefCell::new(observer::begin(Transfer {
            direction: TransferDirection::Upload,
            name: &shown,
            size: file.size,
            resumed_at: 0,
        }));
        if let Some(action) = &actions.upload {
            match part_size(action) {
                None => {
                    let headers = plain_headers(action);
                    self.put(&action.href, &headers, file, 0, file.size, &progress)?;
                }
                Some(Some(size)) => self.send_parts(file, action, size, &progress)?,
                Some(None) => {
                    return Err(self.malformed_answer("its chunk_size is invalid".to_owned()));
                }
            }
        }
        if let Some(action) = &actions.verify {
            let body = json!({"oid": file.sha256, "size": file.size}).to_string();
            let url = self.own_address(&action.href);
            self.client
                .post(&url, "application/json", body.as_bytes())
                .map_err(|error| self.failed(error))?;
        }
        progress.into_inner().finished();
        Ok(())
    }

    /// - size: of all parts but the last, in bytes
    fn send_parts(
        &self,
        file: &FileDigest<'_>,
        action: &Action,
        size: u64,
        progress: &RefCell<Box<dyn TransferProgress>>,
    ) -> Result<(), HubError> {
        let addresses: BTreeMap<u64, &str> = action
            .header
            .iter()
            .filter_map(|(number, address)| Some((number.parse().ok()?, address.as_str()?)))
            .collect();
        let count = file.size.div_ceil(size);
        if !addresses.keys().copied().eq(1..=count) {
            let problem = format!("{} addresses for {count} parts", addresses.len());
            return Err(self.malformed_answer(problem));
        }
        let mut parts = Vec::with_capacity(addresses.len());
        for (number, address) in addresses {
            let start = (number - 1) * size;
            let length = size.min(file.size - start);
            let tag = self.put(address, &[], file, start, length, progress)?;
            let Some(tag) = tag else {
                return Err(self.malformed_answer(format!("part {number} has no etag")));
            };
            parts.push(json!({"partNumber": number, "etag": tag}));
        }
        let body = json!({"oid": file.sha256, "parts": parts}).to_string();
        let url = self.own_address(&action.href);
        let answer = self.client.post_unsigned(&url, LFS_TYPE, body.as_bytes());
        // Read, so that a failure after the headers counts.
        answer
            .and_then(read_json::<Value>)
            .map_err(|error| self.failed(error))?;
        Ok(())
    }

    /// Sends a part to the storage server, which the token is not for, and returns its etag.
    fn put(
        &self,
        url: &str,
        headers: &[(String, String)],
        file: &FileDigest<'_>,
        start: u64,
        length: u64,
        progress: &RefCell<Box<dyn TransferProgress>>,
    ) -> Result<Option<String>, HubError> {
        let open = || {
            Ok(Counted {
                inner: part(file.file, start, length)?,
                position: start,
                progress,
            })
        };
        let answer = self.client.put(url, headers, length, open);
        let headers = answer.map_err(|error| self.failed(error))?;
        Ok(header(&headers, "ETag").map(str::to_owned))
    }

    /// The Hub uses its own name in addresses, even if it is reached by another.
    fn own_address(&self, address: &str) -> String {
        match address.strip_prefix(crate::hub::DEFAULT_ENDPOINT) {
            Some(path) => format!("{}{path}", self.client.endpoint()),
            None => address.to_owned(),
        }
    }

    fn refused(&self, name: &str, problem: String) -> HubError {
        HubError::Refused {
            endpoint: self.client.endpoint().to_owned(),
            name: name.to_owned(),
            problem,
        }
    }

    pub(crate) fn failed(&self, source: RequestError) -> HubError {
        HubError::Request {
            id: self.id.to_string(),
            endpoint: self.client.endpoint().to_owned(),
            advice: source.advice_to_writer(),
            source: Box::new(source),
        }
    }

    pub(crate) fn malformed_answer(&self, problem: String) -> HubError {
        HubError::Answer {
            id: self.id.to_string(),
            problem,
        }
    }
}

fn part(file: &UploadFile, start: u64, length: u64) -> io::Result<Box<dyn Read + '_>> {
    file.content.part(start, length)
}

/// The size of the parts of a multipart upload; `Some(None)` if it is invalid.
fn part_size(action: &Action) -> Option<Option<u64>> {
    let size = action.header.get("chunk_size")?;
    let number = match size {
        Value::String(digits) => digits.parse().ok(),
        size => size.as_u64(),
    };
    Some(number.filter(|&size| size > 0))
}

fn plain_headers(action: &Action) -> Vec<(String, String)> {
    let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
    action.header.iter().filter_map(text).collect()
}

/// Reports how much was read.
struct Counted<'a, R> {
    inner: R,
    position: u64,
    progress: &'a RefCell<Box<dyn TransferProgress>>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.position += count as u64;
        self.progress.borrow_mut().reached(self.position);
        Ok(count)
    }
}
