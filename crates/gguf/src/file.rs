//! An open GGUF file: its metadata and its tensors.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use eigenmix_quant::Encoding;
use eigenmix_tensors::FileError;
use memmap2::Mmap;

use crate::cursor::Stopped;
use crate::error::GgufError;
use crate::header::{self, Header, PREFIX};
use crate::split;
use crate::value::GgufValue;

pub(crate) const MAGIC: &[u8] = b"GGUF";

/// The formats of llama.cpp before GGUF, as their bytes lie in the file.
const BEFORE_GGUF: [(&[u8], &str); 4] = [
    (b"lmgg", "ggml"),
    (b"fmgg", "ggmf"),
    (b"tjgg", "ggjt"),
    (b"algg", "ggla"),
];

const VERSIONS: [u32; 2] = [2, 3];

const LFS_POINTER: &[u8] = b"version https://git-lfs";

/// An open GGUF file, or the parts of one that was split, read as one.
///
/// Everything but the values of the tensors has been checked: the metadata is well formed, and every
/// tensor of a format that is read lies within the file.
pub struct GgufFile {
    path: PathBuf,
    pub(crate) metadata: BTreeMap<String, GgufValue>,
    tensors: BTreeMap<String, Held>,
    /// The whole of every part.
    files: Vec<Bytes>,
}

/// A tensor of an open file.
struct Held {
    shape: Vec<usize>,
    format: TensorFormat,
    data: Bytes,
}

/// How a tensor is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorFormat {
    Read(Encoding),
    /// A format that is not read, by its number.
    Other(u32),
}

impl std::fmt::Display for TensorFormat {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read(encoding) => formatter.write_str(encoding.name()),
            Self::Other(number) => match Encoding::name_of_other(*number) {
                Some(name) => formatter.write_str(name),
                None => write!(formatter, "the unknown format {number}"),
            },
        }
    }
}

/// A tensor, its data still encoded.
#[derive(Clone, Debug)]
pub struct GgufTensor {
    /// Row-major, as PyTorch has it: rows of `shape.last()` values, each a whole number of blocks.
    pub shape: Vec<usize>,
    pub encoding: Encoding,
    /// The rows, one after another; keeps the map of the file alive.
    pub data: Bytes,
}

