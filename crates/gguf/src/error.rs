//! Why a GGUF file cannot be read or written.

use std::path::PathBuf;

use eigenmix_quant::Encoding;
use eigenmix_tensors::FileError;

/// Why a GGUF file could not be read or written.
///
/// Each message names the thing, what was expected, what was found and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// What happens to files of any kind: not there, truncated, a Git LFS pointer, not writable.
    #[error(transparent)]
    File(#[from] FileError),

    #[error("`{path}` does not begin with `GGUF` but with `{found}`; is it a GGUF file?")]
    NotGguf { path: PathBuf, found: String },

    #[error(
        "`{path}` has the format `{found}` of the time before GGUF, which is not read; take a GGUF file of the same model"
    )]
    BeforeGguf { path: PathBuf, found: String },

    #[error(
        "`{0}` is a big-endian GGUF file, which is not read; convert it with gguf-py: `gguf-convert-endian {0} little`"
    )]
    BigEndian(PathBuf),

    #[error(
        "`{path}` is a GGUF file of version {found}, of which 2 and 3 are read; {}",
        if *.found < 2 { "take or convert a newer file of the same model" } else { "a newer Eigenmix may read it" }
    )]
    Version { path: PathBuf, found: u32 },

    #[error("`{path}` is not a well-formed GGUF file; download or convert it again")]
    Header {
        path: PathBuf,
        #[source]
        problem: HeaderError,
    },

    #[error(
        "`{path}` says that it is part {part} of {count}, but its name does not end in `-{part:05}-of-{count:05}.gguf`, by which the other parts are found; give the parts their names back"
    )]
    PartName {
        path: PathBuf,
        part: u64,
        count: u64,
    },

    #[error(
        "`{path}` is missing: it is part {part} of {count} of a GGUF file that was split; put all parts into one directory"
    )]
    MissingPart {
        path: PathBuf,
        part: u64,
        count: u64,
    },

    #[error(
        "`{path}` does not belong to the other parts of the same name: {what} is {found}, expected {expected}; download the parts again"
    )]
    OtherPart {
        path: PathBuf,
        what: &'static str,
        expected: String,
        found: String,
    },

    #[error(
        "`{path}`: {what} is in another part of the same file as well; the parts do not belong together, download them again"
    )]
    InTwoParts { path: PathBuf, what: String },

    #[error("`{path}` has no metadata `{key}`; is it a complete GGUF file of a language model?")]
    MissingKey { path: PathBuf, key: String },

    #[error("`{path}`: metadata `{key}` is {found}, expected {expected}")]
    ValueType {
        path: PathBuf,
        key: String,
        expected: &'static str,
        found: String,
    },

    #[error("`{path}` has no tensor `{tensor}`")]
    NoSuchTensor { path: PathBuf, tensor: String },

    #[error(
        "`{path}`: tensor `{tensor}` is in {format}, which is not read; take a file quantised in another way ({} are read)",
        readable()
    )]
    UnreadFormat {
        path: PathBuf,
        tensor: String,
        format: String,
    },

    #[error("two {what} to be written to `{path}` are both named `{name}`")]
    OutputTwice {
        path: PathBuf,
        what: &'static str,
        name: String,
    },

    #[error(
        "tensor `{tensor}` to be written to `{path}` has shape {shape:?}, which does not fit its {found} bytes of {encoding}"
    )]
    OutputSize {
        path: PathBuf,
        tensor: String,
        shape: Vec<usize>,
        encoding: &'static str,
        found: usize,
    },
}

/// What is wrong in a GGUF header.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum HeaderError {
    #[error("the text at byte {0} is not UTF-8")]
    NotUtf8(u64),

    #[error("the metadata key at byte {0} is empty")]
    EmptyKey(u64),

    #[error("metadata `{0}` occurs twice")]
    KeyTwice(String),

    #[error("metadata `{key}` has the value type {found}; 0 to 12 are defined")]
    UnknownValueType { key: String, found: u32 },

    #[error("metadata `{key}` has arrays in arrays, more than {limit} deep")]
    TooDeep { key: String, limit: usize },

    #[error("metadata `{key}` has the byte {found} for a Boolean, expected 0 or 1")]
    Boolean { key: String, found: u8 },

    #[error("`general.alignment` is {0}, expected a power of two of at least 8")]
    Alignment(String),

    #[error("tensor `{0}` occurs twice")]
    TensorTwice(String),

    #[error("tensor `{tensor}` has {found} dimensions, expected at most 4")]
    Dimensions { tensor: String, found: u32 },

    #[error("tensor `{tensor}` has the dimensions {found:?}, more values than can be counted")]
    TooLarge { tensor: String, found: Vec<u64> },

    #[error(
        "tensor `{tensor}` has rows of {found} values, which are not a whole number of {encoding} blocks of {block}"
    )]
    RowLength {
        tensor: String,
        found: usize,
        encoding: &'static str,
        block: usize,
    },

    #[error("tensor `{tensor}` begins at {offset}, which is not a multiple of {alignment}")]
    Unaligned {
        tensor: String,
        offset: u64,
        alignment: u64,
    },

    #[error("tensors `{0}` and `{1}` overlap")]
    Overlap(String, String),
}

fn readable() -> String {
    let names: Vec<_> = Encoding::all().map(Encoding::name).collect();
    names.join(", ")
}
