//! Files to upload.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::checksum::sha256_of_file;

/// A file for a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadFile {
    /// Its name there.
    pub name: String,
    pub content: UploadContent,
}

/// Where a file's content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadContent {
    Bytes(Vec<u8>),
    Path(PathBuf),
}

impl UploadContent {
    /// How many bytes it has.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn size(&self) -> io::Result<u64> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
            Self::Path(path) => Ok(std::fs::metadata(path)?.len()),
        }
    }

    pub(crate) fn sha256(&self) -> io::Result<String> {
        match self {
            Self::Bytes(bytes) => Ok(format!("{:x}", Sha256::digest(bytes))),
            Self::Path(path) => sha256_of_file(path),
        }
    }

    /// The `length` bytes from `start`, or as many as there are.
    pub(crate) fn part(&self, start: u64, length: u64) -> io::Result<Box<dyn Read + '_>> {
        match self {
            Self::Bytes(bytes) => {
                let mut reader = Cursor::new(bytes.as_slice());
                reader.set_position(start);
                Ok(Box::new(reader.take(length)))
            }
            Self::Path(path) => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(start))?;
                Ok(Box::new(file.take(length)))
            }
        }
    }

    pub(crate) fn read(&self, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.part(0, most)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}
