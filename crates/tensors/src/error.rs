//! The errors of reading and writing files.

use std::io;
use std::path::{Path, PathBuf};

use safetensors::Dtype;

/// Why a file could not be read or written.
///
/// Each message names the thing, what was expected, what was found and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    #[error("cannot {action} `{path}`")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    #[error(
        "`{path}` is being written by {}; wait until it is done, or choose another output",
        if .holder.is_empty() { "another process" } else { .holder }
    )]
    InUse { path: PathBuf, holder: String },

    #[error("`{0}` does not exist")]
    NotFound(PathBuf),

    #[error("`{0}` is not a regular file")]
    NotAFile(PathBuf),

    #[error(
        "`{0}` is a Git LFS pointer, not the file it points to; run `git lfs pull` in its repository, or download the file itself"
    )]
    LfsPointer(PathBuf),

    #[error(
        "`{path}` is truncated: its header asks for {expected} bytes, the file has {found}; download or copy it again"
    )]
    Truncated {
        path: PathBuf,
        expected: u64,
        found: u64,
    },

    #[error(
        "`{path}` has {found} bytes, but its header accounts for {expected} of them; it is not a well-formed safetensors file"
    )]
    TrailingBytes {
        path: PathBuf,
        expected: u64,
        found: u64,
    },

    #[error(
        "`{path}` has a header of {found} bytes, more than the {limit} that safetensors allows; is it a safetensors file?"
    )]
    HeaderTooLarge {
        path: PathBuf,
        found: u64,
        limit: u64,
    },

    #[error("`{path}` has a malformed safetensors header; is it a safetensors file?")]
    MalformedHeader {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },

    #[error("`{path}` is not valid JSON of the expected form")]
    Json {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },

    #[error(
        "tensor `{tensor}` would hold {value}, which {dtype} cannot represent; write it as f32"
    )]
    TooLarge {
        tensor: String,
        value: f32,
        dtype: Dtype,
    },

    #[error(
        "tensor `{tensor}` cannot be written as {dtype}; expected f32, f16, bf16, f64 or an integer of at most 64 bits"
    )]
    NotWritable { tensor: String, dtype: Dtype },

    #[error(
        "`{path}`: tensor `{tensor}` is in another shard of the same set as well; the shards do not belong together, download them again"
    )]
    TensorTwice { path: PathBuf, tensor: String },

    #[error("`{path}` has no tensor `{tensor}`")]
    NoSuchTensor { path: PathBuf, tensor: String },

    #[error(
        "`{path}`: tensor `{tensor}` has dtype {found}, expected {expected}; convert it to such a type first"
    )]
    TensorDtype {
        path: PathBuf,
        tensor: String,
        expected: &'static str,
        found: Dtype,
    },

    #[error(
        "`{path}`: tensor `{tensor}` holds {value} at position {position}; its training diverged or the file is damaged"
    )]
    NotFinite {
        path: PathBuf,
        tensor: String,
        value: f32,
        position: usize,
    },

    #[error("`{path}`: tensor `{tensor}` has shape {found:?}, expected {expected}")]
    TensorShape {
        path: PathBuf,
        tensor: String,
        expected: String,
        found: Vec<usize>,
    },

    #[error("`{0}` exists already; choose another output, or replace it with --force")]
    AlreadyExists(PathBuf),

    #[error("`{0}` cannot be an output; name a new directory or file")]
    OutputName(PathBuf),

    #[error("two tensors to be written to `{path}` are both named `{tensor}`")]
    OutputTensorTwice { path: PathBuf, tensor: String },

    #[error(
        "tensor `{tensor}` to be written to `{path}` has shape {shape:?}, which does not fit its {found} bytes"
    )]
    OutputTensorSize {
        path: PathBuf,
        tensor: String,
        shape: Vec<usize>,
        found: usize,
    },
}

impl FileError {
    /// A [`FileError::Io`] about `path`; `action` completes "cannot … `path`".
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
