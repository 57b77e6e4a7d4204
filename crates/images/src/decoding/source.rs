//! The bytes of a file of which the header is read and the pixels are skipped.

use std::io::{self, ErrorKind, Read, Seek};

use super::malformed;
use crate::error::ImageError;

/// A file of a known format, read from where it stands.
pub(super) struct Source<R> {
    file: R,
    format: &'static str,
}

impl<R: Read + Seek> Source<R> {
    pub fn new(file: R, format: &'static str) -> Self {
        Self { file, format }
    }

    pub fn byte(&mut self) -> Result<u8, ImageError> {
        self.array().map(|[byte]| byte)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], ImageError> {
        let mut bytes = [0; N];
        let read = self.file.read_exact(&mut bytes);
        read.map_err(|source| failure(source, self.format))?;
        Ok(bytes)
    }

    /// As many bytes, of which a damaged length may promise more than there are.
    pub fn bytes(&mut self, count: usize) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        let limited = (&mut self.file).take(count as u64).read_to_end(&mut bytes);
        limited.map_err(|source| failure(source, self.format))?;
        match bytes.len() == count {
            true => Ok(bytes),
            false => Err(ImageError::Truncated {
                format: self.format,
            }),
        }
    }

    /// Goes on behind `count` bytes. Whether there are as many, the next read finds.
    pub fn skip(&mut self, count: u32) -> Result<(), ImageError> {
        let skipped = self.file.seek_relative(i64::from(count));
        skipped.map_err(|source| failure(source, self.format))
    }
}

/// What went wrong with reading, as far as the image is concerned.
pub(super) fn failure(source: io::Error, format: &'static str) -> ImageError {
    match source.kind() {
        ErrorKind::UnexpectedEof => ImageError::Truncated { format },
        _ => malformed(format, source),
    }
}