impl GgufFile {
    /// Opens and maps a GGUF file of version 2 or 3, and checks everything but the values of its
    /// tensors. If it is a part of a file that was split (`NAME-00001-of-00003.gguf`), all of them
    /// are opened, whichever of them is named.
    ///
    /// # Errors
    /// If there is no such file, it is a Git LFS pointer, of another format, byte order or version,
    /// truncated or malformed, or a part is missing or does not belong to the others.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let part = Self::open_one(path)?;
        split::with_other_parts(part)
    }

    /// One file, whatever it says about other parts.
    pub(crate) fn open_one(path: &Path) -> Result<Self, GgufError> {
        let bytes = map(path)?;
        let found = bytes.len() as u64;
        let truncated = |expected| FileError::Truncated {
            path: path.to_owned(),
            expected,
            found,
        };
        let Some(prefix) = bytes.get(..PREFIX as usize) else {
            return Err(truncated(PREFIX).into());
        };
        check_prefix(path, prefix)?;
        let Header { metadata, tensors } =
            header::read(&bytes).map_err(|stopped| match stopped {
                Stopped::Truncated(expected) => truncated(expected).into(),
                Stopped::Malformed(problem) => GgufError::Header {
                    path: path.to_owned(),
                    problem,
                },
            })?;
        let tensors = tensors.into_iter().map(|(name, entry)| {
            let held = Held {
                // Fits: the header has been checked to end within the map.
                data: bytes.slice(entry.bytes.start as usize..entry.bytes.end as usize),
                shape: entry.shape,
                format: entry.format,
            };
            (name, held)
        });
        let tensors = tensors.collect();
        Ok(Self {
            path: path.to_owned(),
            metadata,
            tensors,
            files: vec![bytes],
        })
    }

    /// This part and another one of the same file. Its path is that of this one.
    pub(crate) fn joined_with(mut self, part: Self) -> Result<Self, GgufError> {
        for (name, held) in part.tensors {
            if self.tensors.contains_key(&name) {
                return Err(GgufError::InTwoParts {
                    path: part.path,
                    what: format!("tensor `{name}`"),
                });
            }
            self.tensors.insert(name, held);
        }
        self.files.extend(part.files);
        for (key, value) in part.metadata {
            match self.metadata.get(&key) {
                None => {
                    self.metadata.insert(key, value);
                }
                // The number of the part, above all.
                Some(_) if key.starts_with("split.") => {}
                Some(same) if *same == value => {}
                Some(_) => {
                    return Err(GgufError::InTwoParts {
                        path: part.path,
                        what: format!("metadata `{key}` with another value"),
                    });
                }
            }
        }
        Ok(self)
    }

    /// The file, or the first part of one that was split.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes of the file as they lie on disk; of one that was split, of every part.
    pub fn files(&self) -> &[Bytes] {
        &self.files
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The row-major shape of a tensor, of whatever format.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn shape(&self, name: &str) -> Result<&[usize], GgufError> {
        Ok(&self.held(name)?.shape)
    }

    /// How a tensor is stored, also if that is not read.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn format(&self, name: &str) -> Result<TensorFormat, GgufError> {
        Ok(self.held(name)?.format)
    }

    /// A tensor. Its data are a slice of the mapped file, not a copy.
    ///
    /// # Errors
    /// If there is none of that name, or it is in a format that is not read.
    pub fn tensor(&self, name: &str) -> Result<GgufTensor, GgufError> {
        let held = self.held(name)?;
        let TensorFormat::Read(encoding) = held.format else {
            return Err(GgufError::UnreadFormat {
                path: self.path.clone(),
                tensor: name.to_owned(),
                format: held.format.to_string(),
            });
        };
        Ok(GgufTensor {
            shape: held.shape.clone(),
            encoding,
            data: held.data.clone(),
        })
    }

    fn held(&self, name: &str) -> Result<&Held, GgufError> {
        let missing = || GgufError::NoSuchTensor {
            path: self.path.clone(),
            tensor: name.to_owned(),
        };
        self.tensors.get(name).ok_or_else(missing)
    }
}

fn map(path: &Path) -> Result<Bytes, GgufError> {
    let file = File::open(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => FileError::NotFound(path.to_owned()),
        _ => FileError::io("open", path)(source),
    })?;
    let found = file.metadata().map_err(FileError::io("read", path))?;
    if !found.is_file() {
        return Err(FileError::NotAFile(path.to_owned()).into());
    }
    if found.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the map is read-only and private to this value and the slices of it. If another process
    // shrinks the file meanwhile, reading fails with a signal; every program that maps files accepts
    // that, and our own output never shrinks a file but replaces it.
    let bytes = unsafe { Mmap::map(&file) }.map_err(FileError::io("map", path))?;
    Ok(Bytes::from_owner(bytes))
}

fn check_prefix(path: &Path, prefix: &[u8]) -> Result<(), GgufError> {
    let path = || path.to_owned();
    let (magic, version) = prefix.split_at(MAGIC.len());
    if LFS_POINTER.starts_with(prefix) {
        return Err(FileError::LfsPointer(path()).into());
    }
    if magic != MAGIC {
        if let Some((_, name)) = BEFORE_GGUF.iter().find(|(bytes, _)| *bytes == magic) {
            let found = (*name).to_owned();
            return Err(GgufError::BeforeGguf {
                path: path(),
                found,
            });
        }
        let found = magic.escape_ascii().to_string();
        return Err(GgufError::NotGguf {
            path: path(),
            found,
        });
    }
    let mut bytes = [0; 4];
    bytes.copy_from_slice(version);
    let found = u32::from_le_bytes(bytes);
    if VERSIONS.contains(&found) {
        return Ok(());
    }
    // Every version so far is small: what is large is a small one, the other way round.
    if found.trailing_zeros() >= 16 && found != 0 {
        return Err(GgufError::BigEndian(path()));
    }
    Err(GgufError::Version {
        path: path(),
        found,
    })
}
